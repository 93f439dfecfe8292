"""Integral images of masks: how many pixels are set above and left of each corner of the pixels.

An integral (W + 1, H + 1) int32 lies column by column, as the runs do that it is made from:
`integral[x, y]` counts the set pixels of columns below x and rows below y.
"""

import numpy as np

from ytrue.jit import kernel


@kernel
def integrate(runs, integral, box):  # type: ignore[no-untyped-def]
    """Write a mask's integral, and the box (4,) `(y_min, x_min, y_max, x_max)` of its set pixels.

    runs (R,) int64 run lengths, zeros first, column by column, that sum to H * W. The box of a mask
    without a set pixel is 0.
    """
    width, height = integral.shape[0] - 1, integral.shape[1] - 1
    y_min, x_min, y_max, x_max = height, width, 0, 0
    integral[0] = 0
    run, left = 0, runs[0]
    for column in range(width):
        before, here = integral[column], integral[column + 1]
        here[0] = 0
        row, above = 0, np.int32(0)  # set pixels of this column above the row
        while row < height:
            while left == 0:
                run += 1
                left = runs[run]
            end = min(height, row + left)
            left -= end - row
            if run % 2 == 0:
                for corner in range(row + 1, end + 1):
                    here[corner] = before[corner] + above
            else:
                for corner in range(row + 1, end + 1):
                    here[corner] = before[corner] + above + np.int32(corner - row)
                above += np.int32(end - row)
                y_min, y_max = min(y_min, row), max(y_max, end)
                x_min, x_max = min(x_min, column), column + 1
            row = end
    empty = x_max == 0
    box[0], box[1] = 0 if empty else y_min, 0 if empty else x_min
    box[2], box[3] = y_max, x_max


@kernel
def is_set(integral, y, x):  # type: ignore[no-untyped-def]
    """Return whether the pixel of a point is set."""
    row, column = int(y), int(x)
    after = integral[column + 1, row + 1] - integral[column + 1, row]
    return after > integral[column, row + 1] - integral[column, row]


@kernel
def share_of_pixels(integral, anchors, a):  # type: ignore[no-untyped-def]
    """Return the share of anchor a that set pixels cover; edges may cut pixels. float64.

    Between corners the integral is linear along both axes, which is exact for pixels of constant
    value.
    """
    top = _inside(anchors[a, 0], integral.shape[1])
    bottom = _inside(anchors[a, 2], integral.shape[1])
    left = _inside(anchors[a, 1], integral.shape[0])
    right = _inside(anchors[a, 3], integral.shape[0])
    below = _count(integral, bottom, right) - _count(integral, bottom, left)
    above = _count(integral, top, right) - _count(integral, top, left)
    height = np.float64(anchors[a, 2]) - np.float64(anchors[a, 0])
    width = np.float64(anchors[a, 3]) - np.float64(anchors[a, 1])
    return (below - above) / (height * width)


@kernel
def _inside(edge, corners):  # type: ignore[no-untyped-def]
    return min(max(np.float64(edge), 0.0), corners - 1.0)


@kernel
def _count(integral, y, x):  # type: ignore[no-untyped-def]
    row, column = min(int(y), integral.shape[1] - 2), min(int(x), integral.shape[0] - 2)
    down, across = y - row, x - column
    above = integral[column, row] * (1.0 - across) + integral[column + 1, row] * across
    below = integral[column, row + 1] * (1.0 - across) + integral[column + 1, row + 1] * across
    return above * (1.0 - down) + below * down
