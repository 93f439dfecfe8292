"""COCO's numbers, computed by pycocotools itself: the twelve of boxes here.

It sees every id as a number from 1: an object of id 0 would count as not found, a detection that
found it as a false alarm, and numbers beside texts, which NumPy makes texts of, as unknown.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from ytrue.model.evaluating.columns import Detections, Truth

NUMBERS: Final = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
"""The order of `COCOeval.stats`."""
IOUS: Final = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
MAX_DETECTIONS: Final = 100
"""Of each class in each image pycocotools looks at so many detections, by falling score."""


@dataclass(frozen=True, eq=False)
class CocoScores:
    """What COCOeval found, nan where it is not defined: where there is no object to find.

    Attributes:
        numbers: in the order of `NUMBERS`, or of those of keypoints.
        precision: (10, 101, C) at each of `IOUS` and each recall 0, 0.01, ..., 1.
        recall: (10, C) the highest reached at each of `IOUS`.
    """

    numbers: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def coco_scores(truth: Truth, detections: Detections, image_ids: Sequence[int | str]) -> CocoScores:
    """Return COCO's numbers for boxes.

    Args:
        truth: the objects; crowds are regions in which detections count neither way.
        detections: held against them; beyond `MAX_DETECTIONS` of a class in an image not looked at.
        image_ids: of all images, as in the file: equal scores are ordered by them.
    """
    if truth.crowd.all():  # also where there is no object at all
        return CocoScores(
            np.full(len(NUMBERS), np.nan),
            np.full((len(IOUS), 101, truth.num_classes), np.nan),
            np.full((len(IOUS), truth.num_classes), np.nan),
        )
    number = in_order(image_ids)
    objects = records(truth, number, area=truth.area, iscrowd=truth.crowd.astype(int))
    box_area = detections.xywh[:, 2] * detections.xywh[:, 3]
    found = records(detections, number, area=box_area, score=detections.score)
    return compared(objects, found, images=len(image_ids), classes=truth.num_classes)


def compared(
    objects: list[dict[str, Any]],
    found: list[dict[str, Any]],
    *,
    images: int,
    classes: int,
    kind: Literal["bbox", "segm"] = "bbox",
    sigmas: NDArray[np.float64] | None = None,
) -> CocoScores:
    """Return what COCOeval says of two sides.

    Args:
        objects, found: as `records` makes them; for "segm" with a "segmentation" of pycocotools'
            compressed form.
        images, classes: how many there are.
        kind: what is compared: boxes or masks.
        sigmas: (K,) of the keypoints, which are compared instead.
    """
    wanted: Any = _Side(objects, images, classes)
    given: Any = _Side(found, images, classes)
    evaluator = COCOeval(wanted, given, kind if sigmas is None else "keypoints")
    if sigmas is not None:
        evaluator.params.kpt_oks_sigmas = sigmas
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress by printing
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return CocoScores(
        _defined(evaluator.stats),
        _defined(evaluator.eval["precision"][:, :, :, 0, -1]),  # any area, most detections
        _defined(evaluator.eval["recall"][:, :, 0, -1]),
    )


def over_limit(image: NDArray[np.int64], label: NDArray[np.int64], limit: int) -> int:
    """Return how many rows (D,) there are beyond `limit` of a class in an image."""
    _, counts = np.unique(image * (label.max(initial=0) + 1) + label, return_counts=True)
    return int(np.maximum(counts - limit, 0).sum())


class _Side:
    """One side of the comparison: what COCOeval asks of pycocotools' COCO, for all images."""

    def __init__(self, records: list[dict[str, Any]], images: int, classes: int) -> None:
        self._records, self._images, self._classes = records, images, classes

    def getImgIds(self) -> range:
        return range(1, self._images + 1)

    def getCatIds(self) -> range:
        return range(1, self._classes + 1)

    def getAnnIds(self, **_every: Any) -> range:
        return range(len(self._records))

    def loadAnns(self, _ids: range) -> list[dict[str, Any]]:
        return self._records

    def annToRLE(self, record: dict[str, Any]) -> Any:
        return record["segmentation"]


def in_order(ids: Sequence[int | str]) -> NDArray[np.int64]:
    """Return the number from 1 of each image (I,) in the order of the ids."""
    order = sorted(range(len(ids)), key=lambda i: (isinstance(ids[i], str), ids[i]))
    numbers = np.empty(len(ids), np.int64)
    numbers[order] = np.arange(1, len(ids) + 1)
    return numbers


def records(
    rows: Truth | Detections, number: NDArray[np.int64], **columns: NDArray[Any]
) -> list[dict[str, Any]]:
    """Return rows as pycocotools' annotations, with further columns, (G, ...) each."""
    names = ("id", "image_id", "category_id", "bbox", *columns)
    values = (
        range(1, len(rows.label) + 1),
        number[rows.image].tolist(),
        (rows.label + 1).tolist(),
        rows.xywh.tolist(),
        *(column.tolist() for column in columns.values()),
    )
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values with nan for the -1 that means: not defined."""
    return np.where(values == -1, np.nan, values)
