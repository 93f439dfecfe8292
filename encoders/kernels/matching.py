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

from ytrue.encoders.kernels.claims import (
    MATCHER_IOU,
    Search,
    claim,
)
from ytrue.encoders.kernels.coding import encode_centres, encode_corners
from ytrue.encoders.kernels.crowding import reserve_in_trees
from ytrue.encoders.kernels.lattice import COLUMNS, FIRST, PER_CELL, ROWS, locate
from ytrue.encoders.kernels.objects import (
    IGNORE,
    MATCHED,
    POSITIVE,
    ignore_crowds,
    kind_of,
)
from ytrue.encoders.kernels.windows import (
    ANY_OVERLAP,
    ONE,
    ZERO,
    Places,
    find_by_iou,
    lower,
    lowest_anchor,
)
from ytrue.jit import borrowed, kernel

FORCE_NONE, FORCE_GREEDY, FORCE_ARGMAX = 0, 1, 2
PADDING_NEGATIVE, PADDING_IGNORE, PADDING_OVERRIDES = 0, 1, 2
PATIENCE = 16  # anchors of the grid that searches in a crowd may visit, in all
PADDED = 5  # beside the kinds of `objects`


class Rules(NamedTuple):
    """The numbers of a matching rule; those marked T have the dtype of the anchors."""

    matcher: int
    top_k: int  # cells of a level that are near an object's centre
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


class Record(NamedTuple):
    """What is written for every object, for `explain`."""

    kind: NDArray[Any]  # (N,) int8: MATCHED, CROWD, ... as above
    best_iou: NDArray[Any]  # (N,) T
    best_anchor: NDArray[Any]  # (N,) int32
    asked: NDArray[Any]  # (N,) int32, anchors that the matcher would have it own, were it alone
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
    # Two blocks, one above half of both: the allocator then keeps them for the next call, where
    # four made it return and fault in their pages each time (10 us an image in batches of 16).
    places = np.empty((7, anchors.shape[0] + 1), np.uint32)
    numbers = np.empty((2, anchors.shape[0] + 1), anchors.dtype)
    most = _most_cells(lattice.levels) if rules.matcher != MATCHER_IOU else 0
    cells, distances = np.empty(most, np.int64), np.empty((2, most), np.float64)
    found = Places(places[0], places[1], places[2])
    claimed = Places(places[3], places[4], places[5])
    search = Search(found, numbers[0], places[6], claimed, numbers[1], cells, distances)
    return _match_borrowed(first, end, anchors, lattice, rules, objects, targets, record, search)


@kernel
def _match_borrowed(first, end, anchors, lattice, rules, objects, targets, record, search):  # type: ignore[no-untyped-def]
    anchors, lattice, rules = borrowed(anchors), borrowed(lattice), borrowed(rules)
    objects, targets, record = borrowed(objects), borrowed(targets), borrowed(record)
    search, bad = borrowed(search), -1
    found, overlaps = search.found, search.overlaps
    for image in range(first, end):
        state, label = targets.state[image], targets.label[image]
        box, owner = targets.box[image], targets.object[image]
        begin, stop = objects.starts[image], objects.starts[image + 1]
        # Each array is filled right before it is used, while it is in the cache.
        owner[:] = -1
        state[:] = 0
        bad = max(bad, _classify(begin, stop, rules, objects, record))
        n = claim(begin, stop, anchors, lattice, rules, objects.boxes, record, state, owner, search)
        label[:] = -1
        if rules.force == FORCE_GREEDY:
            done = _reserve_greedily(
                begin, stop, lattice, rules, objects.boxes, record, label, found, overlaps
            )
            if not done:
                _reserve_nothing(begin, stop, record, label)
                reserve_in_trees(begin, stop, anchors, rules, objects.boxes, record, label)
        elif rules.force == FORCE_ARGMAX:
            _reserve_argmax(begin, stop, rules, record, label)
        box[:] = 0
        _finish(
            begin, stop, lattice, rules, objects.boxes, objects.labels, record, state, label, box,
            owner, search, n,
        )  # fmt: skip
        if rules.crowd_ignores:
            ignore_crowds(
                begin, stop, anchors, lattice, rules, objects, record, state, found.anchor
            )
        if rules.padding != PADDING_NEGATIVE:
            content = objects.contents[image]
            _ignore_padding(lattice, rules, content, state, label, box, owner, begin, record)
    return bad


@kernel
def _most_cells(levels):  # type: ignore[no-untyped-def]
    most = 0
    for level in range(levels.shape[0]):
        most = max(most, levels[level, ROWS] * levels[level, COLUMNS])
    return most


@kernel
def _classify(begin, stop, rules, objects, record):  # type: ignore[no-untyped-def]
    boxes, labels, crowd = objects.boxes, objects.labels, objects.crowd
    kind, best_iou, best_anchor, asked, reserved, reserved_iou, positives, forced, stolen = record
    match_degenerate, height, width = rules.match_degenerate, rules.height, rules.width
    num_classes = rules.num_classes
    bad = -1
    for k in range(begin, stop):
        if labels[k] < 0 or labels[k] >= num_classes:
            bad = k
        best_iou[k] = 0
        best_anchor[k] = -1
        asked[k] = 0
        reserved[k] = -1
        reserved_iou[k] = 0
        positives[k] = 0
        forced[k] = 0
        stolen[k] = 0
        kind[k] = kind_of(
            boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], crowd[k],
            match_degenerate, height, width,
        )  # fmt: skip
    return bad


@kernel
def _reserve_greedily(begin, stop, lattice, rules, boxes, record, holder, found, overlaps):  # type: ignore[no-untyped-def]
    """Rule 3: the pairs by falling IoU, each object and each anchor once.

    Objects propose, in any order, to the best anchor that would not refuse them; an anchor leaves
    its holder for a better pair, whose loser proposes again. Objects and anchors rank pairs by one
    strict order (IoU, then lower object, then lower anchor), so there is exactly one stable
    outcome, and taking the pairs by falling rank gives the same.

    Returns whether that is done. In a crowd every anchor passes from hand to hand: where searches
    have visited PATIENCE times as many anchors as there are, `crowding` does it for less.
    """
    reserved, reserved_iou = record.reserved, record.reserved_iou
    patience = PATIENCE * holder.shape[0]
    for start in range(begin, stop):
        k = start
        while k >= 0:
            anchor, overlap = record.best_anchor[k], record.best_iou[k]
            if anchor < 0 or overlap <= rules.min_force_iou:
                break
            if not _accepts(anchor, overlap, k, begin, holder, reserved_iou):
                if patience < 0:
                    return False
                anchor, overlap, visited = _best_unrefused(
                    boxes, k, overlap, begin, lattice, rules, holder, reserved_iou, found, overlaps
                )
                patience -= visited
                if anchor < 0:
                    break
            loser = -1
            if holder[anchor] >= 0:
                loser = begin + holder[anchor]
                reserved[loser] = -1
            holder[anchor] = k - begin
            reserved[k], reserved_iou[k] = anchor, overlap
            k = loser
    return True


@kernel
def _reserve_nothing(begin, stop, record, holder):  # type: ignore[no-untyped-def]
    holder[:] = -1
    for k in range(begin, stop):
        record.reserved[k], record.reserved_iou[k] = -1, 0


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
    """Return the best anchor that would take object k, -1 without; the IoU; how many were visited."""
    first, visited = np.float64(highest) * 0.9, np.int64(0)
    threshold = first
    while True:
        count, _ = find_by_iou(boxes, k, lattice, threshold, rules.epsilon, found, overlaps)
        visited += np.int64(count) + lattice.shapes.shape[0]
        n, best = ZERO, boxes.dtype.type(0)
        for i in range(count):
            anchor, above = found.anchor[i], overlaps[i] > rules.min_force_iou
            if above and _accepts(anchor, overlaps[i], k, begin, holder, reserved_iou):
                found.anchor[n], overlaps[n] = anchor, overlaps[i]
                best = max(best, overlaps[i])
                n += ONE
        if n > 0:
            return lowest_anchor(found.anchor, overlaps, n, best), best, visited
        if threshold == ANY_OVERLAP:
            return np.int32(-1), best, visited
        threshold = lower(threshold, first)


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
    begin, stop, lattice, rules, boxes, labels, record, state, label, box, owner, search, count
):
    """Turn best overlaps and reservations into targets; overwrites what was found and claimed."""
    claimed = search.claimed
    levels, y_edges, x_edges = lattice.levels, lattice.y_edges, lattice.x_edges
    reserved, positives = record.reserved, record.positives
    forced, stolen = record.forced, record.stolen
    for i in range(count):
        anchor = claimed.anchor[i]
        k = begin + owner[anchor]
        state[anchor] = POSITIVE
        if label[anchor] < 0:
            positives[k] += 1
            label[anchor] = labels[k]
        elif reserved[k] != anchor:
            stolen[k] += 1
    for k in range(begin, stop):
        anchor = reserved[k]
        if anchor < 0:
            continue
        positives[k] += 1
        forced[k] = 0 if owner[anchor] == k - begin else 1
        if owner[anchor] < 0:
            claimed.anchor[count] = anchor
            claimed.y_edge[count], claimed.x_edge[count] = locate(levels, anchor)
            count += ONE
        state[anchor] = POSITIVE
        owner[anchor] = k - begin
        label[anchor] = labels[k]
    if rules.corner_coder:
        encode_corners(boxes, begin, y_edges, x_edges, owner, claimed, count, rules.coder_std, box)
    else:
        encode_centres(
            boxes, begin, y_edges, x_edges, owner, claimed, count,
            rules.coder_epsilon, rules.coder_std, search.overlaps, search.highest, box,
        )  # fmt: skip


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
