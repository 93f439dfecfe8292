"""What the library says about bad data: one exception and one kind of finding."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Hashable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Literal

Action = Literal["kept", "clipped", "dropped", "ignored"]
"""What became of the thing a `Problem` is about; "ignored" means: made a crowd (ignore) region."""


class DataError(ValueError):
    """Data that cannot be used, said in one line: where it is, what is wrong, what to do."""

    def __init__(self, what: str, *, where: object = "", do: str = "") -> None:
        self.what, self.where, self.do = what, str(where), do
        message = f"{where}: {what}" if str(where) else what
        super().__init__(f"{message}; {do}" if do else message)


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError, naming the argument, if its value is none of those allowed."""
    if not isinstance(value, Hashable) or value not in allowed:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(allowed)}")


def check_count(name: str, value: object) -> int:
    """Return an argument as an int; ValueError, naming it, if it is no whole number above 0."""
    return _whole(name, value, 1, "above 0")


def check_whole(name: str, value: object, least: int) -> int:
    """Return an argument as an int; ValueError, naming it, if it is none of at least `least`."""
    return _whole(name, value, least, f"of at least {least}")


def _whole(name: str, value: object, least: int, words: str) -> int:
    number = as_number(value)
    if number.is_integer() and number >= least:
        return int(number)
    raise ValueError(f"{name}={value!r}: expected a whole number {words}")


def check_number(name: str, value: object) -> float:
    """Return an argument as a float; ValueError, naming it, if it is no finite number."""
    number = as_number(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r}: expected a finite number")
    return number


def as_number(value: object) -> float:
    """Return a number, Python's or NumPy's, as a float; nan where it is none."""
    numpy = sys.modules.get("numpy")  # not imported for messages: --help does without
    if numpy is not None and isinstance(value, numpy.ndarray) and value.ndim == 0:
        value = value.item()
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def check_from_zero(name: str, value: float) -> None:
    """Raise ValueError, naming the argument, if its value is below 0 or not finite."""
    if not 0 <= as_number(value) < math.inf:
        raise ValueError(f"{name}={value}: expected a finite number from 0")


@dataclass(frozen=True, slots=True)
class Problem:
    """One oddity found in a dataset, and what was done about it.

    Attributes:
        kind: a short stable name, such as "box-inverted" (the full list: docs/problems.md).
        detail: what was found, with the values.
        action: "kept", "clipped", "dropped" or "ignored".
        file: the annotation or image file it stands in.
        image_id: the image's id in that file, None where the finding is about the file.
        annotation_id: the annotation's id in that file, None where it is about the image.
    """

    kind: str
    detail: str
    action: Action
    file: str = ""
    image_id: int | str | None = None
    annotation_id: int | str | None = None

    @property
    def where(self) -> str:
        """File, image and annotation in words, as far as they are known."""
        parts = [self.file] if self.file else []
        if self.image_id is not None:
            parts.append(f"image {self.image_id}")
        if self.annotation_id is not None:
            parts.append(f"annotation {self.annotation_id}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        """Return the fields and `where` as plain values."""
        return asdict(self) | {"where": self.where}

    def __str__(self) -> str:
        return f"{self.where}: {self.detail} [{self.kind}, {self.action}]"
