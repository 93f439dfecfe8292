"""Detected objects with keypoints: from COCO's keypoint results or scored `Annotations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.annotations import Annotations
from ytrue.model.evaluating.columns import Detections
from ytrue.model.evaluating.pointresults import check_finite
from ytrue.model.evaluating.results import (
    Border,
    RefusedError,
    Results,
    box_of,
    check_measure,
    checked,
    fields_of,
    is_finite,
    placed,
    records_of,
    score_of,
    short,
)

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset, Id

_FIELDS: Final = ("image_id", "category_id", "keypoints", "score")
_values: Final = itemgetter(*_FIELDS)
_EXPECTED: Final = "expected image_id, category_id, keypoints (x, y, visibility each) and score"
_EXAMPLE: Final = '[{"image_id": ..., "category_id": ..., "keypoints": [...], "score": ...}, ...]'
_Row = tuple[int, int, list[float], list[float] | None, float]  # image, label, xyv, xywh, score


@dataclass(frozen=True, eq=False)
class FoundKeypoints:
    """D detected objects with K keypoints.

    Attributes:
        detections: image, label and score; boxes around the keypoints, all of them, where results
            have none of their own.
        xyv: (D, K, 3) x, y, visibility, pixels.
    """

    detections: Detections
    xyv: NDArray[np.float64]


def keypoint_records(
    found: Mapping[Any, Annotations], class_ids: Sequence[Id]
) -> list[dict[str, Any]]:
    """Return detected objects as COCO keypoint results: plain JSON values, the ids of the file.

    Args:
        found: image id -> `Annotations` with scores and keypoints, in the pixels of the original
            image.
        class_ids: the classes' ids in the file, in label order.

    Raises:
        ValueError: annotations without scores or keypoints, or a label beyond the classes.

    Example:
        >>> person = Annotations([(0, 0, 9, 9)], [0], scores=[0.5], keypoints=[[(4, 2, 2)]])
        >>> keypoint_records({7: person}, [1])
        [{'image_id': 7, 'category_id': 1, 'keypoints': [2.0, 4.0, 2.0], 'score': 0.5}]
    """
    records: list[dict[str, Any]] = []
    for image_id, scored in found.items():
        if not len(scored):
            continue
        if scored.scores is None or scored.keypoints is None:
            missing = "scores" if scored.scores is None else "keypoints"
            raise ValueError(f"the detections of image {image_id!r} have no {missing}")
        if not 0 <= scored.labels.min() <= scored.labels.max() < len(class_ids):
            raise ValueError(
                f"image {image_id!r} has labels {scored.labels.min()} to {scored.labels.max()}, "
                f"expected 0 to {len(class_ids) - 1}"
            )
        flat = boxes.points_to_xy(scored.keypoints).reshape(len(scored), -1)
        columns = (scored.labels.tolist(), flat.tolist(), scored.scores.tolist())
        plain = image_id.item() if isinstance(image_id, np.generic) else image_id
        records += [
            {"image_id": plain, "category_id": class_ids[label], "keypoints": xyv, "score": score}
            for label, xyv, score in zip(*columns, strict=True)
        ]
    return records


def found_keypoints(dataset: Dataset, results: Results) -> FoundKeypoints:
    """Return detected objects with keypoints as columns.

    Args:
        dataset: what they were found in.
        results: a file of COCO keypoint results, a list of them, or a mapping of image id ->
            `Annotations` with scores and keypoints in the pixels of the original image. A record's
            "bbox", where it has one, gives its area, as pycocotools takes it.

    Raises:
        DataError: a file that is no such list, or records that do not belong to the dataset: the
            first is told, with the number of the others.
        ValueError: `results` is of another type, or annotations have no scores.
    """
    border, count = Border(dataset), dataset.num_keypoints
    if isinstance(results, Mapping):
        return _of_annotations(border, count, results)
    records, where = records_of(results, _EXAMPLE)
    rows = checked(records, lambda record: _row(border, count, record), where, _FIELDS[:2])
    image, label, flat, xywh, score = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    xyv = np.array(flat, np.float64).reshape(-1, count, 3)
    around = _extents(xyv)
    given = [row for row, box in enumerate(xywh) if box is not None]
    around[given] = np.array([xywh[row] for row in given], np.float64).reshape(-1, 4)
    detections = Detections(
        np.array(image, np.int64), np.array(label, np.int64), around, np.array(score, np.float64)
    )
    return FoundKeypoints(detections, xyv)


def _row(border: Border, count: int, record: Any) -> _Row:
    image_id, category_id, keypoints, score = fields_of(record, _FIELDS, _values, _EXPECTED)
    return (
        border.image(image_id),
        border.label(category_id),
        _keypoints_of(keypoints, count),
        box_of(record["bbox"]) if record.get("bbox") else None,
        score_of(score),
    )


def _keypoints_of(keypoints: Any, count: int) -> list[float]:
    flat = keypoints.tolist() if isinstance(keypoints, np.ndarray) else keypoints
    if not isinstance(flat, (list, tuple)) or len(flat) != 3 * count:
        said = f"{len(flat)} numbers" if isinstance(flat, (list, tuple)) else short(keypoints)
        raise RefusedError(
            f"the keypoints are {said}", f"expected x, y, visibility of {count} landmarks"
        )
    if not all(map(is_finite, flat)):
        odd = next(number for number in flat if not is_finite(number))
        raise RefusedError(f"{short(odd)} among the keypoints", "expected finite numbers")
    check_measure("keypoints", flat)
    return [float(number) for number in flat]


def _of_annotations(border: Border, count: int, found: Mapping[Any, Annotations]) -> FoundKeypoints:
    def check(scored: Annotations) -> None:
        border.check_labels(scored)
        check_finite(scored)
        if scored.keypoints is not None and not np.isfinite(scored.keypoints).all():
            raise RefusedError(
                "there are unlabelled keypoints that are not finite", "mend the keypoints"
            )
        if scored.keypoints is not None and len(scored) and scored.keypoints.shape[1] != count:
            raise RefusedError(
                f"they have {scored.keypoints.shape[1]} keypoints each",
                f"expected the dataset's {count}",
            )

    none = np.zeros(0, np.int64)
    parts: list[tuple[NDArray[Any], ...]] = [(none, none, np.zeros((0, count, 3)), np.zeros(0))]
    for position, scored in placed(border, found, check):
        if scored.keypoints is not None and len(scored):
            xyv = boxes.points_to_xy(scored.keypoints.astype(np.float64))
            image = np.full(len(scored), position)
            parts.append((image, scored.labels, xyv, np.asarray(scored.scores)))
    image, label, xyv, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    detections = Detections(image, label, _extents(xyv), score.astype(np.float64))
    return FoundKeypoints(detections, xyv)


def _extents(xyv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x_min, y_min, width and height (D, 4) of the keypoints, labelled or not.

    So pycocotools takes the area of a detection whose record has no box (`COCO.loadRes`).
    """
    if not xyv.size:
        return np.zeros((len(xyv), 4))
    low, high = xyv[..., :2].min(axis=1), xyv[..., :2].max(axis=1)
    return np.concatenate((low, high - low), axis=1)
