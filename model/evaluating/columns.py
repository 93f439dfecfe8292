"""The two sides of a comparison as columns: the dataset's objects, and detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Truth:
    """G objects of a dataset of C classes, crowds included, in the order of the file.

    Attributes:
        image: (G,) position of the image in the dataset.
        label: (G,)
        xywh: (G, 4) COCO's x_min, y_min, width, height, pixels.
        area: (G,) pixels: the file's (of the mask, in COCO), else the box's.
        crowd: (G,) regions of many.
        difficult: (G,) objects that VOC does not ask for.
        num_classes: C.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    num_classes: int

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(G, 4) y_min, x_min, y_max, x_max."""
        return boxes.from_xywh(self.xywh)

    def count(self, where: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many of the objects `where` (G,) each class has, (C,)."""
        return np.bincount(self.label[where], minlength=self.num_classes)


@dataclass(frozen=True, eq=False)
class Detections:
    """D detections in the order they were given.

    Attributes:
        image: (D,) position of the image in the dataset.
        label: (D,)
        xywh: (D, 4) COCO's x_min, y_min, width, height, pixels.
        score: (D,)
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    xywh: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(D, 4) y_min, x_min, y_max, x_max."""
        return boxes.from_xywh(self.xywh)

    def select(self, where: NDArray[np.bool_]) -> Detections:
        """Return the detections `where` (D,) is True."""
        return Detections(self.image[where], self.label[where], self.xywh[where], self.score[where])


def truth_of(dataset: Dataset) -> Truth:
    """Return a dataset's objects as columns."""
    objects = dataset.objects
    box_area = objects.xywh[:, 2] * objects.xywh[:, 3]
    difficult = np.zeros(len(objects), bool)
    difficult[[row for row, extra in objects.extra.items() if _flag(extra.get("difficult"))]] = True
    return Truth(
        image=objects.image,
        label=objects.label.astype(np.int64),
        xywh=objects.xywh,
        area=np.where(np.isnan(objects.area), box_area, objects.area),
        crowd=objects.crowd,
        difficult=difficult,
        num_classes=dataset.num_classes,
    )


def _flag(value: Any) -> bool:
    """Return whether a field that may be a number, a text or absent says yes."""
    return str(value).lower() in ("1", "true")
