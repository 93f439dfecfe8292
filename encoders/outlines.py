"""The outlines of a batch's objects on their way into a kernel: polygons, or masks' contours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ytrue.annotations import Annotations, Polygon
from ytrue.encoders.batches import check_mask_size, starts_of
from ytrue.encoders.kernels.contours import count_top_edges, trace
from ytrue.encoders.kernels.polygons import Outlines
from ytrue.rle import RLE


def outline_of(mask: RLE) -> Polygon:
    """Return the outer outline of every connected region of a mask.

    Along the edges of the pixels, so that it encloses the set pixels exactly, and the holes with
    them. Pixels that touch at a corner are connected.

    Example:
        >>> [part.tolist() for part in outline_of(RLE.from_mask(np.array([[0, 1], [0, 1]])))]
        [[[0.0, 2.0], [2.0, 2.0], [2.0, 1.0], [0.0, 1.0]]]
    """
    pixels = mask.decode()
    edges = count_top_edges(pixels)
    yx, starts = np.empty((4 * edges, 2), np.float32), np.empty(edges + 1, np.int64)
    regions = trace(pixels, yx, starts)
    return tuple(yx[starts[i] : starts[i + 1]] for i in range(regions))


def outlines_of(batch: Sequence[Annotations], image_size: tuple[int, int]) -> Outlines:
    """Return the outlines of the objects of several examples one after another.

    An object's polygon, or where it has none the outline of its mask, or nothing.

    Args:
        batch: the examples.
        image_size: (height, width) of the network input, pixels.

    Raises:
        ValueError: a mask without polygon that is of another size than the network input.
    """
    found = [
        outline
        for position in range(len(batch))
        for outline in _outlines(batch, position, image_size)
    ]
    parts = [part for outline in found for part in outline]
    lengths, counts = [len(part) for part in parts], [len(outline) for outline in found]
    return Outlines(
        yx=np.concatenate([*parts, _NO_VERTICES]),
        starts=starts_of(lengths),
        parts=starts_of(counts),
    )


def _outlines(
    batch: Sequence[Annotations], position: int, image_size: tuple[int, int]
) -> Sequence[Polygon]:
    one = batch[position]
    polygons: Sequence[Polygon] = one.polygons or [()] * len(one)
    if one.masks is None:
        return polygons
    traced = list(polygons)
    for k, mask in enumerate(one.masks):
        if mask is None or traced[k] or one.crowd[k]:
            continue
        check_mask_size(mask, image_size, position, batch, f"object {k}")
        traced[k] = outline_of(mask)
    return traced


_NO_VERTICES: Final = np.zeros((0, 2), np.float32)
