"""Which anchors objects claim, by each matcher; of several claims the highest IoU has the anchor.

The matchers: by IoU, every anchor of `positive_iou` or more, and those of `negative_iou` or more are
ignored; by place, of the `top_k` cells of each level nearest an object's centre, those centred in the
object (edges excluded) that a rule admits.

What kernels of this file write: `owner` (A,) int32, the object that holds an anchor, relative to
`begin`; in the `Search` its IoU and the anchors that have an owner, of which they return the number;
IGNORE in `state` (A,) int8. What is positive is made so later, so that no state is read here. The
record gets each object's best anchor and how many it asked for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.lattice import (
    COLUMNS,
    FIRST,
    PER_CELL,
    ROWS,
    TALL,
    WIDE,
    locate,
)
from ytrue.encoders.kernels.nearest import nearest_cells
from ytrue.encoders.kernels.objects import IGNORE, MATCHED, sides_of
from ytrue.encoders.kernels.overlap import centred_iou, iou
from ytrue.encoders.kernels.windows import (
    ONE,
    ZERO,
    Places,
    find_best,
    find_by_iou,
    has_extent,
    lowest_anchor,
)
from ytrue.jit import kernel

MATCHER_IOU, MATCHER_ATSS, MATCHER_CENTER = 0, 1, 2


class Search(NamedTuple):
    """What is found while an image is matched, overwritten by every search."""

    found: Places
    overlaps: NDArray[Any]  # (A + 1,) T, the IoU of each anchor found
    chosen: NDArray[Any]  # (A + 1,) uint32, positions in `found`
    claimed: Places  # that have an owner
    highest: NDArray[Any]  # (A + 1,) T, the owner's IoU, read only where there is one
    cells: NDArray[Any]  # (C,) int64, of a level near a centre
    distances: NDArray[Any]  # (2, C) float64


@kernel
def claim(begin, stop, anchors, lattice, rules, boxes, record, state, owner, search):  # type: ignore[no-untyped-def]
    """Let every object choose by the matcher, and give an anchor to whom it overlaps most.

    Objects are matched and claim in one loop: a call with all these arrays for each of them took as
    long as its claims.
    """
    by_iou, epsilon = rules.matcher == MATCHER_IOU, rules.epsilon
    found, overlaps, chosen = search.found, search.overlaps, search.chosen
    claimed, highest = search.claimed, search.highest
    n = ZERO
    for k in range(begin, stop):
        if record.kind[k] != MATCHED or not has_extent(boxes, k):
            continue
        count, best = ZERO, boxes.dtype.type(0)
        if by_iou:
            least = np.float64(rules.negative_iou)
            count, best = find_by_iou(boxes, k, lattice, least, epsilon, found, overlaps)
        if count == 0:
            count, best = find_best(boxes, k, lattice, epsilon, found, overlaps)
        if count > 0:
            record.best_anchor[k] = lowest_anchor(found.anchor, overlaps, count, best)
            record.best_iou[k] = best
        enough = ZERO
        if by_iou:
            # Choices instead of branches: which way they go is close to random.
            for i in range(count if best >= rules.negative_iou else ZERO):
                state[found.anchor[i]] = IGNORE
                chosen[enough] = i
                enough += np.uint64(overlaps[i] >= rules.positive_iou)
        elif rules.matcher == MATCHER_ATSS:
            enough = _choose_adaptively(k, anchors, lattice, rules, boxes, search)
        else:
            enough = _choose_by_shape(k, anchors, lattice, rules, boxes, state, search)
        record.asked[k] = enough
        mine = np.int32(k - begin)
        for choice in range(enough):
            i = chosen[choice]
            anchor, overlap = found.anchor[i], overlaps[i]
            current, held = owner[anchor], highest[anchor]
            better = (current < 0) | (overlap > held)
            claimed.anchor[n], claimed.y_edge[n] = anchor, found.y_edge[i]
            claimed.x_edge[n] = found.x_edge[i]
            n += np.uint64(current < 0)
            highest[anchor] = overlap if better else held
            owner[anchor] = mine if better else current
    return n


@kernel
def _near_centre(k, level, lattice, rules, boxes, search):  # type: ignore[no-untyped-def]
    """Write the cells of a level nearest the centre of box k, by rising index; return how many."""
    levels, strides = lattice.levels, lattice.strides
    height, width = sides_of(boxes, k)
    return nearest_cells(
        np.float64(boxes[k, 0]) + 0.5 * height, np.float64(boxes[k, 1]) + 0.5 * width,
        levels[level, ROWS], levels[level, COLUMNS], strides[level, 0], strides[level, 1],
        lattice.offset, rules.top_k, search.cells, search.distances,
    )  # fmt: skip


@kernel
def _is_centred_in(k, level, cell, lattice, boxes):  # type: ignore[no-untyped-def]
    """Return whether a cell's centre lies in box k, edges excluded."""
    row, column = divmod(cell, lattice.levels[level, COLUMNS])
    y = (row + lattice.offset) * lattice.strides[level, 0]
    x = (column + lattice.offset) * lattice.strides[level, 1]
    return boxes[k, 0] < y < boxes[k, 2] and boxes[k, 1] < x < boxes[k, 3]


@kernel
def _choose_adaptively(k, anchors, lattice, rules, boxes, search):  # type: ignore[no-untyped-def]
    """Choose the candidates of IoU >= mean + standard deviation of all candidates' IoU.

    Sums run over the candidates by rising index, in float64; the deviation is the sample's (n - 1).
    Reference: Zhang et al. 2020 (ATSS), algorithm 1, and sfzhang15/ATSS
    atss_core/modeling/rpn/atss/loss.py, prepare_targets, for what the paper leaves open.
    """
    found, overlaps, chosen, cells = search.found, search.overlaps, search.chosen, search.cells
    levels, count, total = lattice.levels, ZERO, 0.0
    for level in range(levels.shape[0]):
        per_cell = levels[level, PER_CELL]
        for cell in cells[: _near_centre(k, level, lattice, rules, boxes, search)]:
            centred = _is_centred_in(k, level, cell, lattice, boxes)
            first = levels[level, FIRST] + cell * per_cell
            for anchor in range(first, first + per_cell):
                overlap = iou(boxes, k, anchors, anchor, rules.epsilon)
                found.anchor[count], overlaps[count], chosen[count] = anchor, overlap, centred
                total += np.float64(overlap)
                count += ONE
    mean, squares = total / count, 0.0
    for i in range(count):
        off = np.float64(overlaps[i]) - mean
        squares += off * off
    threshold = mean + math.sqrt(squares / max(count - ONE, ONE))
    enough = ZERO
    for i in range(count):
        takes = chosen[i] != 0 and np.float64(overlaps[i]) >= threshold
        chosen[enough] = i  # at most i: the flag there has been read
        enough += np.uint64(takes)
    _locate_chosen(levels, found, chosen, enough)
    return enough


@kernel
def _choose_by_shape(k, anchors, lattice, rules, boxes, state, search):  # type: ignore[no-untyped-def]
    """Choose the anchors whose shape suits box k, in the cells nearest its centre and centred in it.

    A shape's fit is the IoU it would have if centred on the box. It suits from `positive_iou`, or if
    no shape fits better; those from `negative_iou` are ignored.
    """
    found, overlaps, chosen, cells = search.found, search.overlaps, search.chosen, search.cells
    sizes, shapes, levels = lattice.sizes, lattice.shapes, lattice.levels
    height, width = sides_of(boxes, k)
    best = 0.0
    for shape in range(sizes.shape[0]):
        best = max(best, centred_iou(height, width, sizes[shape, TALL], sizes[shape, WIDE]))
    lowest = min(best, np.float64(rules.negative_iou))
    suits = min(best, np.float64(rules.positive_iou))
    enough = ZERO
    for level in range(levels.shape[0]):
        first, near = levels[level, FIRST], -1
        for shape in range(shapes.shape[0]):
            if not first <= shapes[shape, FIRST] < first + levels[level, PER_CELL]:
                continue
            fit = centred_iou(height, width, sizes[shape, TALL], sizes[shape, WIDE])
            if fit < lowest:
                continue
            if near < 0:
                near = _near_centre(k, level, lattice, rules, boxes, search)
            for cell in cells[:near]:
                if not _is_centred_in(k, level, cell, lattice, boxes):
                    continue
                anchor = shapes[shape, FIRST] + cell * levels[level, PER_CELL]
                if fit < suits:
                    state[anchor] = IGNORE
                    continue
                found.anchor[enough] = anchor
                overlaps[enough] = iou(boxes, k, anchors, anchor, rules.epsilon)
                chosen[enough] = enough
                enough += ONE
    _locate_chosen(levels, found, chosen, enough)
    return enough


@kernel
def _locate_chosen(levels, found, chosen, enough):  # type: ignore[no-untyped-def]
    for choice in range(enough):
        i = chosen[choice]
        found.y_edge[i], found.x_edge[i] = locate(levels, np.int64(found.anchor[i]))
