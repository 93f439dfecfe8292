"""Boxes in the cells of their centres: what `YoloEncoder` writes for every image of a batch.

A place is an anchor of a cell: level, row, column, slot. While an image is encoded, `object` holds
who has a place and `state` by which right (WISHED before SECOND before SPREAD); only at the end are
all of these positive. Nothing is searched but the places an object can ask for, and, for the ignore
rule, the windows of anchors that can overlap it enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.cells import COLUMNS, FIRST, ROWS, locate
from ytrue.encoders.kernels.objects import (
    IGNORE,
    MATCHED,
    POSITIVE,
    cut_to_frame,
    ignore_crowds,
    kind_of,
    outranks,
    sides_of,
)
from ytrue.encoders.kernels.overlap import centred_iou
from ytrue.encoders.kernels.windows import Places, find_by_iou
from ytrue.jit import borrowed, kernel

FREE, WISHED, SECOND, SPREAD = 0, 1, 2, 3
TALL, WIDE = 0, 1  # of an anchor's sides

HALF, ONE = np.float32(0.5), np.float32(1)


class Rules(NamedTuple):
    """The parameters of the encoder, as the kernel sees them."""

    num_classes: int
    by_ratio: bool  # an object asks for every anchor it fits, not for the best one
    ratio: float
    neighbours: int
    smaller_wins: bool
    ignore_iou: np.float32
    crowd_ignores: bool
    crowd_ioa: np.float32
    height: float  # of the frame, pixels
    width: float


class Record(NamedTuple):
    """What is written for every object, N in all, on L levels, for `explain`."""

    kind: NDArray[np.int8]  # (N,) as `kind_of` has it
    box: NDArray[np.float32]  # (N, 4) inside the frame; 0 where it takes no part
    cell: NDArray[np.int32]  # (L, N) of all levels' cells
    offset: NDArray[np.float32]  # (L, N, 2) of the centre in its cell, y, x
    best_iou: NDArray[np.float64]  # (N,) of box and anchor on one centre
    best_place: NDArray[np.int32]  # (N,) -1 without
    positives: NDArray[np.int32]  # (N,) places it has
    second: NDArray[np.bool_]  # (N,) whether it has the best free place instead of its wishes
    refused: NDArray[np.int32]  # (N,) places it asked for that others have


@kernel
def encode_images(  # type: ignore[no-untyped-def]
    first, end, cells, sides, anchors, lattice, rules, objects, targets, record
):
    """Write targets and record of the images first to end (exclusive).

    sides (L, A, 2) float64 heights and widths of the anchors; anchors (P, 4) float32 their boxes;
    lattice their arrangement. Returns an object whose label is no class, -1 where there is none.
    """
    crowded = objects.crowd[objects.starts[first] : objects.starts[end]].any()
    room = anchors.shape[0] + 1 if crowded or rules.ignore_iou < 1 else 1
    places, overlaps = np.empty((3, room), np.uint32), np.empty(room, anchors.dtype)
    found = Places(places[0], places[1], places[2])
    return _encode_borrowed(
        first, end, cells, sides, anchors, lattice, rules, objects, targets, record, found, overlaps
    )


@kernel
def _encode_borrowed(  # type: ignore[no-untyped-def]
    first, end, cells, sides, anchors, lattice, rules, objects, targets, record, found, overlaps
):
    cells, sides, anchors = borrowed(cells), borrowed(sides), borrowed(anchors)
    lattice, rules, objects = borrowed(lattice), borrowed(rules), borrowed(objects)
    targets, record = borrowed(targets), borrowed(record)
    found, overlaps = borrowed(found), borrowed(overlaps)
    labels, bad = objects.labels, -1
    for image in range(first, end):
        state, label = targets.state[image], targets.label[image]
        box, owner = targets.box[image], targets.object[image]
        begin, stop = objects.starts[image], objects.starts[image + 1]
        # Each array is filled right before it is used, while it is in the cache.
        owner[:] = -1
        state[:] = FREE
        bad = max(bad, _sort_out(begin, stop, cells, sides, rules, objects, record))
        _ask(begin, stop, sides, rules, labels, record, state, owner)
        _seat_losers(begin, stop, sides, rules, labels, record, state, owner)
        if rules.neighbours > 0:
            _spread(begin, stop, cells, sides, rules, labels, record, state, owner)
        label[:] = -1
        box[:] = 0
        _write(begin, stop, cells, sides, rules, labels, record, state, label, box, owner)
        if rules.ignore_iou < 1:
            _ignore_similar(begin, stop, lattice, rules, record, state, found, overlaps)
        if rules.crowd_ignores:
            ignore_crowds(
                begin, stop, anchors, lattice, rules, objects, record, state, found.anchor
            )
    return bad


@kernel
def _sort_out(begin, stop, cells, sides, rules, objects, record):  # type: ignore[no-untyped-def]
    """Say what every object is, cut it to the frame, find its cells and its best anchor."""
    boxes, labels, crowd = objects.boxes, objects.labels, objects.crowd
    bad = -1
    for k in range(begin, stop):
        if labels[k] < 0 or labels[k] >= rules.num_classes:
            bad = k
        record.best_iou[k] = 0.0
        record.best_place[k] = -1
        record.positives[k] = 0
        record.second[k] = False
        record.refused[k] = 0
        record.box[k] = 0
        record.kind[k] = kind_of(
            boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], crowd[k], False,
            rules.height, rules.width,
        )  # fmt: skip
        if record.kind[k] == MATCHED:
            cut_to_frame(boxes[k], cells.height, cells.width, record.box[k])
            _place(k, cells, sides, record)
    return bad


@kernel
def _place(k, cells, sides, record):  # type: ignore[no-untyped-def]
    y = record.box[k, 0] * HALF + record.box[k, 2] * HALF
    x = record.box[k, 1] * HALF + record.box[k, 3] * HALF
    for level in range(cells.levels.shape[0]):
        rows, columns = cells.levels[level, ROWS], cells.levels[level, COLUMNS]
        row, dy = locate(y, cells.height, np.float32(rows))
        column, dx = locate(x, cells.width, np.float32(columns))
        record.cell[level, k] = cells.levels[level, FIRST] + row * columns + column
        record.offset[level, k, 0], record.offset[level, k, 1] = dy, dx
        for slot in range(sides.shape[1]):
            overlap = _fit(record.box, k, sides, level, slot)
            if overlap > record.best_iou[k] or record.best_place[k] < 0:
                record.best_iou[k] = overlap
                record.best_place[k] = record.cell[level, k] * sides.shape[1] + slot


@kernel
def _fit(boxes, k, sides, level, slot):  # type: ignore[no-untyped-def]
    """Return the IoU that box and anchor have when their centres coincide, float64."""
    height, width = sides_of(boxes, k)
    return centred_iou(height, width, sides[level, slot, TALL], sides[level, slot, WIDE])


@kernel
def _fits(boxes, k, sides, level, slot, ratio):  # type: ignore[no-untyped-def]
    height, width = sides_of(boxes, k)
    y, x = height / sides[level, slot, TALL], width / sides[level, slot, WIDE]
    return max(y, 1.0 / y) < ratio and max(x, 1.0 / x) < ratio


@kernel
def _claim(k, place, right, begin, rules, labels, record, state, owner):  # type: ignore[no-untyped-def]
    """Give object k a place that is free, or held by the same right by one that it beats."""
    holder = -1
    if state[place] != FREE:
        holder = begin + owner[place]
        beaten = state[place] == right and outranks(
            k, holder, rules.smaller_wins, record.box, labels
        )
        if not beaten:
            record.refused[k] += 1
            return
        record.positives[holder] -= 1
        record.refused[holder] += 1
    state[place] = right
    owner[place] = k - begin
    record.positives[k] += 1


@kernel
def _ask(begin, stop, sides, rules, labels, record, state, owner):  # type: ignore[no-untyped-def]
    """Let every object ask for its best anchor, or for every anchor it fits."""
    per_cell = sides.shape[1]
    for k in range(begin, stop):
        if record.kind[k] != MATCHED:
            continue
        if not rules.by_ratio:
            place = record.best_place[k]
            _claim(k, place, WISHED, begin, rules, labels, record, state, owner)
            continue
        for level in range(sides.shape[0]):
            for slot in range(per_cell):
                if _fits(record.box, k, sides, level, slot, rules.ratio):
                    place = record.cell[level, k] * per_cell + slot
                    _claim(k, place, WISHED, begin, rules, labels, record, state, owner)


@kernel
def _seat_losers(begin, stop, sides, rules, labels, record, state, owner):  # type: ignore[no-untyped-def]
    """Give who has nothing the best place of its cells that nobody wished for.

    Losers ask, in any order, for the best place that would take them; its holder leaves for one
    that beats it and asks again. All places rank objects alike, so that the outcome is that of
    serving the losers by rank.
    """
    for start in range(begin, stop):
        if record.kind[start] != MATCHED or record.positives[start] > 0:
            continue
        k = start
        while k >= 0:
            place = _best_open(k, begin, sides, rules, labels, record, state, owner)
            if place < 0:
                break
            loser = -1
            if state[place] == SECOND:
                loser = begin + owner[place]
                record.positives[loser] = 0
                record.second[loser] = False
            state[place] = SECOND
            owner[place] = k - begin
            record.positives[k] = 1
            record.second[k] = True
            k = loser


@kernel
def _best_open(k, begin, sides, rules, labels, record, state, owner):  # type: ignore[no-untyped-def]
    """Return the place of highest IoU in the cells of object k that would take it, -1 without."""
    best, best_place = -1.0, -1
    for level in range(sides.shape[0]):
        for slot in range(sides.shape[1]):
            place = record.cell[level, k] * sides.shape[1] + slot
            if state[place] == WISHED:
                continue
            overlap = _fit(record.box, k, sides, level, slot)
            if overlap <= best:
                continue
            if state[place] == FREE or outranks(
                k, begin + owner[place], rules.smaller_wins, record.box, labels
            ):
                best, best_place = overlap, place
    return best_place


@kernel
def _steps(k, level, cells, neighbours, record):  # type: ignore[no-untyped-def]
    """Return the steps, in rows and in columns, to the neighbours that share the object; 0 for none.

    The neighbours are those next to the centre's half of the cell, inside the grid.
    """
    rows, columns = cells.levels[level, ROWS], cells.levels[level, COLUMNS]
    row, column = divmod(record.cell[level, k] - cells.levels[level, FIRST], columns)
    dy, dx = record.offset[level, k, 0], record.offset[level, k, 1]
    down, right = 0, 0
    if dy < HALF and row > 0:
        down = -1
    elif dy > HALF and row < rows - 1:
        down = 1
    if dx < HALF and column > 0:
        right = -1
    elif dx > HALF and column < columns - 1:
        right = 1
    if neighbours == 1 and down != 0 and right != 0:
        if min(dx, ONE - dx) < min(dy, ONE - dy):
            down = 0
        else:
            right = 0
    return down, right


@kernel
def _spread(begin, stop, cells, sides, rules, labels, record, state, owner):  # type: ignore[no-untyped-def]
    """Let every object ask for the anchors it has also in the neighbours of its cell."""
    per_cell = sides.shape[1]
    for k in range(begin, stop):
        if record.kind[k] != MATCHED or record.positives[k] == 0:
            continue
        for level in range(sides.shape[0]):
            down, right = _steps(k, level, cells, rules.neighbours, record)
            across = down * cells.levels[level, COLUMNS] * per_cell
            for slot in range(per_cell):
                place = record.cell[level, k] * per_cell + slot
                held = state[place] == WISHED or state[place] == SECOND
                if not held or owner[place] != k - begin:
                    continue
                if down != 0:
                    _claim(k, place + across, SPREAD, begin, rules, labels, record, state, owner)
                if right != 0:
                    _claim(
                        k, place + right * per_cell, SPREAD, begin, rules, labels, record,
                        state, owner,
                    )  # fmt: skip


@kernel
def _write(begin, stop, cells, sides, rules, labels, record, state, label, box, owner):  # type: ignore[no-untyped-def]
    """Turn the places that objects have into targets."""
    per_cell = sides.shape[1]
    for k in range(begin, stop):
        if record.positives[k] == 0:
            continue
        for level in range(sides.shape[0]):
            down, right = 0, 0
            if rules.neighbours > 0:
                down, right = _steps(k, level, cells, rules.neighbours, record)
            columns = cells.levels[level, COLUMNS]
            for slot in range(per_cell):
                place = record.cell[level, k] * per_cell + slot
                if owner[place] == k - begin:
                    _write_one(
                        k, level, slot, place, 0, 0, sides, labels, record, state, label, box
                    )
                beside = place + down * columns * per_cell
                if down != 0 and owner[beside] == k - begin:
                    _write_one(
                        k, level, slot, beside, down, 0, sides, labels, record, state, label, box
                    )
                beside = place + right * per_cell
                if right != 0 and owner[beside] == k - begin:
                    _write_one(
                        k, level, slot, beside, 0, right, sides, labels, record, state, label, box
                    )


@kernel
def _write_one(k, level, slot, place, down, right, sides, labels, record, state, label, box):  # type: ignore[no-untyped-def]
    height, width = sides_of(record.box, k)
    state[place] = POSITIVE
    label[place] = labels[k]
    box[place, 0] = record.offset[level, k, 0] - np.float32(down)
    box[place, 1] = record.offset[level, k, 1] - np.float32(right)
    box[place, 2] = np.log(height / sides[level, slot, TALL])
    box[place, 3] = np.log(width / sides[level, slot, WIDE])


@kernel
def _ignore_similar(begin, stop, lattice, rules, record, state, found, overlaps):  # type: ignore[no-untyped-def]
    """Ignore negatives whose anchor has an IoU above the threshold with an object."""
    least, none = np.float64(rules.ignore_iou), overlaps.dtype.type(0)
    for k in range(begin, stop):
        if record.kind[k] != MATCHED:
            continue
        count, _ = find_by_iou(record.box, k, lattice, least, none, found, overlaps)
        for i in range(count):
            anchor = found.anchor[i]
            if overlaps[i] > rules.ignore_iou and state[anchor] != POSITIVE:
                state[anchor] = IGNORE
