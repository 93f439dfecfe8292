"""`evaluate`: detections against a dataset, in COCO's and VOC's numbers, and what became of what.

Nothing here needs TensorFlow or Keras: detections come from a file, or as values.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.model.evaluating.coco import (
    IOUS,
    MAX_DETECTIONS,
    NUMBERS,
    CocoScores,
    coco_scores,
    over_limit,
)
from ytrue.model.evaluating.columns import Detections, Truth, truth_of
from ytrue.model.evaluating.confusion import Confusion, confusion, f1_of_images, fates_of
from ytrue.model.evaluating.defined import mean, or_none
from ytrue.model.evaluating.overlaps import MIN_IOU, overlaps
from ytrue.model.evaluating.results import Results, detections_of, to_records
from ytrue.model.evaluating.voc import VocScores, voc_scores

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset, Id

__all__ = ["ClassScores", "Confusion", "Evaluation", "evaluate", "to_records"]

SCORE_THRESHOLD: Final = 0.3
"""From this score detections take part in the confusion, unless told otherwise."""


@dataclass(frozen=True)
class ClassScores:
    """One class. An average is None where there is no object to find.

    Attributes:
        name, class_id: as in the dataset.
        objects: number of objects, crowds aside.
        crowds: number of crowd regions.
        detections: number of detections, of any score.
        ap, ap50: COCO's average precision over IoU 0.5 to 0.95, and at 0.5.
        ar100: COCO's average recall with 100 detections.
        voc_ap50, voc_ap50_11: VOC's average precision at IoU 0.5: area under the curve, and the
            11 points of VOC2007.
    """

    name: str
    class_id: Id
    objects: int
    crowds: int
    detections: int
    ap: float | None
    ap50: float | None
    ar100: float | None
    voc_ap50: float | None
    voc_ap50_11: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Detections compared with a dataset. Print it, draw it (`ytrue.viz`), or take the numbers.

    An average that is not defined, because there is no object to find, is None.

    Attributes:
        source: the dataset's file or folder.
        num_images: images of the dataset, with or without detections.
        num_objects: its objects, crowds aside.
        num_crowds: its crowd regions.
        num_detections: detections of any score.
        coco: COCO's twelve numbers by name: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs,
            ARm, ARl.
        voc_ap50, voc_ap50_11: means over the classes of VOC's average precision at IoU 0.5: area
            under the curve, and the 11 points of VOC2007.
        by_class: one entry for each class, in label order.
        confusion: what became of small, medium and large objects.
        image_f1: (I,) of each image 2 TP / (2 TP + FP + FN), counted as in `confusion`; nan where
            there is neither object nor detection.
        score_threshold: the least score of detections in `confusion` and `image_f1`.
        objects_over_limit: objects that no detector could find in COCO's numbers, which take 100
            detections of each class in an image.
        detections_over_limit: detections that COCO's numbers leave out therefore.
        precision: (10, 101, C) at IoU 0.5, 0.55, ..., 0.95 and recall 0, 0.01, ..., 1 of each
            class; nan where not defined.
        detections: the detections as they were read; not in JSON.
    """

    source: str
    num_images: int
    num_objects: int
    num_crowds: int
    num_detections: int
    coco: Mapping[str, float | None]
    voc_ap50: float | None
    voc_ap50_11: float | None
    by_class: tuple[ClassScores, ...] = field(repr=False)
    confusion: tuple[Confusion, ...] = field(repr=False)
    image_f1: NDArray[np.float64] = field(repr=False)
    score_threshold: float
    objects_over_limit: int
    detections_over_limit: int
    precision: NDArray[np.float64] = field(repr=False)
    detections: Detections = field(repr=False)

    @property
    def ap(self) -> float | None:
        """COCO's AP: the mean over classes and over IoU 0.5 to 0.95."""
        return self.coco["AP"]

    @property
    def ap50(self) -> float | None:
        """COCO's AP at IoU 0.5."""
        return self.coco["AP50"]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: numbers, confusion and classes, without the curves."""
        return {
            "source": self.source,
            "images": self.num_images,
            "objects": self.num_objects,
            "crowds": self.num_crowds,
            "detections": self.num_detections,
            "coco": dict(self.coco),
            "voc": {"AP50": self.voc_ap50, "AP50_11_points": self.voc_ap50_11},
            "objects_over_limit": self.objects_over_limit,
            "detections_over_limit": self.detections_over_limit,
            "classes": [
                {
                    "name": row.name,
                    "id": row.class_id,
                    "objects": row.objects,
                    "crowds": row.crowds,
                    "detections": row.detections,
                    "AP": row.ap,
                    "AP50": row.ap50,
                    "AR100": row.ar100,
                    "VOC_AP50": row.voc_ap50,
                    "VOC_AP50_11_points": row.voc_ap50_11,
                }
                for row in self.by_class
            ],
            "confusion": {
                "score_threshold": self.score_threshold,
                "iou": MIN_IOU,
                **{part.size: part.to_json() for part in self.confusion},
            },
        }


def evaluate(
    dataset: Dataset, results: Results, *, score_threshold: float = SCORE_THRESHOLD
) -> Evaluation:
    """Compare detections with a dataset.

    Args:
        dataset: what `ytrue.datasets.load` returned; objects that loading dropped are not asked
            for.
        results: a COCO results file, a list of its records, or a mapping of image id ->
            `Annotations` with scores in the pixels of the original image. Images without
            detections may be left out.
        score_threshold: the least score of detections in the confusion; averages take all.

    Returns:
        COCO's numbers as pycocotools computes them, VOC's AP, and what became of the objects.

    Raises:
        DataError: results that are unreadable or do not belong to the dataset; the message names
            the file, the record and its ids, and how many others there are.
        ValueError: `results` is of no such type, annotations lack scores, or `score_threshold` is
            not finite.

    Example:
        >>> import tempfile
        >>> from ytrue.datasets import load, write_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset = load(write_shapes(folder, num_images=2, image_size=(96, 128)))
        >>> box = dataset.objects.xywh[0].tolist()
        >>> found = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}
        >>> evaluate(dataset, [found]).num_detections
        1
    """
    if not np.isfinite(score_threshold):
        raise ValueError(f"score_threshold={score_threshold}, expected a finite number")
    with _without_collecting():
        return _evaluation(dataset, detections_of(dataset, results), score_threshold)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Pause the search for cycles: there are none in a million small records, but it looks."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _evaluation(dataset: Dataset, detections: Detections, score_threshold: float) -> Evaluation:
    truth = truth_of(dataset)
    pairs = overlaps(truth, detections)
    fates = fates_of(truth, detections, pairs, score_threshold)
    coco = coco_scores(truth, detections, dataset.images.ids)
    voc = voc_scores(truth, detections, pairs)
    return Evaluation(
        source=str(dataset.source),
        num_images=len(dataset),
        num_objects=int((~truth.crowd).sum()),
        num_crowds=int(truth.crowd.sum()),
        num_detections=len(detections),
        coco={name: or_none(n) for name, n in zip(NUMBERS, coco.numbers, strict=True)},
        voc_ap50=mean(voc.ap),
        voc_ap50_11=mean(voc.ap_11),
        by_class=_by_class(dataset, truth, detections, coco, voc),
        confusion=confusion(truth, fates),
        image_f1=f1_of_images(truth, fates, len(dataset)),
        score_threshold=score_threshold,
        objects_over_limit=over_limit(
            truth.image[~truth.crowd], truth.label[~truth.crowd], MAX_DETECTIONS
        ),
        detections_over_limit=over_limit(detections.image, detections.label, MAX_DETECTIONS),
        precision=coco.precision,
        detections=detections,
    )


def _by_class(
    dataset: Dataset, truth: Truth, detections: Detections, coco: CocoScores, voc: VocScores
) -> tuple[ClassScores, ...]:
    objects, crowds = truth.count(~truth.crowd), truth.count(truth.crowd)
    found = np.bincount(detections.label, minlength=truth.num_classes)
    return tuple(
        ClassScores(
            name=name,
            class_id=dataset.class_ids[k],
            objects=int(objects[k]),
            crowds=int(crowds[k]),
            detections=int(found[k]),
            ap=mean(coco.precision[:, :, k]),
            ap50=mean(coco.precision[IOUS.index(0.5), :, k]),
            ar100=mean(coco.recall[:, k]),
            voc_ap50=or_none(voc.ap[k]),
            voc_ap50_11=or_none(voc.ap_11[k]),
        )
        for k, name in enumerate(dataset.classes)
    )
