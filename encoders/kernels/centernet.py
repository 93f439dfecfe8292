"""Centres of objects in the cells of one grid: what `CenterNetEncoder` writes for every image.

Beside filling the arrays, work is the windows of the Gaussians and of the crowds. While an image is
encoded, the cell of a centre holds the object that outranks the others there so far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.cellcentres import ignore_in_crowds, ignore_in_padding
from ytrue.encoders.kernels.cells import COLUMNS, ROWS, locate
from ytrue.encoders.kernels.objects import (
    MATCHED,
    POSITIVE,
    cut_to_frame,
    kind_of,
    outranks,
    sides_of,
)
from ytrue.jit import borrowed, kernel

HALF = np.float32(0.5)


class Rules(NamedTuple):
    """The parameters of the encoder, as the kernel sees them."""

    num_classes: int
    correct_radius: bool
    min_overlap: float
    smaller_wins: bool
    crowd_ignores: bool
    padding_ignores: bool
    height: float  # of the frame, pixels
    width: float


class Targets(NamedTuple):
    """What is written for every cell, S in all."""

    state: NDArray[np.int8]  # (B, S)
    label: NDArray[np.int32]  # (B, S)
    heatmap: NDArray[np.float32]  # (B, S, C)
    size: NDArray[np.float32]  # (B, S, 2)
    offset: NDArray[np.float32]  # (B, S, 2)
    object: NDArray[np.int32]  # (B, S)


class Record(NamedTuple):
    """What is written for every object, N in all, for `explain`."""

    kind: NDArray[np.int8]  # (N,) as `kind_of` has it
    box: NDArray[np.float32]  # (N, 4) inside the frame; 0 where it takes no part
    cell: NDArray[np.int32]  # (N,) of its centre, -1 where it takes no part
    owns: NDArray[np.bool_]  # (N,) whether the cell is its own


@kernel
def encode_images(first, end, cells, centres, rules, objects, targets, record):  # type: ignore[no-untyped-def]
    """Write targets and record of the images first to end (exclusive).

    cells: one grid. Returns an object whose label is no class, -1 where there is none.
    """
    along = np.empty(max(cells.levels[0, ROWS], cells.levels[0, COLUMNS]), np.float64)
    return _encode_borrowed(first, end, cells, centres, rules, objects, targets, record, along)


@kernel
def _encode_borrowed(first, end, cells, centres, rules, objects, targets, record, along):  # type: ignore[no-untyped-def]
    cells, centres = borrowed(cells), borrowed(centres)
    rules, objects = borrowed(rules), borrowed(objects)
    targets, record, along, bad = borrowed(targets), borrowed(record), borrowed(along), -1
    for image in range(first, end):
        state, label, heatmap = targets.state[image], targets.label[image], targets.heatmap[image]
        size, offset, owner = targets.size[image], targets.offset[image], targets.object[image]
        begin, stop = objects.starts[image], objects.starts[image + 1]
        state[:] = 0
        label[:] = -1
        heatmap[:] = 0
        size[:] = 0
        offset[:] = 0
        owner[:] = -1
        for k in range(begin, stop):
            if not _sort_out(k, rules, objects, cells, record):
                bad = k
            elif record.kind[k] == MATCHED:
                _teach(
                    k, begin, cells, rules, objects.labels, record, along, state, label, heatmap,
                    size, offset, owner,
                )  # fmt: skip
        if rules.crowd_ignores:
            ignore_in_crowds(begin, stop, centres, objects, record.kind, state)
        if rules.padding_ignores:
            ignore_in_padding(centres, objects.contents[image], state)
    return bad


@kernel
def _sort_out(k, rules, objects, cells, record):  # type: ignore[no-untyped-def]
    """Say what object k is and cut it to the frame; return whether its label is a class."""
    boxes = objects.boxes
    record.cell[k], record.owns[k], record.box[k] = -1, False, 0
    record.kind[k] = kind_of(
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], objects.crowd[k], False,
        rules.height, rules.width,
    )  # fmt: skip
    if record.kind[k] == MATCHED:
        cut_to_frame(boxes[k], cells.height, cells.width, record.box[k])
    return 0 <= objects.labels[k] < rules.num_classes


@kernel
def _teach(  # type: ignore[no-untyped-def]
    k, begin, cells, rules, labels, record, along, state, label, heatmap, size, offset, owner
):
    """Draw the Gaussian of object k; give it the cell of its centre, unless outranked there."""
    rows, columns = cells.levels[0, ROWS], cells.levels[0, COLUMNS]
    box = record.box
    row, dy = locate(box[k, 0] * HALF + box[k, 2] * HALF, cells.height, np.float32(rows))
    column, dx = locate(box[k, 1] * HALF + box[k, 3] * HALF, cells.width, np.float32(columns))
    height, width = sides_of(box, k)
    tall, wide = height * rows / rules.height, width * columns / rules.width
    radius = gaussian_radius(np.ceil(tall), np.ceil(wide), rules.min_overlap, rules.correct_radius)
    _draw(row, column, rows, columns, labels[k], int(radius), along, heatmap)

    cell = row * columns + column
    record.cell[k] = cell
    if state[cell] == POSITIVE:
        holder = begin + owner[cell]
        if not outranks(k, holder, rules.smaller_wins, box, labels):
            return
        record.owns[holder] = False
    record.owns[k] = True
    state[cell], label[cell], owner[cell] = POSITIVE, labels[k], k - begin
    size[cell, 0], size[cell, 1] = tall, wide
    offset[cell, 0], offset[cell, 1] = dy, dx


@kernel
def gaussian_radius(height, width, min_overlap, correct):  # type: ignore[no-untyped-def]
    """Return how far corners may lie off so that the box still has `min_overlap` IoU, float64.

    The least of three cases: one corner inside and one outside, both inside, both outside, each
    the root of a quadratic equation. `correct`: of these equations; else as CornerNet's code and
    CenterNet's have it, which adds the root in all three and divides by 2 whatever the equation.
    """
    b1, b2 = height + width, 2.0 * (height + width)
    b3 = -2.0 * min_overlap * (height + width)
    c1 = width * height * (1.0 - min_overlap) / (1.0 + min_overlap)
    c2, c3 = (1.0 - min_overlap) * width * height, (min_overlap - 1.0) * width * height
    root1 = np.sqrt(b1 * b1 - 4.0 * c1)
    root2 = np.sqrt(b2 * b2 - 16.0 * c2)
    root3 = np.sqrt(b3 * b3 - 16.0 * min_overlap * c3)
    if correct:
        return min((b1 - root1) / 2.0, (b2 - root2) / 8.0, (b3 + root3) / (8.0 * min_overlap))
    return min((b1 + root1) / 2.0, (b2 + root2) / 2.0, (b3 + root3) / 2.0)


@kernel
def _draw(row, column, rows, columns, label, radius, along, heatmap):  # type: ignore[no-untyped-def]
    """Raise the class's map to a Gaussian around a cell, exactly 1 in it.

    The Gaussian is a product of one factor a side; `along` (max of rows and columns,) float64 takes
    them by distance. In the window's corner it is at least exp(-9): CenterNet's cut at the smallest
    float never applies.
    """
    sigma = (2.0 * radius + 1.0) / 6.0
    for d in range(min(radius + 1, along.shape[0])):
        along[d] = np.exp(-(d * d) / (2.0 * sigma * sigma))
    left, right = max(column - radius, 0), min(column + radius + 1, columns)
    for y in range(max(row - radius, 0), min(row + radius + 1, rows)):
        down = along[abs(y - row)]
        for x in range(left, right):
            cell = y * columns + x
            heatmap[cell, label] = max(
                heatmap[cell, label], np.float32(down * along[abs(x - column)])
            )
