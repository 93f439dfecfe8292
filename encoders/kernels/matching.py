"""Boxes on anchors: DESIGN's rules 1 to 6 for every image of a batch, windows instead of a matrix.

While an image is matched, its own target arrays hold the intermediate results, so that nothing is
allocated per anchor: `state` and `object` hold what rules 1 and 2 say, `label` the object an anchor
is reserved for. `_finish` turns them into targets; the largest array is filled only then, so that
matching stays in the processor's cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.coding import encode_centres, encode_corners
from ytrue.encoders.kernels.jit import kernel
from ytrue.encoders.kernels.lattice import COLUMNS, FIRST, PER_CELL, ROWS
from ytrue.encoders.kernels.overlap import area, intersection, share_of_pixels
from ytrue.encoders.kernels.windows import (
    ANY_OVERLAP,
    find_by_iou,
    find_by_share,
    has_extent,
    highest_iou,
)

POSITIVE, NEGATIVE, IGNORE = 1, 0, -1
FORCE_NONE, FORCE_GREEDY, FORCE_ARGMAX = 0, 1, 2
PADDING_NEGATIVE, PADDING_IGNORE, PADDING_OVERRIDES = 0, 1, 2
MATCHED, CROWD, NO_AREA, NOT_FINITE, OUTSIDE, PADDED = 0, 1, 2, 3, 4, 5

# Sums over an integral image round in the sixteenth digit: full cover is still full cover.
MASK_MARGIN = 1.0 - 1e-9


class Rules(NamedTuple):
    """The numbers of a matching rule; those marked T have the dtype of the anchors."""

    positive_iou: Any  # T
    negative_iou: Any  # T
    epsilon: Any  # T, added to the union
    min_force_iou: Any  # T
    force: int
    match_degenerate: bool  # also objects without area or outside, as some peers do
    crowd_ignores: bool
    crowd_ioa: Any  # T
    padding: int
    corner_coder: bool
    coder_epsilon: Any  # T
    coder_std: NDArray[Any]  # (4,) T
    height: float  # of the frame, pixels
    width: float
    num_classes: int


class Objects(NamedTuple):
    """The objects of B images one after another, N in all; M of them are crowds with a mask."""

    boxes: NDArray[Any]  # (N, 4) T
    labels: NDArray[Any]  # (N,) int32
    crowd: NDArray[Any]  # (N,) bool
    starts: NDArray[Any]  # (B + 1,) int64
    contents: NDArray[Any]  # (B, 4) float64, the part of the frame that is not padding
    mask_of: NDArray[Any]  # (N,) int64, row of `integrals`, -1 without a mask
    integrals: NDArray[Any]  # (M, H + 1, W + 1) int64


class Targets(NamedTuple):
    """What is written for every anchor."""

    state: NDArray[Any]  # (B, A) int8
    label: NDArray[Any]  # (B, A) int32
    box: NDArray[Any]  # (B, A, 4) float32
    object: NDArray[Any]  # (B, A) int32


class Record(NamedTuple):
    """What is written for every object, for `explain`."""

    kind: NDArray[Any]  # (N,) int8: MATCHED, CROWD, ... as above
    best_iou: NDArray[Any]  # (N,) T
    best_anchor: NDArray[Any]  # (N,) int32
    reserved: NDArray[Any]  # (N,) int32, the anchor reserved for it, -1 without
    reserved_iou: NDArray[Any]  # (N,) T
    positives: NDArray[Any]  # (N,) int32
    forced: NDArray[Any]  # (N,) int32
    stolen: NDArray[Any]  # (N,) int32


@kernel
def match_images(first, end, anchors, lattice, rules, objects, targets, record):  # type: ignore[no-untyped-def]
    """Write targets and record of the images first to end (exclusive).

    Returns an object whose label is no class, -1 where there is none.
    """
    found = np.empty(anchors.shape[0] + 1, np.int32)
    overlaps = np.empty(anchors.shape[0] + 1, anchors.dtype)
    claimed = np.empty(anchors.shape[0] + 1, np.int32)
    highest = np.empty(anchors.shape[0], anchors.dtype)
    bad = -1
    for image in range(first, end):
        state, label = targets.state[image], targets.label[image]
        box, owner = targets.box[image], targets.object[image]
        begin, stop = objects.starts[image], objects.starts[image + 1]
        state[:] = 0
        label[:] = -1
        owner[:] = -1
        bad = max(bad, _classify(begin, stop, rules, objects, record))
        n = _overlap(
            begin, stop, lattice, rules, objects.boxes, record, state, owner, highest,
            found, overlaps, claimed,
        )  # fmt: skip
        if rules.force == FORCE_GREEDY:
            _reserve_greedily(
                begin, stop, lattice, rules, objects.boxes, record, label, found, overlaps
            )
        elif rules.force == FORCE_ARGMAX:
            _reserve_argmax(begin, stop, rules, record, label)
        box[:] = 0
        _finish(
            begin, stop, anchors, rules, objects.boxes, objects.labels, record, state, label, box,
            owner, claimed, n,
        )  # fmt: skip
        if rules.crowd_ignores:
            _ignore_crowds(begin, stop, anchors, lattice, rules, objects, record, state, found)
        if rules.padding != PADDING_NEGATIVE:
            content = objects.contents[image]
            _ignore_padding(lattice, rules, content, state, label, box, owner, begin, record)
    return bad


@kernel
def _classify(begin, stop, rules, objects, record):  # type: ignore[no-untyped-def]
    bad = -1
    for k in range(begin, stop):
        if objects.labels[k] < 0 or objects.labels[k] >= rules.num_classes:
            bad = k
        record.best_iou[k] = 0
        record.best_anchor[k] = -1
        record.reserved[k] = -1
        record.reserved_iou[k] = 0
        record.positives[k] = 0
        record.forced[k] = 0
        record.stolen[k] = 0
        record.kind[k] = _kind(k, rules, objects)
    return bad


@kernel
def _kind(k, rules, objects):  # type: ignore[no-untyped-def]
    boxes = objects.boxes
    for edge in range(4):
        if not np.isfinite(boxes[k, edge]):
            return NOT_FINITE
    if objects.crowd[k]:
        return CROWD
    if rules.match_degenerate:
        return MATCHED
    if not (boxes[k, 2] > boxes[k, 0] and boxes[k, 3] > boxes[k, 1]):
        return NO_AREA
    inside_y = boxes[k, 2] > 0 and boxes[k, 0] < rules.height
    inside_x = boxes[k, 3] > 0 and boxes[k, 1] < rules.width
    return MATCHED if inside_y and inside_x else OUTSIDE


@kernel
def _overlap(  # type: ignore[no-untyped-def]
    begin, stop, lattice, rules, boxes, record, state, owner, highest, found, overlaps, claimed
):
    """Rules 1 and 2: each anchor's object of highest IoU; each object's best anchor on the way.

    Returns how many anchors are positive; these stand in `claimed`. `highest` (A,) T holds the
    owner's IoU and is read only where there is an owner.
    """
    negative_iou, positive_iou = np.float64(rules.negative_iou), rules.positive_iou
    n = 0
    for k in range(begin, stop):
        if record.kind[k] != MATCHED or not has_extent(boxes, k):
            continue
        count = find_by_iou(boxes, k, lattice, negative_iou, rules.epsilon, found, overlaps)
        if count == 0:
            count = _search(boxes, k, lattice, rules.epsilon, found, overlaps)
        best = _highest(found, overlaps, count)
        if best >= 0:
            record.best_anchor[k], record.best_iou[k] = found[best], overlaps[best]
        if best < 0 or overlaps[best] < rules.negative_iou:
            continue
        # Choices instead of branches: which way they go is close to random.
        enough = 0
        for i in range(count):
            anchor, overlap = found[i], overlaps[i]
            positive = (overlap >= positive_iou) | (state[anchor] == POSITIVE)
            state[anchor] = POSITIVE if positive else IGNORE
            found[enough], overlaps[enough] = anchor, overlap
            enough += overlap >= positive_iou
        mine = np.int32(k - begin)
        for i in range(enough):
            anchor, overlap = found[i], overlaps[i]
            current, held = owner[anchor], highest[anchor]
            better = (current < 0) | (overlap > held)
            claimed[n] = anchor
            n += current < 0
            highest[anchor] = overlap if better else held
            owner[anchor] = mine if better else current
    return n


@kernel
def _highest(found, overlaps, count):  # type: ignore[no-untyped-def]
    """Return the place of the highest overlap, of equal ones the lowest anchor; -1 without."""
    if count == 0:
        return -1
    highest = overlaps[0]
    for i in range(1, count):
        highest = overlaps[i] if overlaps[i] > highest else highest
    best = -1
    for i in range(count):
        if overlaps[i] == highest and (best < 0 or found[i] < found[best]):
            best = i
    return best


@kernel
def _search(boxes, k, lattice, epsilon, found, overlaps):  # type: ignore[no-untyped-def]
    """Find anchors that surely include the best of an object that overlaps none enough."""
    threshold = highest_iou(boxes, k, lattice.sizes) * 0.9
    while True:
        count = find_by_iou(boxes, k, lattice, threshold, epsilon, found, overlaps)
        if count > 0 or threshold == ANY_OVERLAP:
            return count
        threshold = _lower(threshold)


@kernel
def _lower(threshold):  # type: ignore[no-untyped-def]
    return threshold * 0.6 if threshold > 1e-6 else ANY_OVERLAP


@kernel
def _reserve_greedily(begin, stop, lattice, rules, boxes, record, holder, found, overlaps):  # type: ignore[no-untyped-def]
    """Rule 3: the pairs by falling IoU, each object and each anchor once.

    Objects propose, in any order, to the best anchor that would not refuse them; an anchor leaves
    its holder for a better pair, whose loser proposes again. Objects and anchors rank pairs by one
    strict order (IoU, then lower object, then lower anchor), so there is exactly one stable
    outcome, and taking the pairs by falling rank gives the same.
    """
    reserved, reserved_iou = record.reserved, record.reserved_iou
    for start in range(begin, stop):
        k = start
        while k >= 0:
            anchor, overlap = record.best_anchor[k], record.best_iou[k]
            if anchor < 0 or overlap <= rules.min_force_iou:
                break
            if not _accepts(anchor, overlap, k, begin, holder, reserved_iou):
                best = _best_unrefused(
                    boxes, k, overlap, begin, lattice, rules, holder, reserved_iou, found, overlaps
                )
                if best < 0:
                    break
                anchor, overlap = found[best], overlaps[best]
            loser = -1
            if holder[anchor] >= 0:
                loser = begin + holder[anchor]
                reserved[loser] = -1
            holder[anchor] = k - begin
            reserved[k], reserved_iou[k] = anchor, overlap
            k = loser


@kernel
def _accepts(anchor, overlap, k, begin, holder, reserved_iou):  # type: ignore[no-untyped-def]
    rival = holder[anchor]
    if rival < 0:
        return True
    held = reserved_iou[begin + rival]
    return overlap > held or (overlap == held and k < begin + rival)


@kernel
def _best_unrefused(  # type: ignore[no-untyped-def]
    boxes, k, highest, begin, lattice, rules, holder, reserved_iou, found, overlaps
):
    """Return the place in `found` of the best anchor that would take object k; -1 without."""
    threshold = np.float64(highest) * 0.9
    while True:
        count = find_by_iou(boxes, k, lattice, threshold, rules.epsilon, found, overlaps)
        n = 0
        for i in range(count):
            above = overlaps[i] > rules.min_force_iou
            if above and _accepts(found[i], overlaps[i], k, begin, holder, reserved_iou):
                found[n], overlaps[n] = found[i], overlaps[i]
                n += 1
        if n > 0 or threshold == ANY_OVERLAP:
            return _highest(found, overlaps, n)
        threshold = _lower(threshold)


@kernel
def _reserve_argmax(begin, stop, rules, record, holder):  # type: ignore[no-untyped-def]
    """google/automl's rule: each object's best anchor, the first anchor if it overlaps none.

    Reference: object_detection/argmax_matcher.py; of several objects the lowest wins.
    """
    for k in range(begin, stop):
        if record.kind[k] != MATCHED or record.best_iou[k] <= rules.min_force_iou:
            continue
        anchor = max(record.best_anchor[k], 0)
        if holder[anchor] < 0:
            holder[anchor] = k - begin
            record.reserved[k] = anchor
            record.reserved_iou[k] = record.best_iou[k]


@kernel
def _finish(  # type: ignore[no-untyped-def]
    begin, stop, anchors, rules, boxes, labels, record, state, label, box, owner, claimed, count
):
    """Turn best overlaps and reservations into targets; overwrites `claimed`."""
    merits = 0
    for anchor in claimed[:count]:
        k = begin + owner[anchor]
        if label[anchor] < 0:
            claimed[merits] = anchor
            merits += 1
            record.positives[k] += 1
            label[anchor] = labels[k]
        elif record.reserved[k] != anchor:
            record.stolen[k] += 1
    for k in range(begin, stop):
        anchor = record.reserved[k]
        if anchor < 0:
            continue
        record.positives[k] += 1
        record.forced[k] = 0 if owner[anchor] == k - begin else 1
        state[anchor] = POSITIVE
        owner[anchor] = k - begin
        label[anchor] = labels[k]
        claimed[merits] = anchor
        merits += 1
    if rules.corner_coder:
        encode_corners(boxes, begin, anchors, owner, claimed[:merits], rules.coder_std, box)
    else:
        encode_centres(
            boxes,
            begin,
            anchors,
            owner,
            claimed[:merits],
            rules.coder_epsilon,
            rules.coder_std,
            box,
        )


@kernel
def _ignore_crowds(begin, stop, anchors, lattice, rules, objects, record, state, found):  # type: ignore[no-untyped-def]
    """Rule 4: ignore what a crowd covers enough, unless it is positive."""
    for k in range(begin, stop):
        if record.kind[k] != CROWD or not has_extent(objects.boxes, k):
            continue
        share = np.float64(rules.crowd_ioa)
        for i in range(find_by_share(objects.boxes, k, lattice, share, found)):
            anchor = found[i]
            if state[anchor] == POSITIVE:
                continue
            if objects.integrals.shape[0] == 0 or objects.mask_of[k] < 0:
                shared = intersection(objects.boxes, k, anchors, anchor)
                covered = shared / area(anchors, anchor) >= rules.crowd_ioa
            else:
                integral = objects.integrals[objects.mask_of[k]]
                covered = share_of_pixels(integral, anchors, anchor) >= share * MASK_MARGIN
            if covered:
                state[anchor] = IGNORE


@kernel
def _ignore_padding(lattice, rules, content, state, label, box, owner, begin, record):  # type: ignore[no-untyped-def]
    """Rule 5: ignore anchors centred outside the image's part of the frame."""
    levels, offset, strides = lattice.levels, lattice.offset, lattice.strides
    for level in range(levels.shape[0]):
        per_cell, columns = levels[level, PER_CELL], levels[level, COLUMNS]
        for row in range(levels[level, ROWS]):
            y = (row + offset) * strides[level, 0]
            padded = y < content[0] or y >= content[2]
            for column in range(columns):
                x = (column + offset) * strides[level, 1]
                if not (padded or x < content[1] or x >= content[3]):
                    continue
                cell = levels[level, FIRST] + (row * columns + column) * per_cell
                for anchor in range(cell, cell + per_cell):
                    if state[anchor] == POSITIVE:
                        if rules.padding != PADDING_OVERRIDES:
                            continue
                        _take_back(begin + owner[anchor], anchor, record)
                        label[anchor] = -1
                        owner[anchor] = -1
                        box[anchor] = 0
                    state[anchor] = IGNORE


@kernel
def _take_back(k, anchor, record):  # type: ignore[no-untyped-def]
    record.positives[k] -= 1
    if record.reserved[k] == anchor:
        record.forced[k] = 0
    if record.positives[k] == 0:
        record.kind[k] = PADDED
