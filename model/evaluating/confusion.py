"""What became of each object at one score threshold: found, taken for another class, missed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.model.evaluating.columns import Detections, Truth
from ytrue.model.evaluating.overlaps import Overlaps, in_crowds

SIZES: Final = ("small", "medium", "large")
BOUNDS: Final = (32.0**2, 96.0**2)
"""Areas in pixels from which an object is medium, and large."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Objects of one size against detections, as counts.

    Attributes:
        size: "small", "medium" or "large": objects by their area, false alarms by their box's.
        matrix: (C + 1, C + 1); row: the object's class, last: no object (a false alarm); column:
            the class it was found as, last: not found.
    """

    size: str
    matrix: NDArray[np.int64] = field(repr=False)

    @property
    def objects(self) -> int:
        """Number of objects."""
        return int(self.matrix[:-1].sum())

    @property
    def found(self) -> int:
        """Objects found with the right class."""
        return int(np.trace(self.matrix[:-1, :-1]))

    @property
    def wrong_class(self) -> int:
        """Objects found only with a wrong class."""
        return int(self.matrix[:-1, :-1].sum()) - self.found

    @property
    def missed(self) -> int:
        """Objects that no detection was left for."""
        return int(self.matrix[:-1, -1].sum())

    @property
    def false_alarms(self) -> int:
        """Detections that no object was left for."""
        return int(self.matrix[-1].sum())

    def mistaken(self, most: int | None = None) -> list[tuple[int, int, int]]:
        """Return (label, label it was found as, times) of objects of a wrong class, by times."""
        wrong = self.matrix[:-1, :-1].copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        cells = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
        return sorted(cells, key=lambda cell: -cell[2])[:most]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; of the matrix the cells that are not 0."""
        last = len(self.matrix) - 1
        rows, columns = np.nonzero(self.matrix)
        return {
            "objects": self.objects,
            "found": self.found,
            "wrong_class": self.wrong_class,
            "missed": self.missed,
            "false_alarms": self.false_alarms,
            "cells": [
                {
                    "label": None if row == last else row,
                    "found_as": None if column == last else column,
                    "count": int(self.matrix[row, column]),
                }
                for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            ],
        }


def confusion(truth: Truth, fates: Fates) -> tuple[Confusion, ...]:
    """Return what became of small, medium and large objects, as counts."""
    objects, found_as, alarms = fates.objects, fates.found_as, fates.alarms
    last, label = truth.num_classes, truth.label[fates.objects]
    size = np.concatenate((truth.area[objects], alarms.xywh[:, 2] * alarms.xywh[:, 3]))
    rows = np.concatenate((label, np.full(len(alarms), last)))
    columns = np.concatenate((found_as, alarms.label))
    matrices = np.zeros((len(SIZES), last + 1, last + 1), np.int64)
    np.add.at(matrices, (np.searchsorted(BOUNDS, size, side="right"), rows, columns), 1)
    return tuple(Confusion(name, matrix) for name, matrix in zip(SIZES, matrices, strict=True))


@dataclass(frozen=True, eq=False)
class Fates:
    """What became of each object, and the detections that found none; see `fates_of`.

    Attributes:
        objects: (O,) rows of the objects, crowds left out.
        found_as: (O,) the label each was found as, C where it was missed.
        alarms: detections left over.
    """

    objects: NDArray[np.intp]
    found_as: NDArray[np.int64]
    alarms: Detections


def fates_of(
    truth: Truth, detections: Detections, overlaps: Overlaps, score_threshold: float
) -> Fates:
    """Return what became of each object.

    Detections of at least `score_threshold` take objects at IoU 0.5, one for one: by falling
    score each takes the free object of its class that it overlaps most; then, again by falling
    score, those left over take what is left of other classes. So an object counts as of a wrong
    class only where nothing found it as what it is. Crowds are no objects here, and a detection
    left over that lies by half in a crowd of its class is no false alarm.
    """
    found_by = _taken(truth, detections, overlaps, score_threshold)
    objects = np.flatnonzero(~truth.crowd)
    found_as = np.append(detections.label, truth.num_classes)[found_by[objects]]
    left = detections.score >= score_threshold
    left[found_by[found_by >= 0]] = False
    alarms = detections.select(left)
    return Fates(objects, found_as, alarms.select(~in_crowds(truth, alarms)))


def f1_of_images(truth: Truth, fates: Fates, num_images: int) -> NDArray[np.float64]:
    """Return 2 TP / (2 TP + FP + FN) of each image (I,), nan where there is nothing to count."""
    image, label = truth.image[fates.objects], truth.label[fates.objects]
    right = np.bincount(image[fates.found_as == label], minlength=num_images)
    objects = np.bincount(image, minlength=num_images)
    # An object found as another class is a miss and a false alarm.
    wrong = image[(fates.found_as != label) & (fates.found_as < truth.num_classes)]
    alarms = np.bincount(fates.alarms.image, minlength=num_images)
    alarms = alarms + np.bincount(wrong, minlength=num_images)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * right / (right + objects + alarms), np.float64)


def _taken(
    truth: Truth, detections: Detections, overlaps: Overlaps, score_threshold: float
) -> NDArray[np.intp]:
    """Return the detection that takes each object (G,), -1 where none does."""
    usable = ~truth.crowd[overlaps.object] & (
        detections.score[overlaps.detection] >= score_threshold
    )
    same = truth.label[overlaps.object] == detections.label[overlaps.detection]
    found_by = np.full(len(truth.label), -1, np.intp)
    busy: set[int] = set()
    for which in (same, ~same):
        rows = np.flatnonzero(usable & which)
        pairs = zip(overlaps.detection[rows].tolist(), overlaps.object[rows].tolist(), strict=True)
        take(pairs, found_by, busy)
    return found_by


def take(pairs: Iterable[tuple[int, int]], found_by: NDArray[np.intp], busy: set[int]) -> None:
    """Let each detection take the first free object that the pairs name, one for one.

    Args:
        pairs: (detection, object), in the order in which they are tried.
        found_by: (G,) the detection that took each object, -1 where it is free; written to.
        busy: detections that have taken an object; added to.
    """
    for detection, object_ in pairs:
        if detection not in busy and found_by[object_] < 0:
            found_by[object_] = detection
            busy.add(detection)
