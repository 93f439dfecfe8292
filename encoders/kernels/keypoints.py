"""Keypoints in cells: what `KeypointGridEncoder` writes for every image of a batch.

A point is item i of the batch: the landmarks of the first object, of the second, and so on. Every
level takes every point. The order by which points are served is the distance to the centre of the
cell, hidden ones last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.cells import (
    COLUMNS,
    EMPTY,
    FIRST,
    ROWS,
    arrange,
    locate,
    take_seat,
)
from ytrue.jit import borrowed, kernel

MATCHED, UNLABELLED, HIDDEN, CROWD, NOT_FINITE, OUTSIDE, PADDED, TAKEN = 0, 1, 2, 3, 4, 5, 6, 7

HALF, ONE = np.float32(0.5), np.float32(1)
VISIBLE = 2


class Rules(NamedTuple):
    """The parameters of the encoder, as the kernel sees them."""

    num_classes: int
    slots: int  # in a cell
    fixed: bool  # slot k is for landmark k alone
    by_object: bool  # a point's class is its object's label, not its landmark
    skip_hidden: bool


class Points(NamedTuple):
    """The points of B images one after another, M in all, of N objects."""

    yxv: NDArray[np.float32]  # (M, 3) y, x, visibility
    landmarks: NDArray[np.int64]  # (B,) points of each object
    starts: NDArray[np.int64]  # (B + 1,) first point
    objects: NDArray[np.int64]  # (B + 1,) first object
    labels: NDArray[np.int32]  # (N,)
    crowd: NDArray[np.bool_]  # (N,)
    contents: NDArray[np.float64]  # (B, 4) the part of the frame that is not padding


class Record(NamedTuple):
    """What is written for every point, for `explain` and for statistics."""

    kind: NDArray[np.int8]  # (M,) MATCHED, UNLABELLED, ... as above
    label: NDArray[np.int32]  # (M,) class
    yx: NDArray[np.float32]  # (M, 2)
    cell: NDArray[np.int32]  # (L, M) of all levels' cells, EMPTY where it is in none
    offset: NDArray[np.float32]  # (L, M, 2) inside the cell, y, x
    cost: NDArray[np.float32]  # (L, M) by which points are served
    slot: NDArray[np.int32]  # (L, M) of all levels' slots, EMPTY where it got none


class Targets(NamedTuple):
    """What is written for every slot, S in all."""

    state: NDArray[np.int8]  # (B, S)
    offset: NDArray[np.float32]  # (B, S, 2)
    label: NDArray[np.float32]  # (B, S, C)
    object: NDArray[np.int32]  # (B, S)


@kernel
def encode_images(first, end, cells, rules, points, record, targets):  # type: ignore[no-untyped-def]
    """Write targets and record of the images first to end (exclusive)."""
    cells, rules, points = borrowed(cells), borrowed(rules), borrowed(points)
    record, targets = borrowed(record), borrowed(targets)
    for image in range(first, end):
        _locate(image, cells, rules, points, record)
        targets.state[image] = 0
        targets.offset[image] = 0
        targets.label[image] = 0
        targets.object[image] = EMPTY
        begin, stop = points.starts[image], points.starts[image + 1]
        each = points.landmarks[image]
        for level in range(cells.levels.shape[0]):
            _seat(
                begin, stop, each, rules, record.cell[level], record.cost[level], record.label,
                record.yx, targets.object[image],
            )  # fmt: skip
            _write(
                begin, stop, each, rules, record.cell[level], record.cost[level],
                record.offset[level], record.label, record.yx, record.slot[level],
                targets.state[image], targets.offset[image], targets.label[image],
                targets.object[image],
            )  # fmt: skip
        _settle(begin, stop, record.kind, record.slot)


@kernel
def locate_images(first, end, cells, rules, points, record):  # type: ignore[no-untyped-def]
    """Write kind, label, cell, offset and cost of the points of images first to end."""
    cells, rules = borrowed(cells), borrowed(rules)
    points, record = borrowed(points), borrowed(record)
    for image in range(first, end):
        _locate(image, cells, rules, points, record)


@kernel
def _locate(image, cells, rules, points, record):  # type: ignore[no-untyped-def]
    begin, stop = points.starts[image], points.starts[image + 1]
    _sort_out(
        begin, points.landmarks[image], points.objects[image], points.objects[image + 1], rules,
        cells.height, cells.width, points.contents[image], points.yxv, points.labels, points.crowd,
        record.kind, record.label, record.yx,
    )  # fmt: skip
    for level in range(cells.levels.shape[0]):
        record.slot[level, begin:stop] = EMPTY
        _place(
            begin, stop, cells.levels[level], cells.height, cells.width, points.yxv, record.kind,
            record.cell[level], record.offset[level], record.cost[level],
        )  # fmt: skip


@kernel
def _sort_out(  # type: ignore[no-untyped-def]
    begin, each, first_object, end_object, rules, height, width, content, yxv, labels, crowd,
    kind, label, yx,
):  # fmt: skip
    """Say of every point what it is, before slots are dealt out."""
    i = begin
    for k in range(first_object, end_object):
        for landmark in range(each):
            y, x, visibility = yxv[i, 0], yxv[i, 1], yxv[i, 2]
            label[i] = labels[k] if rules.by_object else landmark
            yx[i, 0], yx[i, 1] = y, x
            if not visibility > 0:
                kind[i] = UNLABELLED
            elif crowd[k]:
                kind[i] = CROWD
            elif rules.skip_hidden and visibility < VISIBLE:
                kind[i] = HIDDEN
            elif not (np.isfinite(y) and np.isfinite(x)):
                kind[i] = NOT_FINITE
            elif y < 0 or x < 0 or y > height or x > width:
                kind[i] = OUTSIDE
            elif y < content[0] or x < content[1] or y > content[2] or x > content[3]:
                kind[i] = PADDED
            else:
                kind[i] = MATCHED
            i += 1


@kernel
def _place(begin, stop, level, height, width, yxv, kind, cell, offset, cost):  # type: ignore[no-untyped-def]
    rows, columns = np.float32(level[ROWS]), np.float32(level[COLUMNS])
    for i in range(begin, stop):
        if kind[i] != MATCHED:
            cell[i] = EMPTY
            offset[i, 0] = 0
            offset[i, 1] = 0
            cost[i] = 0
            continue
        row, dy = locate(yxv[i, 0], height, rows)
        column, dx = locate(yxv[i, 1], width, columns)
        cell[i] = level[FIRST] + row * level[COLUMNS] + column
        offset[i, 0], offset[i, 1] = dy, dx
        # The squared distance to the centre is at most a half: one more puts hidden points last.
        distance = (dy - HALF) * (dy - HALF) + (dx - HALF) * (dx - HALF)
        cost[i] = distance + ONE if yxv[i, 2] < VISIBLE else distance


@kernel
def _seat(begin, stop, each, rules, cell, cost, label, yx, slots):  # type: ignore[no-untyped-def]
    """Deal out the slots of a level: those of its cell, or with fixed slots its landmark's alone."""
    for i in range(begin, stop):
        if cell[i] != EMPTY:
            first = cell[i] * rules.slots
            if rules.fixed:
                take_seat(i, first + (i - begin) % each, 1, True, cost, label, yx, slots)
            else:
                take_seat(i, first, rules.slots, True, cost, label, yx, slots)


@kernel
def _write(  # type: ignore[no-untyped-def]
    begin, stop, each, rules, cell, cost, offset, label, yx, slot_of, state_out, offset_out,
    label_out, slots,
):  # fmt: skip
    """Turn the seats of a level into targets, a cell (or slot) when the holder of its first comes up."""
    for i in range(begin, stop):
        if cell[i] == EMPTY:
            continue
        first, count = cell[i] * rules.slots, rules.slots
        if rules.fixed:
            first, count = first + (i - begin) % each, 1
        if slots[first] != -2 - i:
            continue
        for slot in range(first, first + arrange(first, count, cost, label, yx, slots)):
            point = -2 - slots[slot]
            state_out[slot] = 1
            offset_out[slot, 0], offset_out[slot, 1] = offset[point, 0], offset[point, 1]
            label_out[slot, label[point]] = ONE
            slots[slot] = (point - begin) // each
            slot_of[point] = slot


@kernel
def _settle(begin, stop, kind, slot_of):  # type: ignore[no-untyped-def]
    """Say of the points that got no slot on any level that others took them."""
    for i in range(begin, stop):
        if kind[i] == MATCHED:
            kind[i] = TAKEN
            for level in range(slot_of.shape[0]):
                if slot_of[level, i] != EMPTY:
                    kind[i] = MATCHED
