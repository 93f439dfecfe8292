"""The centres of cells as points: where they stand, and which lie in crowds or in padding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.cells import COLUMNS, FIRST, ROWS
from ytrue.encoders.kernels.integrals import is_set
from ytrue.encoders.kernels.objects import CROWD, IGNORE, POSITIVE, sides_of
from ytrue.encoders.kernels.windows import cells, has_extent
from ytrue.jit import inlined_kernel, kernel

MIDDLE = 0.5  # of a cell, in cells
FIRST_Y, FIRST_X = 3, 4  # columns of `CellCentres.levels`, after those of `Cells.levels`
Y, X = 0, 1  # of `CellCentres.per_pixel`


class CellCentres(NamedTuple):
    """L grids over one frame. Point (row, column) of level l is `FIRST + row * COLUMNS + column`.

    It stands at `(y[FIRST_Y + row], x[FIRST_X + column])`.
    """

    levels: NDArray[np.int64]  # (L, 5) rows, columns, first point, its place in y and in x
    per_pixel: NDArray[np.float64]  # (L, 2) cells in a pixel, along y and x
    y: NDArray[np.float32]  # (rows of all levels,) pixels
    x: NDArray[np.float32]  # (columns of all levels,)


@inlined_kernel
def rows_within(centres, level, y, reach):  # type: ignore[no-untyped-def]
    """Return the first row and the end of those within `reach` of y, and perhaps one on each side."""
    return cells(y, reach, centres.per_pixel[level, Y], MIDDLE, centres.levels[level, ROWS])


@inlined_kernel
def columns_within(centres, level, x, reach):  # type: ignore[no-untyped-def]
    """Return the first column and the end of those within `reach` of x, and perhaps one more."""
    return cells(x, reach, centres.per_pixel[level, X], MIDDLE, centres.levels[level, COLUMNS])


@kernel
def ignore_in_crowds(begin, stop, centres, objects, kind, state):  # type: ignore[no-untyped-def]
    """Ignore the points in a crowd, its mask or else its box [min, max), unless they are positive.

    kind (N,) as `kind_of` has it; state (P,) int8.
    """
    levels = centres.levels
    for k in range(begin, stop):
        if kind[k] != CROWD or not has_extent(objects.boxes, k):
            continue
        box = objects.boxes[k]
        height, width = sides_of(objects.boxes, k)
        half_y, half_x = 0.5 * height, 0.5 * width
        masked = objects.integrals.shape[0] > 0 and objects.mask_of[k] >= 0
        for level in range(levels.shape[0]):
            top, bottom = rows_within(centres, level, box[0] + half_y, half_y)
            left, right = columns_within(centres, level, box[1] + half_x, half_x)
            for row in range(top, bottom):
                y = centres.y[levels[level, FIRST_Y] + row]
                if y < box[0] or y >= box[2]:
                    continue
                at = levels[level, FIRST] + row * levels[level, COLUMNS]
                for column in range(left, right):
                    x = centres.x[levels[level, FIRST_X] + column]
                    if x < box[1] or x >= box[3] or state[at + column] == POSITIVE:
                        continue
                    if not masked or is_set(objects.integrals[objects.mask_of[k]], y, x):
                        state[at + column] = IGNORE


@kernel
def ignore_in_padding(centres, content, state):  # type: ignore[no-untyped-def]
    """Ignore the points outside `content`, the image's part of the frame, unless positive.

    content (4,) float64 `(y_min, x_min, y_max, x_max)`, of which the minima are inside.
    """
    levels = centres.levels
    for level in range(levels.shape[0]):
        columns = levels[level, COLUMNS]
        for row in range(levels[level, ROWS]):
            y = centres.y[levels[level, FIRST_Y] + row]
            padded = y < content[0] or y >= content[2]
            at = levels[level, FIRST] + row * columns
            for column in range(columns):
                x = centres.x[levels[level, FIRST_X] + column]
                outside = padded or x < content[1] or x >= content[3]
                if outside and state[at + column] != POSITIVE:
                    state[at + column] = IGNORE
