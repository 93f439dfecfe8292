"""Points found against points annotated: one for one, nearest first, within a radius."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.model.evaluating.confusion import take

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset

By = Literal["landmark", "class"]
Of = Literal["image", "object"]

_PAIRS: Final = 2**20
"""Distances are computed for about so many pairs at a time."""

_Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class TruePoints:
    """T labelled points of a dataset, those of crowds included, by object, then landmark.

    Attributes:
        image: (T,) position of the image in the dataset.
        key: (T,) what a detection must be told as: the landmark, or the object's label.
        yx: (T, 2) pixels.
        radius: (T,) pixels within which a detection finds the point.
        crowd: (T,) points of crowds, which nobody is asked for.
    """

    image: NDArray[np.int64]
    key: NDArray[np.int64]
    yx: NDArray[np.float64]
    radius: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, eq=False)
class FoundPoints:
    """D points that were detected, in the order they were given.

    Attributes:
        image: (D,) position of the image in the dataset.
        key: (D,) as in `TruePoints`.
        yx: (D, 2) pixels.
        score: (D,)
    """

    image: NDArray[np.int64]
    key: NDArray[np.int64]
    yx: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, eq=False)
class PointFates:
    """What became of every point and every detection; see `point_fates`.

    Attributes:
        found_by: (T,) the detection that found each point, -1 where none did or it is a crowd's.
        error: (T,) distance to that detection in pixels, nan without.
        nearest: (T,) distance to the nearest detection of the point's image and key with at least
            the score threshold, taken or not; nan where there is none.
        hit: (D,) detections that found a point.
        excused: (D,) detections that found none, but lie within the radius of a crowd's point.
    """

    found_by: NDArray[np.intp]
    error: NDArray[np.float64]
    nearest: NDArray[np.float64]
    hit: NDArray[np.bool_]
    excused: NDArray[np.bool_]


def landmark_names(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the K landmarks; their numbers where the file does not name all."""
    count = dataset.num_keypoints
    named = len(dataset.keypoint_names) == count
    return dataset.keypoint_names if named else tuple(map(str, range(count)))


def true_points(dataset: Dataset, *, radius: float, of: Of, by: By) -> TruePoints:
    """Return a dataset's labelled points: visibility above 0 and both coordinates finite.

    Args:
        dataset: whose objects have keypoints.
        radius: as a share of the longer side of the image, or of the object's box.
        of: "image" or "object".
        by: whether detections tell the landmark or the object's class.
    """
    objects, images = dataset.objects, dataset.images
    keypoints = objects.keypoints
    if keypoints is None:
        keypoints = np.zeros((len(objects), 0, 3))
    labelled = (keypoints[..., 2] > 0) & np.isfinite(keypoints[..., :2]).all(axis=-1)
    row, landmark = np.nonzero(labelled)
    image = objects.image[row]
    if of == "image":
        side = np.maximum(images.height, images.width)[image].astype(np.float64)
    else:
        side = objects.xywh[row, 2:].max(axis=1, initial=0)
    return TruePoints(
        image=image,
        key=landmark if by == "landmark" else objects.label[row].astype(np.int64),
        yx=boxes.points_from_xy(keypoints[row, landmark, :2]),
        radius=radius * side,
        crowd=objects.crowd[row],
    )


def by_falling_score(found: FoundPoints) -> _Rows:
    """Return the (D,) rows by falling score; equal scores as they were given."""
    return np.argsort(-found.score, kind="stable")


def point_fates(truth: TruePoints, found: FoundPoints, score_threshold: float) -> PointFates:
    """Return what became of every point and detection.

    By falling score (equal scores: as given), each detection takes the nearest free point of its
    image and key that lies within that point's radius, border included (equally near: the first);
    points of crowds are never taken. What those of low score find changes nothing for those above,
    so this one matching serves every score threshold.

    Distances are sqrt(dy * dy + dx * dx) in float64.
    """
    nearest = np.full(len(truth), np.inf)
    parts = []
    counted = found.score >= score_threshold
    for d, t in _pairs(truth, found):
        step = found.yx[d] - truth.yx[t]
        with np.errstate(over="ignore"):  # beyond float64 is beyond every radius
            distance = np.sqrt(step[:, 0] * step[:, 0] + step[:, 1] * step[:, 1])
        np.minimum.at(nearest, t[counted[d]], distance[counted[d]])
        near = distance <= truth.radius[t]
        parts.append((d[near], t[near], distance[near]))
    none = (np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0))
    detection, point, distance = map(np.concatenate, zip(none, *parts, strict=True))
    crowd = truth.crowd[point]
    found_by, error = _matched(
        found, detection[~crowd], point[~crowd], distance[~crowd], len(truth)
    )
    hit = np.zeros(len(found), np.bool_)
    hit[found_by[found_by >= 0]] = True
    excused = np.zeros(len(found), np.bool_)
    excused[detection[crowd]] = True
    nearest[np.isinf(nearest)] = np.nan
    return PointFates(found_by, error, nearest, hit, excused & ~hit)


def _pairs(truth: TruePoints, found: FoundPoints) -> Iterator[tuple[_Rows, _Rows]]:
    """Yield detection and point of every pair of one image and key, about `_PAIRS` at a time."""
    keys = 1 + max(truth.key.max(initial=0), found.key.max(initial=0))
    group = truth.image * keys + truth.key
    order = np.argsort(group, kind="stable")
    wanted = found.image * keys + found.key
    first = np.searchsorted(group[order], wanted, side="left")
    count = np.searchsorted(group[order], wanted, side="right") - first
    rows = np.flatnonzero(count)
    block = np.cumsum(count[rows]) // _PAIRS
    for some in np.split(rows, np.flatnonzero(np.diff(block)) + 1):
        start = np.cumsum(count[some]) - count[some]
        place = np.arange(count[some].sum()) + np.repeat(first[some] - start, count[some])
        yield np.repeat(some, count[some]), order[place]


def _matched(
    found: FoundPoints, detection: _Rows, point: _Rows, distance: NDArray[np.float64], points: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the detection that takes each point (T,), -1 for none, and its distance, nan."""
    rank = np.empty(len(found), np.intp)
    rank[by_falling_score(found)] = np.arange(len(found))
    order = np.lexsort((point, distance, rank[detection]))
    found_by = np.full(points, -1, np.intp)
    take(zip(detection[order].tolist(), point[order].tolist(), strict=True), found_by, set())
    error = np.full(points, np.nan)
    taken = found_by[point] == detection
    error[point[taken]] = distance[taken]
    return found_by, error
