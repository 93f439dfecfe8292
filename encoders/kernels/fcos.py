"""Points in boxes: what `FCOSEncoder` writes for every image of a batch.

Of each level an object visits the window of points that can be its own, a rectangle around its
centre: no point outside has a distance to each border in the level's range. A point that several
objects want holds the smallest of those seen so far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.cellcentres import (
    FIRST_X,
    FIRST_Y,
    columns_within,
    ignore_in_crowds,
    ignore_in_padding,
    rows_within,
)
from ytrue.encoders.kernels.cells import COLUMNS, FIRST
from ytrue.encoders.kernels.objects import (
    MATCHED,
    NEGATIVE,
    POSITIVE,
    cut_to_frame,
    kind_of,
    sides_of,
)
from ytrue.encoders.kernels.windows import CELL_MARGIN
from ytrue.jit import borrowed, kernel

ABOVE, UP_TO, RADIUS, STRIDE = 0, 1, 2, 3  # columns of `Rules.levels`
TOP, LEFT, BOTTOM, RIGHT = 0, 1, 2, 3  # of `Targets.box`

HALF = np.float32(0.5)


class Rules(NamedTuple):
    """The parameters of the encoder, as the kernel sees them."""

    levels: NDArray[np.float32]  # (L, 4) pixels: range of distances, centre sampling, stride
    num_classes: int
    crowd_ignores: bool
    padding_ignores: bool
    height: np.float32  # of the frame, pixels
    width: np.float32


class Targets(NamedTuple):
    """What is written for every point, P in all."""

    state: NDArray[np.int8]  # (B, P)
    label: NDArray[np.int32]  # (B, P)
    box: NDArray[np.float32]  # (B, P, 4)
    centerness: NDArray[np.float32]  # (B, P)
    object: NDArray[np.int32]  # (B, P)


class Record(NamedTuple):
    """What is written for every object, N in all, for `explain`."""

    kind: NDArray[np.int8]  # (N,) as `kind_of` has it
    box: NDArray[np.float32]  # (N, 4) inside the frame; 0 where it takes no part
    area: NDArray[np.float32]  # (N,) of that
    nearest: NDArray[np.int32]  # (N,) of the points it asked for, the nearest to its centre, or -1
    positives: NDArray[np.int32]  # (N,) points it has
    refused: NDArray[np.int32]  # (N,) points it asked for that others have


@kernel
def encode_images(first, end, centres, rules, objects, targets, record):  # type: ignore[no-untyped-def]
    """Write targets and record of the images first to end (exclusive).

    Returns an object whose label is no class, -1 where there is none.
    """
    centres, rules, objects = borrowed(centres), borrowed(rules), borrowed(objects)
    targets, record, bad = borrowed(targets), borrowed(record), -1
    for image in range(first, end):
        state, label, owner = targets.state[image], targets.label[image], targets.object[image]
        box, centerness = targets.box[image], targets.centerness[image]
        begin, stop = objects.starts[image], objects.starts[image + 1]
        state[:] = NEGATIVE
        label[:] = -1
        owner[:] = -1
        centerness[:] = 0
        box[:] = 0
        for k in range(begin, stop):
            if not _sort_out(k, rules, objects, record):
                bad = k
            elif record.kind[k] == MATCHED:
                _ask(
                    k, begin, centres, rules, objects.labels, record,
                    state, label, box, centerness, owner,
                )  # fmt: skip
        if rules.crowd_ignores:
            ignore_in_crowds(begin, stop, centres, objects, record.kind, state)
        if rules.padding_ignores:
            ignore_in_padding(centres, objects.contents[image], state)
    return bad


@kernel
def _sort_out(k, rules, objects, record):  # type: ignore[no-untyped-def]
    """Say what object k is and cut it to the frame; return whether its label is a class."""
    boxes, inside = objects.boxes, record.box[k]
    inside[:] = 0
    record.area[k], record.nearest[k] = 0, -1
    record.positives[k], record.refused[k] = 0, 0
    record.kind[k] = kind_of(
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], objects.crowd[k], False,
        rules.height, rules.width,
    )  # fmt: skip
    if record.kind[k] == MATCHED:
        cut_to_frame(boxes[k], rules.height, rules.width, inside)
        record.area[k] = (inside[2] - inside[0]) * (inside[3] - inside[1])
    return 0 <= objects.labels[k] < rules.num_classes


@kernel
def _ask(  # type: ignore[no-untyped-def]
    k, begin, centres, rules, labels, record, state, label, box, centerness, owner
):
    """Give object k the points inside it, of its size and near its centre, that it gets."""
    edges, levels = record.box[k], centres.levels
    y_min, x_min, y_max, x_max = edges[0], edges[1], edges[2], edges[3]
    centre_y, centre_x = y_min * HALF + y_max * HALF, x_min * HALF + x_max * HALF
    tall, wide = sides_of(record.box, k)
    half_y, half_x = 0.5 * tall, 0.5 * wide
    nearest = np.float32(np.inf)
    for level in range(levels.shape[0]):
        above, up_to = rules.levels[level, ABOVE], rules.levels[level, UP_TO]
        radius, stride = rules.levels[level, RADIUS], rules.levels[level, STRIDE]
        # From a point at a distance d off the centre the farther border is half a side plus d away.
        reach_y, reach_x = min(half_y, radius, up_to - half_y), min(half_x, radius, up_to - half_x)
        if max(half_y + reach_y, half_x + reach_x) + CELL_MARGIN * stride <= above:
            continue
        top, bottom = rows_within(centres, level, centre_y, reach_y)
        left, right = columns_within(centres, level, centre_x, reach_x)
        for row in range(top, bottom):
            y = centres.y[levels[level, FIRST_Y] + row]
            to_top, to_bottom = y - y_min, y_max - y
            off_y = abs(y - centre_y)
            near_y, far_y = min(to_top, to_bottom), max(to_top, to_bottom)
            if not (near_y > 0 and off_y < radius and far_y <= up_to):
                continue
            at = levels[level, FIRST] + row * levels[level, COLUMNS]
            for column in range(left, right):
                x = centres.x[levels[level, FIRST_X] + column]
                to_left, to_right = x - x_min, x_max - x
                off_x = abs(x - centre_x)
                near_x, far_x = min(to_left, to_right), max(to_left, to_right)
                inside = near_x > 0 and off_x < radius
                if not (inside and far_x <= up_to and max(far_y, far_x) > above):
                    continue
                point, off = at + column, max(off_y, off_x)
                if off < nearest:
                    nearest = off
                    record.nearest[k] = point
                if not _claim(k, point, begin, record, owner):
                    continue
                state[point], label[point] = POSITIVE, labels[k]
                box[point, TOP], box[point, LEFT] = to_top / stride, to_left / stride
                box[point, BOTTOM], box[point, RIGHT] = to_bottom / stride, to_right / stride
                centerness[point] = np.sqrt((near_x / far_x) * (near_y / far_y))


@kernel
def _claim(k, point, begin, record, owner):  # type: ignore[no-untyped-def]
    """Give object k a point that is free or a larger object's; return whether it has it now."""
    if owner[point] >= 0:
        holder = begin + owner[point]
        if not record.area[k] < record.area[holder]:  # as large: the lower index has it
            record.refused[k] += 1
            return False
        record.positives[holder] -= 1
        record.refused[holder] += 1
    record.positives[k] += 1
    owner[point] = k - begin
    return True
