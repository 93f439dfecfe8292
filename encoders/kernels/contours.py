"""The outer outline of a mask, along the edges of its pixels."""

from __future__ import annotations

import numpy as np

from ytrue.jit import kernel

RIGHT, DOWN, LEFT, UP = 0, 1, 2, 3


@kernel
def count_top_edges(pixels):  # type: ignore[no-untyped-def]
    """Return how many set pixels of (H, W) have no set pixel above them."""
    n = 0
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            n += _is_top(pixels, row, column)
    return n


@kernel
def trace(pixels, yx, starts):  # type: ignore[no-untyped-def]
    """Write the corners of the outer outline of every connected region; return how many regions.

    Pixels that touch at a corner are connected (as OpenCV's findContours has it); holes are left
    out. pixels (H, W) uint8; yx (4 E, 2) float32 and starts (E + 1,) int64 for E top edges: the
    outline of region i are the corners starts[i] to starts[i + 1], clockwise as seen.
    """
    seen = np.zeros(pixels.shape, np.bool_)
    regions = 0
    starts[0] = 0
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            if _is_top(pixels, row, column) and not seen[row, column]:
                end, area = _walk(pixels, row, column, seen, yx, starts[regions])
                if area > 0:  # around a hole the walk is counter-clockwise
                    regions += 1
                    starts[regions] = end
    return regions


@kernel
def _is_set(pixels, row, column):  # type: ignore[no-untyped-def]
    if row < 0 or column < 0 or row >= pixels.shape[0] or column >= pixels.shape[1]:
        return False
    return pixels[row, column] != 0


@kernel
def _is_top(pixels, row, column):  # type: ignore[no-untyped-def]
    return _is_set(pixels, row, column) and not _is_set(pixels, row - 1, column)


@kernel
def _walk(pixels, row, column, seen, yx, n):  # type: ignore[no-untyped-def]
    """Walk once around, set pixels to the right, from the top left corner of (row, column).

    Writes the corners where the direction changes to yx from n on. Returns their end and twice the
    signed area.
    """
    y, x, direction, area = row, column, RIGHT, 0
    while True:
        if direction == RIGHT:
            seen[y, x] = True
            x += 1
            area -= y
        elif direction == DOWN:
            y += 1
        elif direction == LEFT:
            x -= 1
            area += y
        else:
            y -= 1
        turned = _turn(pixels, y, x, direction)
        if turned != direction:
            yx[n, 0], yx[n, 1] = y, x
            n += 1
        direction = turned
        if y == row and x == column and direction == RIGHT:
            return n, area


@kernel
def _turn(pixels, y, x, direction):  # type: ignore[no-untyped-def]
    """Return where to go on at corner (y, x): left where a pixel is ahead there, else on or right."""
    above_left, above_right = _is_set(pixels, y - 1, x - 1), _is_set(pixels, y - 1, x)
    below_left, below_right = _is_set(pixels, y, x - 1), _is_set(pixels, y, x)
    if direction == RIGHT:
        ahead_left, ahead_right = above_right, below_right
    elif direction == DOWN:
        ahead_left, ahead_right = below_right, below_left
    elif direction == LEFT:
        ahead_left, ahead_right = below_left, above_left
    else:
        ahead_left, ahead_right = above_left, above_right
    if ahead_left:
        return (direction + 3) % 4
    return direction if ahead_right else (direction + 1) % 4
