"""`evaluate_points`, `evaluate_keypoints`: detected points, and objects with keypoints.

Nothing here needs TensorFlow or Keras: detections come from a file, or as values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError, check_choice
from ytrue.model.evaluating.coco import IOUS, over_limit
from ytrue.model.evaluating.defined import mean, median, or_none, ratio
from ytrue.model.evaluating.keypointresults import found_keypoints, keypoint_records
from ytrue.model.evaluating.oks import (
    MAX_DETECTIONS,
    NUMBERS,
    oks_scores,
    sigmas_of,
    true_keypoints,
)
from ytrue.model.evaluating.pointresults import found_points, point_records
from ytrue.model.evaluating.points import (
    By,
    FoundPoints,
    Of,
    PointFates,
    TruePoints,
    by_falling_score,
    landmark_names,
    point_fates,
    true_points,
)
from ytrue.model.evaluating.results import Results
from ytrue.model.evaluating.voc import Curve, area_under, curve

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset, Id

__all__ = [
    "KeypointEvaluation",
    "KeypointScores",
    "PointEvaluation",
    "PointScores",
    "evaluate_keypoints",
    "evaluate_points",
    "keypoint_records",
    "point_records",
]

RADIUS: Final = 0.05
SCORE_THRESHOLD: Final = 0.3
"""From this score detections count in all numbers but AP, unless told otherwise."""


@dataclass(frozen=True)
class PointScores:
    """One landmark (or class), or all. A number that is not defined is None.

    All but `ap` count detections of at least the score threshold.

    Attributes:
        name: of the landmark, or class; "all".
        points: labelled points to find, those of crowds aside.
        detections: detections that count.
        excused: further detections, which found nothing but lie on a crowd's point.
        hits: points found, each by one detection.
        pck: hits / points, the share of correct keypoints (the recall).
        precision: hits / detections.
        f1: 2 hits / (points + detections).
        mean_error, median_error: distance of the hits, pixels.
        nearest_error: mean distance of *all* points to the nearest detection of their landmark in
            their image, in pixels, whether that is within the radius or not; points without any
            are left out.
        without: number of those: points in whose image their landmark was not detected.
        ap: area under precision over recall, at any score; of all: the mean of the landmarks.
    """

    name: str
    points: int
    detections: int
    excused: int
    hits: int
    pck: float | None
    precision: float | None
    f1: float | None
    mean_error: float | None
    median_error: float | None
    nearest_error: float | None
    without: int
    ap: float | None


@dataclass(frozen=True, eq=False)
class PointEvaluation:
    """Detected points compared with a dataset's. Print it, draw it (`ytrue.viz`), or take numbers.

    Attributes:
        source: the dataset's file or folder.
        num_images: images of the dataset, with or without points.
        num_points: its labelled points, those of crowds aside.
        num_crowd_points: those of crowds.
        num_detections: detected points of any score.
        radius, of: a hit lies within `radius` times the longer side of the image, or of the
            object's box.
        by: "landmark" or "class": what detections are told apart by.
        score_threshold: the least score of detections in all numbers but AP.
        overall: of all points; counts and errors pooled, AP the mean over `rows`.
        rows: one entry for each landmark (or class), in the dataset's order.
        image_f1: (I,) of each image 2 hits / (points + detections), pooled over landmarks; nan
            where there is neither.
        curves: (recall, precision) of each of `rows` after each detection by falling score, of
            any score; empty where there is no point to find.
        point_row: (num_points,) position in `rows` of each point, by object, then landmark.
        point_error: (num_points,) its distance to the detection that found it, pixels, nan where
            none did.
        point_nearest: (num_points,) its distance to the nearest detection, as in
            `PointScores.nearest_error`, nan where there is none.
    """

    source: str
    num_images: int
    num_points: int
    num_crowd_points: int
    num_detections: int
    radius: float
    of: Of
    by: By
    score_threshold: float
    overall: PointScores
    rows: tuple[PointScores, ...] = field(repr=False)
    image_f1: NDArray[np.float64] = field(repr=False)
    curves: tuple[tuple[Curve, Curve], ...] = field(repr=False)
    point_row: NDArray[np.int64] = field(repr=False)
    point_error: NDArray[np.float64] = field(repr=False)
    point_nearest: NDArray[np.float64] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: the numbers of all and of each landmark, without the curves."""
        return {
            "source": self.source,
            "images": self.num_images,
            "points": self.num_points,
            "crowd_points": self.num_crowd_points,
            "detections": self.num_detections,
            "radius": self.radius,
            "of": self.of,
            "by": self.by,
            "score_threshold": self.score_threshold,
            "overall": asdict(self.overall),
            "landmarks" if self.by == "landmark" else "classes": [asdict(r) for r in self.rows],
        }


def evaluate_points(
    dataset: Dataset,
    results: Results,
    *,
    radius: float = RADIUS,
    of: Of = "image",
    by: By = "landmark",
    score_threshold: float = SCORE_THRESHOLD,
) -> PointEvaluation:
    """Compare detected points with the labelled keypoints of a dataset, objects aside.

    By falling score, each detection takes the nearest free point of its landmark in its image
    that lies within the radius. A detection that takes none is a false alarm, unless it lies
    within the radius of a point of a crowd, which counts neither way.

    Args:
        dataset: what `ytrue.datasets.load` returned. Its points are the keypoints of visibility 1
            and 2; objects that loading dropped are not asked for.
        results: a file of the records that `point_records` makes, a list of them, or a mapping of
            image id -> `Annotations` with scores, of which each labelled keypoint is a detection,
            in the pixels of the original image. Images without detections may be left out.
        radius: as a share of the longer side of what `of` names.
        of: "image", or "object": the box of the object that the point belongs to.
        by: "landmark": a detection must be told as the landmark. "class": as the class of the
            object, whichever landmark (an encoder of `classes="object"`).
        score_threshold: the least score of detections in all numbers but AP, which takes all.

    Raises:
        DataError: the dataset has no keypoints, or results are unreadable or do not belong to it;
            the message names the file, the record and its ids, and how many others there are.
        ValueError: an argument out of range, or annotations lack scores.

    Reference:
        PCK: Yang & Ramanan 2013, "Articulated human detection with flexible mixtures of parts".

    Example:
        >>> import tempfile
        >>> from ytrue.datasets import load, write_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset = load(write_shapes(folder, num_images=2, image_size=(96, 128)))
        >>> x, y, _ = dataset.objects.keypoints[0, 1].tolist()
        >>> found = {"image_id": 1, "landmark": "top", "point": [x, y + 2], "score": 0.9}
        >>> round(evaluate_points(dataset, [found]).rows[1].mean_error, 6)
        2.0
    """
    check_choice("of", of, ("image", "object"))
    check_choice("by", by, ("landmark", "class"))
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"radius={radius}, expected a number above 0")
    if not np.isfinite(score_threshold):
        raise ValueError(f"score_threshold={score_threshold}, expected a finite number")
    _check_keypoints(dataset)
    truth = true_points(dataset, radius=radius, of=of, by=by)
    found = found_points(dataset, results, by=by)
    fates = point_fates(truth, found, score_threshold)
    compared = _Compared(truth, found, fates, score_threshold)
    names = landmark_names(dataset) if by == "landmark" else dataset.classes
    rows = [compared.row(name, key) for key, name in enumerate(names)]
    asked = ~truth.crowd
    return PointEvaluation(
        source=str(dataset.source),
        num_images=len(dataset),
        num_points=int(asked.sum()),
        num_crowd_points=int(truth.crowd.sum()),
        num_detections=len(found),
        radius=radius,
        of=of,
        by=by,
        score_threshold=score_threshold,
        overall=compared.overall([scores.ap for scores, _ in rows]),
        rows=tuple(scores for scores, _ in rows),
        image_f1=compared.image_f1(len(dataset)),
        curves=tuple(curve_ for _, curve_ in rows),
        point_row=truth.key[asked],
        point_error=compared.error[asked],
        point_nearest=fates.nearest[asked],
    )


def _check_keypoints(dataset: Dataset) -> None:
    if not dataset.num_keypoints:
        raise DataError(
            "there are no keypoints to compare with", where=dataset.source,
            do="name a dataset whose objects have keypoints",
        )  # fmt: skip


class _Compared:
    """Counts and errors of one comparison, of one landmark or of all."""

    def __init__(
        self, truth: TruePoints, found: FoundPoints, fates: PointFates, score_threshold: float
    ) -> None:
        self._truth, self._found, self._fates = truth, found, fates
        self._asked = ~truth.crowd
        self._above = found.score >= score_threshold
        self._counted = self._above & ~fates.excused
        self._order = by_falling_score(found)
        # Without those that only a detection below the threshold found.
        hit = np.append(self._above, False)[fates.found_by]
        self.error = np.where(hit, fates.error, np.nan)

    def row(self, name: str, key: int) -> tuple[PointScores, tuple[Curve, Curve]]:
        """Return one landmark's scores and its curve."""
        points, detections = self._truth.key == key, self._found.key == key
        wanted = int((points & self._asked).sum())
        ordered = self._order[(detections & ~self._fates.excused)[self._order]]
        none = np.zeros(0)
        curve_ = curve(self._fates.hit[ordered], wanted) if wanted else (none, none)
        ap = area_under(*curve_) if wanted else None
        return self._scores(name, points, detections, ap), curve_

    def overall(self, aps: Sequence[float | None]) -> PointScores:
        """Return the scores of all points, with the mean of these AP."""
        ap = mean(np.array(aps, np.float64))  # of None it makes nan
        every = np.ones(len(self._truth), np.bool_), np.ones(len(self._found), np.bool_)
        return self._scores("all", *every, ap)

    def _scores(
        self, name: str, points: NDArray[np.bool_], detections: NDArray[np.bool_], ap: float | None
    ) -> PointScores:
        asked = points & self._asked
        error, nearest = self.error[asked], self._fates.nearest[asked]
        wanted, hits = int(asked.sum()), int((~np.isnan(error)).sum())
        counted = int((detections & self._counted).sum())
        return PointScores(
            name=name,
            points=wanted,
            detections=counted,
            excused=int((detections & self._above).sum()) - counted,
            hits=hits,
            pck=ratio(hits, wanted),
            precision=ratio(hits, counted),
            f1=ratio(2 * hits, wanted + counted),
            mean_error=mean(error),
            median_error=median(error),
            nearest_error=mean(nearest),
            without=int(np.isnan(nearest).sum()),
            ap=ap,
        )

    def image_f1(self, num_images: int) -> NDArray[np.float64]:
        """Return each image's F1 (I,), nan where there is nothing to count."""
        hits, points, detections = (
            np.bincount(image, minlength=num_images)
            for image in (
                self._truth.image[~np.isnan(self.error)],
                self._truth.image[self._asked],
                self._found.image[self._counted],
            )
        )
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * hits / (points + detections), np.float64)


@dataclass(frozen=True)
class KeypointScores:
    """One class. An average is None where there is no object to find.

    Attributes:
        name, class_id: as in the dataset.
        objects: objects with labelled keypoints, crowds aside.
        detections: detections, of any score.
        ap, ap50: COCO's average precision over OKS 0.5 to 0.95, and at 0.5.
        ar: COCO's average recall over OKS 0.5 to 0.95.
    """

    name: str
    class_id: Id
    objects: int
    detections: int
    ap: float | None
    ap50: float | None
    ar: float | None


@dataclass(frozen=True, eq=False)
class KeypointEvaluation:
    """Detected objects with keypoints compared with a dataset, as COCO does.

    An average that is not defined, because there is no object to find, is None.

    Attributes:
        source: the dataset's file or folder.
        num_images: images of the dataset, with or without detections.
        num_objects: its objects with labelled keypoints, crowds aside.
        num_ignored: its other objects, in which detections count neither way.
        num_detections: detections of any score.
        coco: COCO's ten numbers by name: AP, AP50, AP75, APm, APl, AR, AR50, AR75, ARm, ARl.
        by_class: one entry for each class, in label order.
        sigmas: of each landmark, as they were used.
        objects_over_limit: objects that no detector could find in these numbers, which take 20
            detections of each class in an image.
        detections_over_limit: detections that are left out therefore.
        precision: (10, 101, C) at OKS 0.5, 0.55, ..., 0.95 and recall 0, 0.01, ..., 1 of each
            class; nan where not defined.
    """

    source: str
    num_images: int
    num_objects: int
    num_ignored: int
    num_detections: int
    coco: Mapping[str, float | None]
    by_class: tuple[KeypointScores, ...] = field(repr=False)
    sigmas: tuple[float, ...] = field(repr=False)
    objects_over_limit: int
    detections_over_limit: int
    precision: NDArray[np.float64] = field(repr=False)

    @property
    def ap(self) -> float | None:
        """COCO's AP: the mean over classes and over OKS 0.5 to 0.95."""
        return self.coco["AP"]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: numbers and classes, without the curves."""
        return {
            "source": self.source,
            "images": self.num_images,
            "objects": self.num_objects,
            "ignored": self.num_ignored,
            "detections": self.num_detections,
            "coco": dict(self.coco),
            "sigmas": list(self.sigmas),
            "objects_over_limit": self.objects_over_limit,
            "detections_over_limit": self.detections_over_limit,
            "classes": [
                {
                    "name": row.name,
                    "id": row.class_id,
                    "objects": row.objects,
                    "detections": row.detections,
                    "AP": row.ap,
                    "AP50": row.ap50,
                    "AR": row.ar,
                }
                for row in self.by_class
            ],
        }


def evaluate_keypoints(
    dataset: Dataset, results: Results, *, sigmas: Sequence[float] | None = None
) -> KeypointEvaluation:
    """Compare detected objects with keypoints with a dataset, in COCO's numbers by pycocotools.

    Args:
        dataset: what `ytrue.datasets.load` returned; objects that loading dropped are not asked
            for.
        results: a file of COCO keypoint results, a list of them, or a mapping of image id ->
            `Annotations` with scores, labels and (N, K, 3) keypoints in the pixels of the original
            image. Every keypoint is a place, whatever its visibility, as pycocotools has it.
            Images without detections may be left out.
        sigmas: of each of the K landmarks, how exactly it can be told. Without: COCO's where there
            are 17 landmarks, else 0.05 for each.

    Raises:
        DataError: the dataset has no keypoints, or results are unreadable or do not belong to it;
            the message names the file, the record and its ids, and how many others there are.
        ValueError: `results` is of another type, annotations lack scores, or `sigmas` are not K
            positive numbers.

    Reference:
        https://cocodataset.org/#keypoints-eval

    Example:
        >>> import tempfile
        >>> from ytrue.datasets import load, write_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset = load(write_shapes(folder, num_images=1, image_size=(96, 128)))
        >>> points = dataset[0].annotations
        >>> found = {1: points.replace(scores=[0.9] * len(points))}
        >>> round(evaluate_keypoints(dataset, found).coco["AP50"], 3)
        1.0
    """
    _check_keypoints(dataset)
    used = sigmas_of(dataset.num_keypoints, sigmas)
    wanted = true_keypoints(dataset)
    found = found_keypoints(dataset, results)
    scores = oks_scores(wanted, found, dataset.images.ids, used)
    truth, detections, asked = wanted.truth, found.detections, ~wanted.ignored
    objects = truth.count(asked)
    detected = np.bincount(detections.label, minlength=truth.num_classes)
    return KeypointEvaluation(
        source=str(dataset.source),
        num_images=len(dataset),
        num_objects=int(asked.sum()),
        num_ignored=int(wanted.ignored.sum()),
        num_detections=len(detections),
        coco={name: or_none(n) for name, n in zip(NUMBERS, scores.numbers, strict=True)},
        by_class=tuple(
            KeypointScores(
                name=name,
                class_id=dataset.class_ids[k],
                objects=int(objects[k]),
                detections=int(detected[k]),
                ap=mean(scores.precision[:, :, k]),
                ap50=mean(scores.precision[IOUS.index(0.5), :, k]),
                ar=mean(scores.recall[:, k]),
            )
            for k, name in enumerate(dataset.classes)
        ),
        sigmas=tuple(used.tolist()),
        objects_over_limit=over_limit(truth.image[asked], truth.label[asked], MAX_DETECTIONS),
        detections_over_limit=over_limit(detections.image, detections.label, MAX_DETECTIONS),
        precision=scores.precision,
    )
