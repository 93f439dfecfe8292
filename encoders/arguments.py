"""Arguments that are one number or several, Python's or NumPy's alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ytrue.errors import as_number


def items_of(value: Any) -> list[Any] | None:
    """Return what a sequence or array holds, None of what is neither."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return None
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return None
    return list(value)


def numbers_of(value: Any) -> tuple[float, ...]:
    """Return one number, or several, as floats; nan for what is none."""
    items = items_of(value)
    return tuple(map(as_number, [value] if items is None else items))


def whole_numbers(name: str, value: Any, words: str) -> tuple[int, ...]:
    """Return one whole number of at least 1, or several, as ints.

    Args:
        name: of the argument.
        value: of the argument.
        words: say what was expected.

    Raises:
        ValueError: anything else, and no number at all.
    """
    numbers = numbers_of(value)
    if not numbers or not all(number.is_integer() and number >= 1 for number in numbers):
        raise ValueError(f"{name}={value!r}: expected {words}")
    return tuple(map(int, numbers))
