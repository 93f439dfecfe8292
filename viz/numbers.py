"""Text and tables of numbers on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.markup import escape as escape_markup
from rich.text import Text

from ytrue.words import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

_GAPS: Final = (2, 1)
"""Columns between columns, the second where the table fits only so."""

_LEAST_NAME: Final = 16
"""Columns that a name keeps before numbers move below."""


def escape(text: object) -> str:
    """Return foreign text for `tell`: neither the terminal nor the markup obeys it."""
    return escape_markup(printable(text))


def tell(console: Console, markup: str) -> None:
    """Print a line of rich's markup, wrapped between words; no path or number is broken."""
    console.print(
        Text.from_markup(markup, emoji=False), overflow="ignore", crop=False, highlight=False
    )


class Table:
    """A column of names on the left, numbers to the right of it, no wider than the console.

    Numbers stay whole: first the head's words go below each other, then names are shortened in
    their middle, then the last columns are printed below the first, beside the names again.
    """

    def __init__(self, *heads: str) -> None:
        self.heads = [printable_lines(head) for head in heads]
        self.rows: list[tuple[list[str], str]] = []

    def add_row(self, *cells: object, style: str = "") -> None:
        """Add a row; cells that are left out are empty."""
        row = [printable(cell) for cell in cells]
        self.rows.append((row + [""] * (len(self.heads) - len(row)), style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = options.max_width
        gap = next((gap for gap in _GAPS if len(self._groups(width, gap)) == 1), _GAPS[0])
        for number, columns in enumerate(self._groups(width, gap)):
            if number:
                yield Text("")
            yield from self._lines(columns, width, gap)

    def _width(self, column: int) -> int:
        """Return the least width: of the cells, and of the head's longest word."""
        words = [word for line in self.heads[column] for word in line.split()]
        cells = [row[column] for row, _ in self.rows]
        return max(map(cell_len, (*words, *cells, "")))

    def _groups(self, width: int, gap: int) -> list[list[int]]:
        """Return the columns of each part of the table, names first in all of them."""
        names = min(self._width(0), _LEAST_NAME)
        groups, used = [[0]], names
        for column in range(1, len(self.heads)):
            wide = gap + self._width(column)
            if used + wide > width and len(groups[-1]) > 1:
                groups.append([0])
                used = names
            groups[-1].append(column)
            used += wide
        return groups

    def _lines(self, columns: Sequence[int], width: int, gap: int) -> Iterator[Text]:
        least = [self._width(column) for column in columns]
        heads = [self.heads[column] for column in columns]
        whole = [max(wide, *map(cell_len, head)) for wide, head in zip(least, heads, strict=True)]
        gaps = gap * (len(columns) - 1)
        fits = min(whole[0], 2 * _LEAST_NAME) + sum(whole[1:]) + gaps <= width
        wide = whole if fits else least
        wide[0] = max(min(wide[0], width - sum(wide[1:]) - gaps), min(wide[0], _LEAST_NAME))
        heads = [_wrapped(head, room) for head, room in zip(heads, wide, strict=True)]
        height = max(map(len, heads))
        for line in range(height):
            cells = [([""] * (height - len(head)) + head)[line] for head in heads]
            yield _line(cells, wide, gap, "bold")
        for row, style in self.rows:
            yield _line([row[column] for column in columns], wide, gap, style)


def numbers_table(*names: str) -> Table:
    """Return an empty table: a column of names on the left, numbers to the right of it."""
    return Table(*names)


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text, each printable."""
    return [printable(line) for line in text.split("\n")]


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many columns, its middle left out where it is longer."""
    if cell_len(text) <= width:
        return text
    head = _cut(text, (width - 1) - (width - 1) // 2)
    tail = _cut(text[::-1], (width - 1) // 2)[::-1]
    return f"{head}…{tail}"


def _cut(text: str, width: int) -> str:
    end = 0
    while end < len(text) and cell_len(text[: end + 1]) <= width:
        end += 1
    return text[:end]


def _wrapped(head: Sequence[str], width: int) -> list[str]:
    """Return the lines of a head, broken between words where they are wider than so many columns."""
    lines: list[str] = []
    for line in head:
        room = ""
        for word in line.split(" "):
            if room and cell_len(f"{room} {word}") > width:
                lines.append(room)
                room = word
            else:
                room = f"{room} {word}" if room else word
        lines.append(room)
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], gap: int, style: str) -> Text:
    name = shortened(cells[0], widths[0])
    parts = [name + " " * (widths[0] - cell_len(name))]
    parts += [
        " " * (width - cell_len(cell)) + cell
        for cell, width in zip(cells[1:], widths[1:], strict=True)
    ]
    text = (" " * gap).join(parts).rstrip()
    return Text(text, style, no_wrap=True, overflow="ignore")
