"""The cells of a level that are nearest to a point: those of a disc instead of a sort of all."""

import math

from ytrue.encoders.kernels.windows import cells as cells_within
from ytrue.jit import kernel


@kernel
def nearest_cells(y, x, rows, columns, stride_y, stride_x, offset, top_k, cells, distances):  # type: ignore[no-untyped-def]
    """Write the `top_k` cells whose centres are nearest to (y, x), by rising index; return how many.

    Distances are squared and in float64, `dy * dy + dx * dx` with `dy = (row + offset) * stride_y - y`;
    of equal ones the cell of lower index is nearer. cells (C,) int64 and distances (2, C) float64, where
    C is at least rows * columns, are overwritten.

    A cell's centre is at most half a diagonal from any point of the cell, so a disc holds the centres
    of as many cells as fill the disc that is half a diagonal smaller; at the grid's border fewer.
    """
    wanted = min(top_k, rows * columns)
    radius = math.sqrt(wanted * stride_y * stride_x / math.pi) + 0.5 * math.hypot(
        stride_y, stride_x
    )
    count = 0
    while count < wanted:
        count = _gather(
            y, x, rows, columns, stride_y, stride_x, offset, radius, cells, distances[0]
        )
        radius *= 1.5
    if count > wanted:
        _keep(wanted, count, cells, distances[0], distances[1])
    return wanted


@kernel
def _gather(y, x, rows, columns, stride_y, stride_x, offset, radius, cells, distances):  # type: ignore[no-untyped-def]
    """Write every cell centred within `radius`, by rising index, and its distance; return how many."""
    most, n = radius * radius, 0
    top, bottom = cells_within(y, radius, 1.0 / stride_y, offset, rows)
    left, right = cells_within(x, radius, 1.0 / stride_x, offset, columns)
    for row in range(top, bottom):
        off_y = (row + offset) * stride_y - y
        for column in range(left, right):
            off_x = (column + offset) * stride_x - x
            distance = off_y * off_y + off_x * off_x
            cells[n], distances[n] = row * columns + column, distance
            n += distance <= most
    return n


@kernel
def _keep(wanted, count, cells, distances, smallest):  # type: ignore[no-untyped-def]
    """Keep the `wanted` nearest of `count` cells in their order; overwrites `smallest` (C,)."""
    for i in range(count):
        distance, at = distances[i], min(i, wanted)
        if at == wanted:
            if distance >= smallest[wanted - 1]:
                continue
            at -= 1
        while at > 0 and smallest[at - 1] > distance:
            smallest[at] = smallest[at - 1]
            at -= 1
        smallest[at] = distance
    last, as_far = smallest[wanted - 1], 0
    for i in range(wanted):
        as_far += smallest[i] == last
    n = 0
    for i in range(count):
        if n == wanted or distances[i] > last:
            continue
        if distances[i] == last:
            if as_far == 0:
                continue
            as_far -= 1
        cells[n] = cells[i]
        n += 1
