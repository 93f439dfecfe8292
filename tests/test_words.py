"""What is printed for people: whole numbers in any width, and foreign text that nothing obeys."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from ytrue.viz.numbers import escape as escaped
from ytrue.viz.numbers import numbers_table, shortened, tell
from ytrue.words import counted, printable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain :smile: [bold] \\ 'name'", "plain :smile: [bold] \\ 'name'"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\ttab\r", "two\\nlines\\ttab\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("left‮right", "left\\u202eright"),
        ("half \ud83d", "half \\ud83d"),
        ("汽车 é ✓", "汽车 é ✓"),
    ],
)
def test_no_terminal_obeys_what_is_printed(text, said):
    assert printable(text) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 boxes"), (1, "1 box"), (2, "2 boxes"), (1200, "1,200 boxes")]
)
def test_counts_have_their_nouns(number, said):
    assert counted(number, "box", "boxes") == said
    assert counted(1, "image") + counted(2, "image") == "1 image2 images"


def printed(what, width, *, by=None):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    by(console, what) if by else console.print(what)
    return console.file.getvalue()


NAMES = ["car", "a very long name of a class that nobody would print whole " * 2, "汽车" * 40, ""]
NUMBERS = ["12,345,678", "0.123", "99.99%", "1", "23,456", "-", "0.0001"]


@pytest.mark.parametrize("width", [40, 57, 80, 100, 200])
def test_tables_fit_with_their_numbers_whole(width):
    table = numbers_table("class", "objects", "lost", "forced", "best IoU p10", "median", "p90",
                          "of a wrong class")  # fmt: skip
    for name in NAMES:
        table.add_row(name, *NUMBERS)
    lines = printed(table, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    said = " ".join(lines).split()
    for number in NUMBERS:
        assert said.count(number) == len(NAMES)
    for word in ("wrong", "forced", "objects"):
        assert word in said
    if width == 200:
        assert "best IoU p10" in lines[0]
        assert len(lines) == 1 + len(NAMES)


@pytest.mark.parametrize(("width", "whole"), [(23, True), (22, False)])
def test_a_table_gives_up_its_gaps_before_it_is_parted(width, whole):
    # 9 of names, 6 and 6 of numbers, with gaps of one column 23
    table = numbers_table("name", "a", "b")
    table.add_row("ninechars", "123456", "654321")
    lines = printed(table, width).splitlines()
    assert len(lines) == (2 if whole else 5)
    assert all(number in " ".join(lines) for number in ("123456", "654321"))


def test_long_names_keep_both_ends():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 6) == "abc…ij"
    assert cell_len(shortened("汽车" * 9, 10)) <= 10


@pytest.mark.parametrize(
    "name",
    ["[bold]", "[/]", ":smile:", "back\\", "\\[a]", "[link=http://x]y[/link]", "\x1b]0;t\x07"],
)
def test_names_are_printed_as_they_are(name):
    table = numbers_table("class", "objects")
    table.add_row(name, "1")
    assert printable(name) in printed(table, 80)
    line = printed(f"[bold]{escaped(name)}[/]: [green]{escaped(name)}[/]", 80, by=tell)
    assert line.strip() == f"{printable(name)}: {printable(name)}"


def test_paths_are_not_broken():
    path = "/" + "long/" * 30 + "file.json"
    assert path in printed(f"found in {escaped(path)}", 40, by=tell)
