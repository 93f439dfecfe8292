"""`evaluate_masks`: detected masks against a dataset, in COCO's numbers.

Nothing here needs TensorFlow or Keras: detections come from a file, or as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ytrue.model.evaluating.coco import IOUS, MAX_DETECTIONS, NUMBERS, over_limit
from ytrue.model.evaluating.columns import truth_of
from ytrue.model.evaluating.defined import mean, or_none
from ytrue.model.evaluating.results import Results
from ytrue.model.evaluating.segm import (
    coco_mask,
    found_masks,
    mask_records,
    segm_scores,
    true_masks,
)

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset, Id

__all__ = ["MaskEvaluation", "MaskScores", "evaluate_masks", "mask_records"]


@dataclass(frozen=True)
class MaskScores:
    """One class. An average is None where there is no object to find.

    Attributes:
        name, class_id: as in the dataset.
        objects: number of objects, crowds aside.
        detections: number of detections, of any score.
        ap, ap50: COCO's average precision over mask IoU 0.5 to 0.95, and at 0.5.
    """

    name: str
    class_id: Id
    objects: int
    detections: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True, eq=False)
class MaskEvaluation:
    """Detected masks compared with a dataset's. An average that is not defined is None.

    Attributes:
        source: the dataset's file or folder.
        num_images: images of the dataset, with or without detections.
        num_objects: its objects, crowds aside.
        num_detections: detections of any score.
        coco: COCO's twelve numbers by name, of masks.
        best_iou: (num_objects,) highest mask IoU of each object with a detection of its class in
            its image, of any score; 0 without one.
        by_class: one entry for each class, in label order.
        detections_over_limit: detections that COCO's numbers leave out.
        precision: (10, 101, C) at IoU 0.5, 0.55, ..., 0.95 and recall 0, 0.01, ..., 1 of each
            class; nan where not defined.
    """

    source: str
    num_images: int
    num_objects: int
    num_detections: int
    coco: Mapping[str, float | None]
    best_iou: NDArray[np.float64] = field(repr=False)
    by_class: tuple[MaskScores, ...] = field(repr=False)
    detections_over_limit: int
    precision: NDArray[np.float64] = field(repr=False)

    @property
    def mean_best_iou(self) -> float | None:
        """Mean of `best_iou`."""
        return mean(self.best_iou)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: the numbers of all and of each class, without the curves."""
        return {
            "source": self.source,
            "images": self.num_images,
            "objects": self.num_objects,
            "detections": self.num_detections,
            "coco": dict(self.coco),
            "mean_best_iou": self.mean_best_iou,
            "detections_over_limit": self.detections_over_limit,
            "classes": [asdict(row) for row in self.by_class],
        }


def evaluate_masks(dataset: Dataset, results: Results) -> MaskEvaluation:
    """Compare detected masks with a dataset, in COCO's numbers by pycocotools.

    Args:
        dataset: what `ytrue.datasets.load` returned. An object's mask is its run lengths or the
            union of its polygon's parts; its box where it has neither.
        results: a file of COCO segmentation results, a list of them, or a mapping of image id ->
            `Annotations` with scores and with masks or polygons, in the pixels of the original
            image. Images without detections may be left out.

    Raises:
        DataError: results that are unreadable or do not belong to the dataset; the message names
            the file, the record and its ids, and how many others there are.
        ValueError: `results` is of no such type, or annotations lack scores.

    Example:
        >>> import tempfile
        >>> from ytrue.datasets import load, write_shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset = load(write_shapes(folder, num_images=2, image_size=(96, 128)))
        >>> truth = {i: dataset[i - 1].annotations for i in (1, 2)}
        >>> found = {i: one.replace(scores=[0.9] * len(one)) for i, one in truth.items()}
        >>> round(evaluate_masks(dataset, found).coco["AP50"], 3)
        1.0
    """
    truth, wanted = truth_of(dataset), true_masks(dataset)
    found = found_masks(dataset, results)
    scores = segm_scores(truth, wanted, found, dataset.images.ids)
    detections, asked = found.detections, np.flatnonzero(~truth.crowd)
    objects, detected = truth.count(~truth.crowd), np.bincount(
        detections.label, minlength=truth.num_classes
    )  # fmt: skip
    key = detections.image * truth.num_classes + detections.label
    best = np.zeros(len(asked))
    for place, row in enumerate(asked):
        rivals = np.flatnonzero(key == truth.image[row] * truth.num_classes + truth.label[row])
        if rivals.size:
            masks = [found.masks[k] for k in rivals]
            best[place] = coco_mask.iou(masks, [wanted[row]], [0]).max()
    return MaskEvaluation(
        source=str(dataset.source),
        num_images=len(dataset),
        num_objects=len(asked),
        num_detections=len(detections),
        coco={name: or_none(n) for name, n in zip(NUMBERS, scores.numbers, strict=True)},
        best_iou=best,
        by_class=tuple(
            MaskScores(
                name=name,
                class_id=dataset.class_ids[k],
                objects=int(objects[k]),
                detections=int(detected[k]),
                ap=mean(scores.precision[:, :, k]),
                ap50=mean(scores.precision[IOUS.index(0.5), :, k]),
            )
            for k, name in enumerate(dataset.classes)
        ),
        detections_over_limit=over_limit(detections.image, detections.label, MAX_DETECTIONS),
        precision=scores.precision,
    )
