"""A batch of annotations on its way into a kernel, and the arrays that come out."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import Spec, Target
from ytrue.encoders.kernels.objects import Objects


def contents_of(batch: Sequence[Annotations], image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Return (B, 4) the part of each frame that is not padding."""
    whole = (0.0, 0.0, float(image_size[0]), float(image_size[1]))
    return np.array([one.content or whole for one in batch], np.float64).reshape(-1, 4)


def example_words(position: int, batch: Sequence[Annotations]) -> str:
    """Return the start of a message about one example of a batch; nothing where it is alone."""
    return f"example {position} of the batch: " if len(batch) > 1 else ""


def label_error(
    batch: Sequence[Annotations], bad: int, starts: NDArray[np.int64], label: int, num_classes: int
) -> ValueError:
    """Return the error of an object whose label is no class.

    Args:
        batch: the examples.
        bad: the object, counted through the batch.
        starts: (B + 1,) first object of each example.
        label: of the object.
        num_classes: of the encoder.
    """
    position = int(np.searchsorted(starts, bad, side="right")) - 1
    return ValueError(
        f"{example_words(position, batch)}object {bad - starts[position]} has label {label}, "
        f"expected 0 to {num_classes - 1} (labels count from 0, without a background class)"
    )


def bytes_of(spec: Spec) -> int:
    """Return how many bytes one example's target takes."""
    return sum(prod(shape) * dtype.itemsize for shape, dtype in spec.values())


def new_targets(spec: Spec, count: int) -> Target:
    """Return uninitialised arrays for `count` examples, cut from one block.

    One allocation instead of four: the allocator then reuses it from call to call, where four
    below its limits made it return and fault in fresh pages each time (ten times slower at D0).
    """
    block = np.empty(bytes_of(spec) * count, np.uint8)
    arrays, first = {}, 0
    for name, (shape, dtype) in sorted(spec.items(), key=_widest):
        end = first + count * prod(shape) * dtype.itemsize
        arrays[name] = block[first:end].view(dtype).reshape(count, *shape)
        first = end
    return {name: arrays[name] for name in spec}


def _widest(entry: tuple[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> tuple[int, int]:
    # Wide numbers first, so that each array begins where its numbers may; of these the long rows.
    _, (shape, dtype) = entry
    return -dtype.itemsize, -prod(shape)


def objects_of(
    batch: Sequence[Annotations],
    image_size: tuple[int, int],
    precision: str,
    *,
    crowd_masks: bool,
) -> Objects:
    """Return the objects of several examples one after another.

    Args:
        batch: the examples.
        image_size: (height, width) of the network input, pixels.
        precision: dtype of the boxes.
        crowd_masks: whether crowds are what their masks cover, where they have one.

    Raises:
        ValueError: a crowd mask of another size than the network input.
    """
    if len(batch) == 1:
        one = batch[0]
        boxes, labels, crowd = one.boxes, one.labels, one.crowd
        starts = np.array((0, len(boxes)))
    else:
        boxes = np.concatenate([one.boxes for one in batch]) if batch else _NO_BOXES
        labels = np.concatenate([one.labels for one in batch]) if batch else _NO_LABELS
        crowd = np.concatenate([one.crowd for one in batch]) if batch else _NO_CROWD
        starts = np.cumsum([0, *(len(one) for one in batch)])
    boxes = boxes.astype(precision, copy=False)
    mask_of, integrals = _NO_MASK_OF, _NO_INTEGRALS
    if crowd_masks and any(one.masks is not None for one in batch):
        boxes, mask_of, integrals = _crowd_masks(batch, boxes, image_size)
    return Objects(
        boxes=boxes,
        labels=labels,
        crowd=crowd,
        starts=starts,
        contents=contents_of(batch, image_size),
        mask_of=mask_of,
        integrals=integrals,
    )


def _crowd_masks(
    batch: Sequence[Annotations], boxes: NDArray[Any], image_size: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the boxes, each object's row of the integral images, and these.

    Boxes of masked crowds are tight around the mask (COCO's are a pixel short); an integral
    image counts the set pixels above and left of each corner.
    """
    boxes = boxes.copy()
    mask_of, first = np.full(len(boxes), -1, np.int64), 0
    integrals: list[NDArray[np.int64]] = []
    for position, one in enumerate(batch):
        for k in np.flatnonzero(one.crowd) if one.masks is not None else ():
            mask = one.masks[k]  # type: ignore[index]
            if mask is None:
                continue
            if (mask.height, mask.width) != image_size:
                raise ValueError(
                    f"{example_words(position, batch)}the mask of crowd object {k} is "
                    f"{mask.height}x{mask.width}, the network input is "
                    f"{image_size[0]}x{image_size[1]}; resize annotations and image "
                    "together (ytrue.resizing.place(...).apply)"
                )
            pixels = mask.decode()
            boxes[first + k] = _tight_box(pixels)
            mask_of[first + k] = len(integrals)
            above_left = pixels.cumsum(0, np.int64).cumsum(1)
            integrals.append(np.pad(above_left, ((1, 0), (1, 0))))
        first += len(one)
    return boxes, mask_of, np.stack(integrals) if integrals else _NO_INTEGRALS


def _tight_box(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


_NO_BOXES: Final = np.zeros((0, 4), np.float32)
_NO_LABELS: Final = np.zeros(0, np.int32)
_NO_CROWD: Final = np.zeros(0, bool)
_NO_MASK_OF: Final = np.zeros(0, np.int64)
_NO_INTEGRALS: Final = np.zeros((0, 1, 1), np.int64)
