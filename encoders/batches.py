"""A batch of annotations on its way into a kernel, and the arrays that come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import POSITIVE, Encoder, Outcome, Spec, Target
from ytrue.encoders.kernels import objects
from ytrue.encoders.kernels.integrals import integrate
from ytrue.encoders.kernels.objects import Objects
from ytrue.encoders.threads import run_split
from ytrue.rle import RLE

OUTCOME_OF_KIND: Final[Mapping[int, Outcome]] = {
    objects.CROWD: "crowd",
    objects.NO_AREA: "no-area",
    objects.NOT_FINITE: "not-finite",
    objects.OUTSIDE: "outside",
}
"""What becomes of objects that take no part, by what `kind_of` says of them."""


def contents_of(batch: Sequence[Annotations], image_size: tuple[int, int]) -> NDArray[np.float64]:
    """Return (B, 4) the part of each frame that is not padding."""
    whole = (0.0, 0.0, float(image_size[0]), float(image_size[1]))
    return np.array([one.content or whole for one in batch], np.float64).reshape(-1, 4)


def example_words(position: int, batch: Sequence[object]) -> str:
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


def run_kernel(
    kernel: Callable[..., int],
    encoder: Encoder,
    batch: Sequence[Annotations],
    given: Objects,
    *arguments: Any,
) -> None:
    """Run kernel(first, end, *arguments) over the examples of a batch, on all cores.

    Args:
        kernel: writes the targets of the examples first to end (exclusive); returns an object whose
            label is no class, -1 where there is none.
        encoder: whose targets they are.
        batch: the examples.
        given: their objects, as `objects_of` has them.
        arguments: of the kernel.

    Raises:
        ValueError: an object's label is no class.
    """

    def share(first: int, end: int) -> int:
        return kernel(first, end, *arguments)

    bad = run_split(share, len(batch), bytes_each=bytes_of(encoder.spec))
    if bad >= 0:
        raise label_error(batch, bad, given.starts, int(given.labels[bad]), encoder.num_classes)


def check_mask_size(
    mask: RLE,
    image_size: tuple[int, int],
    position: int,
    batch: Sequence[Annotations],
    what: str,
) -> None:
    """Raise ValueError if a mask is of another size than the network input.

    Args:
        mask: of an object.
        image_size: (height, width) of the network input, pixels.
        position: of its example in the batch.
        batch: the examples.
        what: the object in words, such as "object 3".
    """
    if (mask.height, mask.width) != image_size:
        raise ValueError(
            f"{example_words(position, batch)}the mask of {what} is {mask.height}x{mask.width}, the "
            f"network input is {image_size[0]}x{image_size[1]}; resize annotations and image "
            "together (ytrue.resizing.place(...).apply)"
        )


def starts_of(counts: Sequence[int]) -> NDArray[np.int64]:
    """Return (N + 1,) where each of N runs begins in what holds one after another, and the end."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def first_positions(target: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the first position of every object that has one, in the order of `object`.

    Args:
        target: `state` and `object`, of one example; positions are counted through all axes.
    """
    positive = np.flatnonzero(target["state"] == POSITIVE)
    _, first = np.unique(target["object"].reshape(-1)[positive], return_index=True)
    return positive[first]


def bytes_of(spec: Spec) -> int:
    """Return how many bytes one example's target takes."""
    return sum(prod(_sides(shape)) * dtype.itemsize for shape, dtype in spec.values())


def new_targets(spec: Spec, count: int) -> Target:
    """Return uninitialised arrays for `count` examples, cut from one block.

    One allocation instead of four: the allocator then reuses it from call to call, where four
    below its limits made it return and fault in fresh pages each time (ten times slower at D0).
    """
    block = np.empty(bytes_of(spec) * count, np.uint8)
    arrays, first = {}, 0
    for name, (shape, dtype) in sorted(spec.items(), key=_widest):
        sides = _sides(shape)
        end = first + count * prod(sides) * dtype.itemsize
        arrays[name] = block[first:end].view(dtype).reshape(count, *sides)
        first = end
    return {name: arrays[name] for name in spec}


def _widest(entry: tuple[str, tuple[tuple[int | None, ...], np.dtype[Any]]]) -> tuple[int, int]:
    # Wide numbers first, so that each array begins where its numbers may; of these the long rows.
    _, (shape, dtype) = entry
    return -dtype.itemsize, -prod(_sides(shape))


def _sides(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return a shape that is known before any data."""
    if None in shape:
        raise ValueError(f"the shape {shape} depends on the data")
    return tuple(side for side in shape if side is not None)


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
        starts = starts_of([len(one) for one in batch])
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
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int32]]:
    """Return the boxes, each object's row of the integral images, and these.

    Boxes of masked crowds are tight around the mask (COCO's are a pixel short). A crowd whose box
    is not finite is told as that, as without a mask: nothing of it can be trusted.
    """
    mask_of, first = np.full(len(boxes), -1, np.int64), 0
    finite = np.isfinite(boxes).all(axis=1)
    masks: list[RLE] = []
    for position, one in enumerate(batch):
        for k in np.flatnonzero(one.crowd) if one.masks is not None else ():
            mask = one.masks[k]  # type: ignore[index]
            if mask is None or not finite[first + k]:
                continue
            check_mask_size(mask, image_size, position, batch, f"crowd object {k}")
            mask_of[first + k] = len(masks)
            masks.append(mask)
        first += len(one)
    if not masks:
        return boxes, mask_of, _NO_INTEGRALS
    boxes = boxes.copy()
    integrals = np.empty((len(masks), image_size[1] + 1, image_size[0] + 1), np.int32)
    for mask, integral, k in zip(masks, integrals, np.flatnonzero(mask_of >= 0), strict=True):
        integrate(mask.counts, integral, boxes[k])
    return boxes, mask_of, integrals


_NO_BOXES: Final = np.zeros((0, 4), np.float32)
_NO_LABELS: Final = np.zeros(0, np.int32)
_NO_CROWD: Final = np.zeros(0, bool)
_NO_MASK_OF: Final = np.zeros(0, np.int64)
_NO_INTEGRALS: Final = np.zeros((0, 1, 1), np.int32)
