"""The regular arrangement of anchors, as kernels see it, and the boxes it stands for."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from ytrue.encoders.kernels.jit import kernel


class Lattice(NamedTuple):
    """L levels, S anchor shapes (of all levels together, fine to coarse).

    Anchor `levels[l, FIRST] + (row * levels[l, COLUMNS] + column) * levels[l, PER_CELL] + slot`
    has its centre at `((row + offset) * strides[l, 0], (column + offset) * strides[l, 1])`. All
    anchors of a shape in one row share their y edges, in one column their x edges: the tables
    hold each of these once, so that a search reads a few hundred numbers instead of A boxes.
    """

    levels: NDArray[Any]  # (L, 4) int64: rows, columns, index of the first anchor, anchors a cell
    inverses: NDArray[Any]  # (L, 2) float64: 1 / stride, y and x
    offset: float  # of the centre inside its cell, in cells
    shapes: NDArray[Any]  # (S, 4) int64: level's row, slot in the cell, first row of each table
    sizes: NDArray[Any]  # (S, 2) float64: height, width
    y_edges: NDArray[Any]  # (rows of all shapes, 2) T: y_min, y_max
    x_edges: NDArray[Any]  # (columns of all shapes, 2) T: x_min, x_max
    strides: NDArray[Any]  # (L, 2) float64: y, x


ROWS, COLUMNS, FIRST, PER_CELL = 0, 1, 2, 3
LEVEL, SLOT, FIRST_Y, FIRST_X = 0, 1, 2, 3


@kernel
def fill_edges(centre_offset, stride, side, edges):  # type: ignore[no-untyped-def]
    """Write (low, high) of the anchors of one side along one axis to edges (count, 2).

    Computed in float64 and rounded once, as google/automl does.
    """
    half = side * 0.5
    for cell in range(edges.shape[0]):
        centre = (cell + centre_offset) * stride
        edges[cell, 0] = centre - half
        edges[cell, 1] = centre + half


@kernel
def fill_boxes(levels, shapes, y_edges, x_edges, boxes):  # type: ignore[no-untyped-def]
    """Write every anchor's `(y_min, x_min, y_max, x_max)` to boxes (A, 4)."""
    for shape in range(shapes.shape[0]):
        level = shapes[shape, LEVEL]
        columns, step = levels[level, COLUMNS], levels[level, PER_CELL]
        first_x = shapes[shape, FIRST_X]
        for row in range(levels[level, ROWS]):
            y_min = y_edges[shapes[shape, FIRST_Y] + row, 0]
            y_max = y_edges[shapes[shape, FIRST_Y] + row, 1]
            anchor = levels[level, FIRST] + row * columns * step + shapes[shape, SLOT]
            for column in range(first_x, first_x + columns):
                boxes[anchor, 0] = y_min
                boxes[anchor, 1] = x_edges[column, 0]
                boxes[anchor, 2] = y_max
                boxes[anchor, 3] = x_edges[column, 1]
                anchor += step
