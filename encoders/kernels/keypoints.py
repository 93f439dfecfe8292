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
        locate_image(image, cells, rules, points, record)
        targets.state[image] = 0
        targets.offset[image] = 0
        targets.label[image] = 0
        targets.object[image] = EMPTY
        for level in range(cells.levels.shape[0]):
            _seat(image, level, rules, points, record, targets.object[image])
            _write(
                image, level, rules, points, record, targets.state[image], targets.offset[image],
                targets.label[image], targets.object[image],
            )  # fmt: skip
        _settle(image, points, record)


@kernel
def locate_images(first, end, cells, rules, points, record):  # type: ignore[no-untyped-def]
    """Write kind, label, cell, offset and cost of the points of images first to end."""
    for image in range(first, end):
        locate_image(image, cells, rules, points, record)


@kernel
def locate_image(image, cells, rules, points, record):  # type: ignore[no-untyped-def]
    """Write them for one image."""
    count = points.landmarks[image]
    i = points.starts[image]
    content = points.contents[image]
    for k in range(points.objects[image], points.objects[image + 1]):
        for landmark in range(count):
            y, x, visibility = points.yxv[i, 0], points.yxv[i, 1], points.yxv[i, 2]
            record.kind[i] = _kind(
                y, x, visibility, points.crowd[k], rules.skip_hidden, cells.height, cells.width,
                content,
            )  # fmt: skip
            record.label[i] = points.labels[k] if rules.by_object else landmark
            record.yx[i, 0], record.yx[i, 1] = y, x
            for level in range(cells.levels.shape[0]):
                record.slot[level, i] = EMPTY
                _place(i, level, visibility, cells, record)
            i += 1


@kernel
def _kind(y, x, visibility, crowd, skip_hidden, height, width, content):  # type: ignore[no-untyped-def]
    if not visibility > 0:
        return UNLABELLED
    if crowd:
        return CROWD
    if skip_hidden and visibility < VISIBLE:
        return HIDDEN
    if not (np.isfinite(y) and np.isfinite(x)):
        return NOT_FINITE
    if y < 0 or x < 0 or y > height or x > width:
        return OUTSIDE
    if y < content[0] or x < content[1] or y > content[2] or x > content[3]:
        return PADDED
    return MATCHED


@kernel
def _place(i, level, visibility, cells, record):  # type: ignore[no-untyped-def]
    if record.kind[i] != MATCHED:
        record.cell[level, i] = EMPTY
        record.offset[level, i, 0] = 0
        record.offset[level, i, 1] = 0
        record.cost[level, i] = 0
        return
    rows, columns = cells.levels[level, ROWS], cells.levels[level, COLUMNS]
    row, dy = locate(record.yx[i, 0], cells.height, np.float32(rows))
    column, dx = locate(record.yx[i, 1], cells.width, np.float32(columns))
    record.cell[level, i] = cells.levels[level, FIRST] + row * columns + column
    record.offset[level, i, 0], record.offset[level, i, 1] = dy, dx
    # The squared distance to the centre is at most a half, so one more puts hidden points last.
    distance = (dy - HALF) * (dy - HALF) + (dx - HALF) * (dx - HALF)
    record.cost[level, i] = distance + ONE if visibility < VISIBLE else distance


@kernel
def _seat(image, level, rules, points, record, slots):  # type: ignore[no-untyped-def]
    begin, count = points.starts[image], points.landmarks[image]
    cost = record.cost[level]
    for i in range(begin, points.starts[image + 1]):
        if record.cell[level, i] != EMPTY:
            first, size = _range(i, level, (i - begin) % count, rules, record)
            take_seat(i, first, size, cost, record.label, record.yx, slots)


@kernel
def _range(i, level, landmark, rules, record):  # type: ignore[no-untyped-def]
    """Return the first of the slots that a point may have, and their number."""
    first = record.cell[level, i] * rules.slots
    return (first + landmark, 1) if rules.fixed else (first, rules.slots)


@kernel
def _write(image, level, rules, points, record, state, offset, label, slots):  # type: ignore[no-untyped-def]
    """Turn the seats of a level into targets, a range at a time, when its first seat comes up."""
    begin, count = points.starts[image], points.landmarks[image]
    for i in range(begin, points.starts[image + 1]):
        if record.cell[level, i] == EMPTY:
            continue
        first, size = _range(i, level, (i - begin) % count, rules, record)
        if slots[first] != -2 - i:
            continue
        for slot in range(first, first + arrange(first, size, record.label, record.yx, slots)):
            point = -2 - slots[slot]
            state[slot] = 1
            offset[slot, 0] = record.offset[level, point, 0]
            offset[slot, 1] = record.offset[level, point, 1]
            label[slot, record.label[point]] = ONE
            slots[slot] = (point - begin) // count
            record.slot[level, point] = slot


@kernel
def _settle(image, points, record):  # type: ignore[no-untyped-def]
    """Say of the points that got no slot on any level that others took them."""
    for i in range(points.starts[image], points.starts[image + 1]):
        if record.kind[i] == MATCHED:
            record.kind[i] = TAKEN
            for level in range(record.slot.shape[0]):
                if record.slot[level, i] != EMPTY:
                    record.kind[i] = MATCHED
