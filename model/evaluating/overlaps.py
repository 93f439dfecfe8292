"""Which detections overlap which objects: what VOC's AP and the confusion are counted from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.model.evaluating.columns import Detections, Truth

MIN_IOU: Final = 0.5
_CELLS: Final = 2**21
"""Overlaps of one image are computed for so many pairs at a time."""

_Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """P pairs of a detection and an object of the same image with an IoU of at least `MIN_IOU`.

    Detections come by falling score (equal scores: as they were given), the objects of each by
    falling IoU (equal: as in the file). Crowds are objects here.
    """

    detection: NDArray[np.intp]  # (P,)
    object: NDArray[np.intp]  # (P,)


def by_score(detections: Detections) -> NDArray[np.intp]:
    """Return the (D,) rows by falling score; equal scores as they were given."""
    return np.argsort(-detections.score, kind="stable")


def overlaps(truth: Truth, detections: Detections) -> Overlaps:
    """Return every pair with an IoU of at least `MIN_IOU`; IoU in float64."""
    found, wanted = detections.boxes, truth.boxes
    parts: list[tuple[_Rows, _Rows, NDArray[np.float64]]] = []
    for rows, objects in _blocks(detections.image, truth.image):
        iou = boxes.iou(found[rows][:, None], wanted[objects][None])  # (rows, objects)
        d, g = np.nonzero(iou >= MIN_IOU)
        parts.append((rows[d], objects[g], iou[d, g]))
    if not parts:
        return Overlaps(np.zeros(0, np.intp), np.zeros(0, np.intp))
    detection, object_, iou_ = (np.concatenate(column) for column in zip(*parts, strict=True))
    rank = np.empty(len(detections), np.intp)
    rank[by_score(detections)] = np.arange(len(detections))
    order = np.lexsort((object_, -iou_, rank[detection]))
    return Overlaps(detection[order], object_[order])


def in_crowds(truth: Truth, detections: Detections) -> NDArray[np.bool_]:
    """Return which detections (D,) lie by at least half of their area in a crowd of their class."""
    inside = np.zeros(len(detections), bool)
    crowds = np.flatnonzero(truth.crowd)
    found, regions = detections.boxes, truth.boxes
    for rows, places in _blocks(detections.image, truth.image[crowds]):
        objects = crowds[places]
        shared = boxes.intersection(found[rows][:, None], regions[objects][None])
        own = boxes.area(found[rows])[:, None]
        same = detections.label[rows][:, None] == truth.label[objects][None]
        inside[rows] |= (same & (shared > 0) & (shared >= MIN_IOU * own)).any(axis=1)
    return inside


def _blocks(
    image_a: NDArray[np.int64], image_b: NDArray[np.int64]
) -> Iterator[tuple[_Rows, _Rows]]:
    """Yield rows of a and of b that are of one image, at most `_CELLS` pairs at a time."""
    order_a, order_b = (np.argsort(image, kind="stable") for image in (image_a, image_b))
    images, firsts, counts = np.unique(image_a[order_a], return_index=True, return_counts=True)
    lows = np.searchsorted(image_b[order_b], images, side="left")
    highs = np.searchsorted(image_b[order_b], images, side="right")
    columns = (column.tolist() for column in (firsts, firsts + counts, lows, highs))
    for first, end, low, high in zip(*columns, strict=True):
        step = max(1, _CELLS // max(1, high - low))
        for start in range(first, end if high > low else first, step):
            yield order_a[start : min(start + step, end)], order_b[low:high]
