"""Detected points from a file, its records or scored `Annotations`, and the writer of the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.annotations import Annotations
from ytrue.model.evaluating.points import By, FoundPoints, landmark_names
from ytrue.model.evaluating.results import (
    Border,
    RefusedError,
    Results,
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

_KEY_FIELD: Final[dict[By, str]] = {"landmark": "landmark", "class": "category_id"}
_Row = tuple[int, int, list[float], float]  # image, key, xy, score


def point_records(
    found: Mapping[Any, Annotations],
    keypoint_names: Sequence[str] = (),
    *,
    class_ids: Sequence[Id] | None = None,
) -> list[dict[str, Any]]:
    """Return detected points as records: plain JSON values, with the ids and names of the file.

    One record for each labelled keypoint (visibility above 0): {"image_id", "landmark", "point":
    [x, y], "score"}. The landmark is its name, or its number from 0 where there are no names or
    several are alike.

    Args:
        found: image id -> `Annotations` with scores and keypoints, in the pixels of the original
            image.
        keypoint_names: of the landmarks, as `Dataset.keypoint_names`.
        class_ids: the classes' ids in the file, in label order: the records then have the
            "category_id" of the point's object in the landmark's place.

    Raises:
        ValueError: annotations without scores, or points beyond the names or classes.

    Example:
        >>> person = Annotations([(0, 0, 9, 9)], [0], scores=[0.5], keypoints=[[(4, 2, 2)]])
        >>> point_records({7: person}, ["nose"])
        [{'image_id': 7, 'landmark': 'nose', 'point': [2.0, 4.0], 'score': 0.5}]
    """
    distinct = len(set(keypoint_names)) == len(keypoint_names) > 0
    words: Sequence[Any] | None = keypoint_names if distinct else None
    field, words = ("landmark", words) if class_ids is None else ("category_id", class_ids)
    records: list[dict[str, Any]] = []
    for image_id, scored in found.items():
        if scored.scores is None:
            raise ValueError(f"the detections of image {image_id!r} have no scores")
        row, landmark = _labelled(scored)
        key = landmark if class_ids is None else scored.labels[row]
        if words is not None and key.size and not 0 <= key.min() <= key.max() < len(words):
            raise ValueError(
                f"image {image_id!r} has points of {field} number {key.min()} to {key.max()}, "
                f"expected 0 to {len(words) - 1}"
            )
        xy = boxes.points_to_xy(_yx(scored, row, landmark))
        columns = (key.tolist(), xy.tolist(), scored.scores[row].tolist())
        plain = image_id.item() if isinstance(image_id, np.generic) else image_id
        records += [
            {
                "image_id": plain,
                field: number if words is None else words[number],
                "point": point,
                "score": score,
            }
            for number, point, score in zip(*columns, strict=True)
        ]
    return records


def found_points(dataset: Dataset, results: Results, *, by: By) -> FoundPoints:
    """Return detected points as columns.

    Args:
        dataset: what they were found in.
        results: a file of the records that `point_records` makes, a list of them, or a mapping of
            image id -> `Annotations` with scores and keypoints in the pixels of the original image.
        by: whether they are told apart by landmark, or by their object's class: records then have
            a "category_id" in the landmark's place.

    Raises:
        DataError: a file that is no such list, or points that do not belong to the dataset: the
            first is told, with the number of the others.
        ValueError: `results` is of another type, or annotations have no scores.
    """
    border = Border(dataset)
    if isinstance(results, Mapping):
        return _of_annotations(border, dataset, results, by)
    fields = ("image_id", _KEY_FIELD[by], "point", "score")
    records, where = records_of(results, f'[{{"image_id": ..., "{fields[1]}": ..., "point": '
                                         '[x, y], "score": ...}, ...]')  # fmt: skip
    key_of = border.label if by == "class" else _Landmarks(dataset).number
    values = itemgetter(*fields)
    expected = f"expected image_id, {fields[1]}, point (x, y) and score"

    def row(record: Any) -> _Row:
        image_id, key, point, score = fields_of(record, fields, values, expected)
        return border.image(image_id), key_of(key), _point_of(point), score_of(score)

    rows = checked(records, row, where, fields[:2])
    image, key, xy, score = zip(*rows, strict=True) if rows else ((), (), (), ())
    return FoundPoints(
        np.array(image, np.int64),
        np.array(key, np.int64),
        boxes.points_from_xy(np.array(xy, np.float64).reshape(-1, 2)),
        np.array(score, np.float64),
    )


class _Landmarks:
    """From the names in the file to numbers."""

    def __init__(self, dataset: Dataset) -> None:
        self._source = dataset.source
        self._names = landmark_names(dataset)
        self._number_of = {name: number for number, name in enumerate(self._names)}

    def number(self, landmark: Any) -> int:
        """Return the number of a landmark that is named, or numbered from 0."""
        count = len(self._names)
        if isinstance(landmark, int) and not isinstance(landmark, bool) and 0 <= landmark < count:
            return landmark
        if not isinstance(landmark, str) or landmark not in self._number_of:
            some = ", ".join(self._names[:8]) + (", ..." if count > 8 else "")
            raise RefusedError(
                f"no landmark {short(landmark)} in {self._source}",
                f"expected a name or a number from 0 of its {count} landmarks ({some or 'none'})",
            )
        if self._names.count(landmark) > 1:
            raise RefusedError(
                f"several landmarks are named {landmark!r}", "give their number, from 0"
            )
        return self._number_of[landmark]


def _point_of(point: Any) -> list[float]:
    two = point.tolist() if isinstance(point, np.ndarray) else point
    if not isinstance(two, (list, tuple)) or len(two) != 2:
        raise RefusedError(f"the point is {short(point)}", "expected x, y")
    if not all(map(is_finite, two)):
        raise RefusedError(f"the point {short(two)} is not two finite numbers", "mend the point")
    check_measure("point", two)
    return [float(number) for number in two]


def _of_annotations(
    border: Border, dataset: Dataset, found: Mapping[Any, Annotations], by: By
) -> FoundPoints:
    check = _check(dataset.num_keypoints if by == "landmark" else None, border.check_labels)
    no_rows, no_points = np.zeros(0, np.int64), np.zeros((0, 2))
    parts: list[tuple[NDArray[Any], ...]] = [(no_rows, no_rows, no_points, np.zeros(0))]
    for position, scored in placed(border, found, check):
        row, landmark = _labelled(scored)
        key = landmark if by == "landmark" else scored.labels[row]
        score = np.asarray(scored.scores)[row]
        parts.append((np.full(len(row), position), key, _yx(scored, row, landmark), score))
    image, key, yx, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    return FoundPoints(image, key.astype(np.int64), yx.astype(np.float64), score.astype(np.float64))


def _check(
    landmarks: int | None, check_labels: Callable[[Annotations], None]
) -> Callable[[Annotations], None]:
    """Return what refuses points that are not of `landmarks` or, with None, of the classes."""

    def check(scored: Annotations) -> None:
        check_finite(scored)
        _, landmark = _labelled(scored)
        if landmarks is None:
            check_labels(scored)
        elif landmark.max(initial=-1) >= landmarks:
            raise RefusedError(
                f"landmark {landmark.max()} is none of the dataset's {landmarks}",
                "number the landmarks from 0, in the dataset's order",
            )

    return check


def check_finite(scored: Annotations) -> None:
    """Refuse detections without keypoints, or with a score or labelled point that is not finite."""
    if len(scored) and scored.keypoints is None:
        raise RefusedError("they have no keypoints", "give Annotations(..., keypoints=...)")
    row, landmark = _labelled(scored)
    bad = np.flatnonzero(~np.isfinite(_yx(scored, row, landmark)).all(axis=1))
    if bad.size:
        first = int(row[bad[0]]), int(landmark[bad[0]])
        raise RefusedError(
            f"keypoint {first[1]} of detection {first[0]} is not two finite numbers",
            "mend the point, or give it a visibility of 0",
        )
    bad = np.flatnonzero(~np.isfinite(np.asarray(scored.scores)))
    if bad.size:
        score = np.asarray(scored.scores)[bad[0]]
        raise RefusedError(
            f"the score {score} of detection {bad[0]} is no finite number", "mend the score"
        )


def _labelled(scored: Annotations) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return detection and landmark of every labelled keypoint."""
    if scored.keypoints is None:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    row, landmark = np.nonzero(scored.keypoints[..., 2] > 0)
    return row, landmark


def _yx(
    scored: Annotations, row: NDArray[np.intp], landmark: NDArray[np.intp]
) -> NDArray[np.float32]:
    if scored.keypoints is None:
        return np.zeros((0, 2), np.float32)
    return scored.keypoints[row, landmark, :2]
