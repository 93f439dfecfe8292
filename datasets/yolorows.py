"""Rows of a YOLO label file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.imagefiles import EXTENSIONS
from ytrue.datasets.textfiles import read_text
from ytrue.errors import DataError

_MOST_CLASSES = 2**31


@dataclass
class Rows:
    """What a text file holds.

    Attributes:
        good: rows of a class number and at least 4 numbers, each with its number among the rows.
        bad: lines that are no such rows, each with its line number.
        error: why the file cannot be read at all.
    """

    good: list[tuple[int, NDArray[np.float64]]] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    error: DataError | None = None

    @property
    def readable(self) -> bool:
        """Whether it could be read."""
        return self.error is None

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return self.readable and not self.good and not self.bad

    @property
    def is_list(self) -> bool:
        """Whether its lines are names of image files."""
        names = [line.lower() for _, line in self.bad]
        return bool(names) and not self.good and all(n.endswith(EXTENSIONS) for n in names)

    def report(self, file: Path, builder: DatasetBuilder) -> None:
        """List the lines that are no rows."""
        if self.error:
            builder.problem("annotation-invalid", str(self.error), "dropped", file=str(file))
        for number, line in self.bad:
            detail = f"line {number}: {line[:60]!r}, expected a class number and at least 4 numbers"
            builder.problem("annotation-invalid", detail, "dropped", file=str(file))


def read_rows(file: Path) -> Rows:
    """Return the rows of a text file, whatever it is."""
    try:
        text = read_text(file, may_be_empty=True)
    except DataError as error:
        return Rows(error=error)
    found = Rows()
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _row(line)
            if row is None:
                found.bad.append((number, line.strip()))
            else:
                found.good.append((len(found.good) + len(found.bad) + 1, row))
    return found


def _row(line: str) -> NDArray[np.float64] | None:
    try:
        row = np.array(line.split(), np.float64)
    except ValueError:
        return None
    if len(row) < 5 or not 0 <= row[0] < _MOST_CLASSES or row[0] != int(row[0]):
        return None
    return row


def looks_like_pose(row: NDArray[np.float64], *, certain: bool = True) -> bool:
    """Return whether a row can be read as a box and keypoints with visibilities 0, 1 and 2.

    Args:
        row: class and numbers.
        certain: and as nothing else, as an outline has no vertex at 2 and an odd number of numbers.
    """
    points = row[5:]
    if not len(points) or len(points) % 3 or not np.isin(points[2::3], (0, 1, 2)).all():
        return False
    return not certain or len(row) % 2 == 0 or bool((points[2::3] == 2).any())
