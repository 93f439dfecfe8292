"""`fit_anchors`: the anchors closest in shape to a dataset's objects, for encoders of YOLO's kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.errors import DataError
from ytrue.resizing import ResizeMode, place

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset

_MOST_OBJECTS: Final = 50_000
_ROUNDS: Final = 100


def fit_anchors(
    dataset: Dataset,
    image_size: tuple[int, int],
    count: int,
    *,
    resize: ResizeMode = "letterbox",
) -> list[tuple[float, float]]:
    """Return (height, width) of anchors in pixels of the network input, by rising area.

    Lloyd's rounds with 1 - IoU of boxes on one centre as the distance: every object goes to the
    anchor of highest IoU (of equal ones the smaller), every anchor becomes the median height and
    width of its objects, until none changes. The first anchors are the objects at evenly spaced
    ranks of area, so nothing is left to chance.

    Args:
        dataset: of objects; crowds and boxes without area are left out, and of more than 50,000
            objects evenly spaced ones count.
        image_size: (height, width) of the network input.
        count: how many anchors.
        resize: how images are fitted.

    Raises:
        DataError: the dataset has fewer different shapes than that.
        ValueError: a count below 1.

    Reference:
        Redmon and Farhadi 2017 (YOLOv2), "dimension clusters", with medians for means.
    """
    if count < 1:
        raise ValueError(f"count={count}: expected at least 1")
    sides = _sides(dataset, image_size, resize)
    shapes = len(np.unique(sides, axis=0))
    if shapes < count:
        raise DataError(
            f"{count} anchors for objects of {shapes} different sizes", where=dataset.source,
            do="take fewer anchors",
        )  # fmt: skip
    order = np.argsort(sides.prod(axis=1), kind="stable")
    anchors = sides[order[((np.arange(count) + 0.5) / count * len(order)).astype(int)]]
    for _ in range(_ROUNDS):
        nearest = _ious(sides, anchors).argmax(axis=1)
        moved = np.array(
            [
                np.median(sides[nearest == k], axis=0) if (nearest == k).any() else anchors[k]
                for k in range(count)
            ]
        )
        if np.array_equal(moved, anchors):
            break
        anchors = moved[np.argsort(moved.prod(axis=1), kind="stable")]
    return [(round(float(tall), 2), round(float(wide), 2)) for tall, wide in anchors]


def _sides(
    dataset: Dataset, image_size: tuple[int, int], resize: ResizeMode
) -> NDArray[np.float64]:
    """Return (N, 2) heights and widths of what the network input shows of the objects, pixels."""
    objects, images = dataset.objects, dataset.images
    sizes = np.stack((images.height, images.width), axis=1)
    found = boxes.from_xywh(objects.xywh)
    low, high = np.maximum(found[:, :2], 0), np.minimum(found[:, 2:], sizes[objects.image])
    kept = ~objects.crowd & boxes.has_area(np.concatenate((low, high), axis=1))
    rows = np.flatnonzero(kept)
    rows = rows[:: max(1, -(-len(rows) // _MOST_OBJECTS))]
    scale = np.ones((len(sizes), 2))
    for size in np.unique(sizes, axis=0):
        placed = place((int(size[0]), int(size[1])), image_size, resize)
        scale[(sizes == size).all(axis=1)] = placed.scale_y, placed.scale_x
    sides: NDArray[np.float64] = (high - low)[rows] * scale[objects.image[rows]]
    return sides


def _ious(sides: NDArray[np.float64], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, K) IoUs of boxes on one centre."""
    common = np.minimum(sides[:, None], anchors).prod(axis=2)
    return np.asarray(common / (sides.prod(axis=1)[:, None] + anchors.prod(axis=1) - common))
