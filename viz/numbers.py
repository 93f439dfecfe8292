"""Tables of numbers on a terminal."""

from __future__ import annotations

from rich.table import Table


def numbers_table(*names: str) -> Table:
    """Return an empty table: a column of names on the left, numbers to the right of it."""
    table = Table(*names, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    return table
