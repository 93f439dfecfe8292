"""The regular arrangement of anchors, as kernels see it, and the boxes it stands for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.jit import kernel


class Lattice(NamedTuple):
    """L levels, S anchor shapes (of all levels together, by rising area).

    Anchor `levels[l, FIRST] + (row * levels[l, COLUMNS] + column) * levels[l, PER_CELL] + slot`
    has its centre at `((row + offset) * strides[l, 0], (column + offset) * strides[l, 1])`. All
    anchors of a shape in one row share their y edges, in one column their x edges: the tables
    hold each of these once, so that a search reads a few hundred numbers instead of A boxes. Row i
    of a table is at 2 i and 2 i + 1: one index costs a kernel less than two.
    """

    levels: NDArray[Any]  # (L, 4) int64: rows, columns, index of the first anchor, anchors a cell
    strides: NDArray[Any]  # (L, 2) float64: y, x
    offset: float  # of the centre inside its cell, in cells
    areas: NDArray[Any]  # (S,) float64, rising: a search skips what is too small or too large
    sizes: NDArray[Any]  # (S, 4) float64: height, width, 1 / stride in y and x
    shapes: NDArray[Any]  # (S, 6) int64: as `levels`, then its first row in each table
    y_edges: NDArray[Any]  # (2 * rows of all shapes,) T: y_min, y_max, by level, slot, row
    x_edges: NDArray[Any]  # (2 * columns of all shapes,) T: x_min, x_max, by level, slot, column


# Columns of `levels` and `shapes`; FIRST_Y and FIRST_X of `shapes` only.
ROWS, COLUMNS, FIRST, PER_CELL, FIRST_Y, FIRST_X = 0, 1, 2, 3, 4, 5
TALL, WIDE, PER_Y, PER_X = 0, 1, 2, 3  # of `sizes`


@kernel
def fill_edges(centre_offset, stride, side, edges):  # type: ignore[no-untyped-def]
    """Write low, high of the anchors of one side along one axis to edges (2 * count,).

    Computed in float64 and rounded once, as google/automl does.
    """
    half = side * 0.5
    for cell in range(edges.shape[0] // 2):
        centre = (cell + centre_offset) * stride
        edges[2 * cell] = centre - half
        edges[2 * cell + 1] = centre + half


# Four cells of nine anchors are nine whole vectors of 64 bytes.
CELLS_AT_ONCE = 4


@kernel
def fill_boxes(levels, y_edges, x_edges, boxes):  # type: ignore[no-untyped-def]
    """Write every anchor's `(y_min, x_min, y_max, x_max)` to boxes (4 A,), in its order.

    All but `levels` are given as the unsigned integers of their bits. The rows of a level differ
    in their y edges alone, so a row is the x edges, gaps between, or-ed with a pattern of y edges
    that repeats: long vectors instead of four stores an anchor.
    """
    widest = 0
    for level in range(levels.shape[0]):
        widest = max(widest, levels[level, COLUMNS] * levels[level, PER_CELL])
    across = np.zeros(4 * widest, boxes.dtype)
    first_y, first_x = 0, 0
    for level in range(levels.shape[0]):
        rows, columns, slots = levels[level, ROWS], levels[level, COLUMNS], levels[level, PER_CELL]
        for slot in range(slots):
            for column in range(columns):
                edge, at = first_x + slot * columns + column, 4 * (column * slots + slot)
                across[at + 1], across[at + 3] = x_edges[2 * edge], x_edges[2 * edge + 1]
        down = np.zeros(4 * slots * CELLS_AT_ONCE, boxes.dtype)
        size, start = 4 * slots * columns, 4 * levels[level, FIRST]
        for row in range(rows):
            for anchor in range(slots * CELLS_AT_ONCE):
                edge = first_y + (anchor % slots) * rows + row
                down[4 * anchor], down[4 * anchor + 2] = y_edges[2 * edge], y_edges[2 * edge + 1]
            for begin in range(0, size, down.size):
                end = min(begin + down.size, size)
                out, x_part = boxes[start + begin : start + end], across[begin:end]
                for i in range(end - begin):
                    out[i] = x_part[i] | down[i]
            start += size
        first_y += slots * rows
        first_x += slots * columns


@kernel
def locate(levels, anchor):  # type: ignore[no-untyped-def]
    """Return the anchor's row in y_edges and in x_edges."""
    first_y, first_x, level = 0, 0, 0
    while level + 1 < levels.shape[0] and anchor >= levels[level + 1, FIRST]:
        first_y += levels[level, PER_CELL] * levels[level, ROWS]
        first_x += levels[level, PER_CELL] * levels[level, COLUMNS]
        level += 1
    rows, columns, slots = levels[level, ROWS], levels[level, COLUMNS], levels[level, PER_CELL]
    cell, slot = divmod(anchor - levels[level, FIRST], slots)
    row, column = divmod(cell, columns)
    return first_y + slot * rows + row, first_x + slot * columns + column
