"""A batch of annotations on its way into a kernel, and the arrays that come out."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import Spec, Target


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
