"""What stands in a file's fields: ids and numbers, however they are written."""

from __future__ import annotations

from typing import Any

from ytrue.datasets.dataset import Id


def as_id(value: Any) -> Id:
    """Return an id: a text or a whole number.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        raise TypeError(f"{short(value)} is no id")
    if isinstance(value, float):
        if not value.is_integer():
            raise TypeError(f"{value!r} is no id")
        return int(value)
    return value


def known_id(value: Any) -> Id | None:
    """Return an id, None where it is none."""
    try:
        return as_id(value)
    except TypeError:
        return None


def as_number(value: Any) -> float:
    """Return a number, also one that is written as text; nan where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return float("nan")
    if isinstance(value, str) and "_" in value:  # Python's own way to group digits
        return float("nan")
    try:
        return float(value)
    except ValueError:
        return float("nan")
    except OverflowError:  # an integer of more than 308 digits
        return float("inf") if int(value) > 0 else float("-inf")


def is_number(value: Any) -> bool:
    """Return whether a value is a number, NaN and infinity among them, or a text of one."""
    if isinstance(value, str):
        return value.strip().lower() == "nan" or as_number(value) == as_number(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def short(value: Any) -> str:
    """Return what a value reads as, not too long for a message."""
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."
