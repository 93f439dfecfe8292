"""Points in the cells of regular grids, and who gets a cell's slots when several want them.

The core of every encoder that ties an object to a cell by a point (a keypoint, a centre): `locate`
says which cell, `take_seat` settles collisions by a strict order that the order of the items has no
part in, `arrange` gives the slots of a cell their final order.

While they are dealt out, slots hold seats: the item's number i as -2 - i, so that a seat is never
mistaken for the object index (0 and above) that takes its place at the end, nor for EMPTY.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.jit import inlined_kernel, kernel

EMPTY = -1
ROWS, COLUMNS, FIRST = 0, 1, 2  # columns of `Cells.levels`


class Cells(NamedTuple):
    """L grids over one frame. Cell (row, column) of level l is `FIRST + row * COLUMNS + column`."""

    levels: NDArray[np.int64]  # (L, 3) rows, columns, index of the first cell
    height: np.float32  # of the frame, pixels
    width: np.float32


@inlined_kernel
def locate(value, side, count):  # type: ignore[no-untyped-def]
    """Return the cell of a coordinate in [0, side] and the offset inside it, in [0, 1], float32.

    `count` cells share the side, all float32. A coordinate on the border of two cells belongs to
    the second with offset 0, on the far border of the last to the last with offset 1. Computed as
    `value * count / side`, less the cell; the subtraction is exact.
    """
    place = count if value >= side else min(value * count / side, count)
    cell = min(np.floor(place), count - np.float32(1))
    return np.int64(cell), place - cell


@inlined_kernel
def precedes(i, j, by_cost, cost, label, yx):  # type: ignore[no-untyped-def]
    """Return whether item i comes before item j: by cost if asked, then label, y, x, index.

    The index decides between equals only, so that the order of the items changes nothing else.
    """
    if by_cost and cost[i] != cost[j]:
        return cost[i] < cost[j]
    if label[i] != label[j]:
        return label[i] < label[j]
    if yx[i, 0] != yx[j, 0]:
        return yx[i, 0] < yx[j, 0]
    if yx[i, 1] != yx[j, 1]:
        return yx[i, 1] < yx[j, 1]
    return i < j


@kernel
def take_seat(item, first, count, by_cost, cost, label, yx, slots):  # type: ignore[no-untyped-def]
    """Seat an item in the slots first to first + count, before all that it precedes.

    The seats of such a range are in order, from its first slot on; where all are taken, the last
    one goes without. cost, label (M,), yx (M, 2) belong to items, slots (S,) int32.
    """
    low, high = first, first + count
    while low < high:
        middle = (low + high) // 2
        seat = slots[middle]
        if seat == EMPTY or precedes(item, -2 - seat, by_cost, cost, label, yx):
            high = middle
        else:
            low = middle + 1
    comer = -2 - item
    for slot in range(low, first + count):
        leaver = slots[slot]
        slots[slot] = comer
        if leaver == EMPTY:
            return
        comer = leaver


@kernel
def arrange(first, count, cost, label, yx, slots):  # type: ignore[no-untyped-def]
    """Put the seats of a range in the order of `precedes` without cost; return how many."""
    taken = 0
    while taken < count and slots[first + taken] != EMPTY:
        seat = slots[first + taken]
        slots[first + taken] = EMPTY
        take_seat(-2 - seat, first, taken + 1, False, cost, label, yx, slots)
        taken += 1
    return taken
