"""What a results file holds: boxes, points, or objects with keypoints; and each as `Annotations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ytrue import boxes
from ytrue.annotations import Annotations
from ytrue.model.evaluating.keypointresults import found_keypoints
from ytrue.model.evaluating.pointresults import found_points
from ytrue.model.evaluating.points import By, FoundPoints
from ytrue.model.evaluating.results import Results, annotations_of, rows_by_image
from ytrue.model.evaluating.segm import found_masks, rle_of

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset

Kind = Literal["box", "keypoints", "pose", "mask"]

FINDS: Final[Mapping[str, Kind]] = {
    "box": "box",
    "fcos": "box",
    "centernet": "box",
    "yolo": "box",
    "polygon": "mask",
    "mask": "mask",
    "keypoints": "keypoints",
    "pose": "pose",
}
"""Name of a task -> what its detectors find."""


def kind_of_results(records: Sequence[Any]) -> tuple[Kind, By]:
    """Return what results are of, by their first record, and what points are told apart by."""
    first = records[0] if records and isinstance(records[0], Mapping) else {}
    if "point" in first:
        return "keypoints", "landmark" if "landmark" in first else "class"
    kind: Kind = "pose" if "keypoints" in first else "mask" if "segmentation" in first else "box"
    return kind, "landmark"


def annotations_by_image(
    dataset: Dataset, results: Results, kind: Kind, *, by: By = "landmark"
) -> list[Annotations]:
    """Return what was found in each image, in the dataset's order, by falling score.

    Raises:
        DataError: results that do not belong to the dataset.
    """
    if kind == "box":
        return annotations_of(dataset, results)
    if kind == "mask":
        masks = found_masks(dataset, results)
        found_ = masks.detections
        return [
            Annotations(
                found_.boxes[k], found_.label[k], scores=found_.score[k],
                masks=[rle_of(masks.masks[m]) for m in k],
            )
            for k in rows_by_image(found_.image, found_.score, len(dataset))
        ]  # fmt: skip
    if kind == "keypoints":
        return _points(dataset, found_points(dataset, results, by=by), by)
    found = found_keypoints(dataset, results)
    boxes_, yxv = found.detections, boxes.points_from_xy(found.xyv)
    return [
        Annotations(boxes_.boxes[k], boxes_.label[k], scores=boxes_.score[k], keypoints=yxv[k])
        for k in rows_by_image(boxes_.image, boxes_.score, len(dataset))
    ]


def _points(dataset: Dataset, found: FoundPoints, by: By) -> list[Annotations]:
    count = dataset.num_keypoints if by == "landmark" else 1
    annotations = []
    for k in rows_by_image(found.image, found.score, len(dataset)):
        landmark = found.key[k] if by == "landmark" else np.zeros(len(k), np.int64)
        keypoints = np.zeros((len(k), count, 3))
        keypoints[np.arange(len(k)), landmark] = np.column_stack(
            (found.yx[k], np.full(len(k), 2.0))
        )
        annotations.append(
            Annotations(
                np.tile(found.yx[k], 2), found.key[k], scores=found.score[k], keypoints=keypoints
            )
        )
    return annotations
