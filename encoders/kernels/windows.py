"""Which cells can hold an anchor that overlaps a box enough: a rectangle in closed form.

Along one axis, a box and an anchor whose centres are d apart share
min(side, anchor side, (side + anchor side) / 2 - d). To share an area `needed` they must share at
least needed / (the shorter width) vertically, which bounds d, and likewise horizontally. Bounds
are taken in float64 and widened, so that the rounding of anchors and overlaps to float32 excludes
no anchor that a dense search would find; what is inside is then measured as the dense search
would, in the anchors' precision (T).

Places in arrays are unsigned here: numba takes negative ones as counted from the end, and the sums for
that, at every access, were a fifth of a search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.lattice import (
    COLUMNS,
    FIRST,
    FIRST_X,
    FIRST_Y,
    PER_CELL,
    PER_X,
    PER_Y,
    ROWS,
    TALL,
    WIDE,
)
from ytrue.encoders.kernels.overlap import centred_iou
from ytrue.jit import inlined_kernel, kernel, merged_kernel

# Rounding moves an overlap by less than one part in ten thousand, an anchor by far less than
# a 64th of a cell (float32 at 8,192 pixels: half a thousandth of a pixel).
OVERLAP_MARGIN = 1.0 - 1e-4
CELL_MARGIN = 1.0 / 64.0

# Below any IoU above 0.
ANY_OVERLAP = 1e-300

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)


class Places(NamedTuple):
    """Anchors that a search found, and where the tables of edges have theirs."""

    anchor: NDArray[Any]  # (A + 1,) uint32
    y_edge: NDArray[Any]  # (A + 1,) uint32, row of y_edges
    x_edge: NDArray[Any]  # (A + 1,) uint32, row of x_edges


@kernel
def has_extent(boxes, k):  # type: ignore[no-untyped-def]
    """Return whether both sides of box k are longer than 0."""
    return boxes[k, 2] > boxes[k, 0] and boxes[k, 3] > boxes[k, 1]


@inlined_kernel
def cells(centre, reach, inverse, offset, count):  # type: ignore[no-untyped-def]
    """Return the first cell and the end of those centred within `reach` of `centre`.

    inverse: 1 / stride. A cell exactly a margin outside is left out by the first and let in by the
    second bound; neither can matter.
    """
    low = (centre - reach) * inverse - offset - CELL_MARGIN
    high = (centre + reach) * inverse - offset + CELL_MARGIN
    # Cut to the grid before the conversion: a box may lie further out than an int64 reaches.
    first = int(min(low, count * 1.0)) + 1 if low > 0.0 else 0
    end = int(min(high, count - 1.0)) + 1 if high >= 0.0 else 0
    return first, end


@inlined_kernel
def reaches(height, width, tall, wide, needed):  # type: ignore[no-untyped-def]
    """Return whether box and anchor can share `needed`, and how far apart, in y and x, they may be.

    Takes scalars only: counting the references of arrays passed here cost more than the sums.
    """
    shorter_height, shorter_width = min(height, tall), min(width, wide)
    part = needed / (shorter_height * shorter_width)
    possible = part <= 1.0
    reach_y = (height + tall) * 0.5 - part * shorter_height
    reach_x = (width + wide) * 0.5 - part * shorter_width
    return possible, reach_y, reach_x


@merged_kernel
def find_by_iou(boxes, k, lattice, threshold, epsilon, found, overlaps):  # type: ignore[no-untyped-def]
    """Write the anchors of IoU >= threshold with box k to found, and the IoUs to overlaps.

    boxes (N, 4) T; threshold float64 above 0; found `Places`; overlaps (A + 1,) T. Returns how many
    and, where there are any, the highest IoU.
    """
    offset, areas, sizes, shapes = lattice.offset, lattice.areas, lattice.sizes, lattice.shapes
    y_edges, x_edges = lattice.y_edges, lattice.x_edges
    y_min, x_min, y_max, x_max = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
    box_area = (y_max - y_min) * (x_max - x_min)
    if box_area == np.inf:
        return ZERO, boxes.dtype.type(0)  # so is every IoU with it
    height, width = np.float64(y_max) - np.float64(y_min), np.float64(x_max) - np.float64(x_min)
    centre_y, centre_x = np.float64(y_min) + 0.5 * height, np.float64(x_min) + 0.5 * width
    share = threshold / (1.0 + threshold) * OVERLAP_MARGIN
    exact_area = height * width
    least = exact_area * (threshold * OVERLAP_MARGIN)
    most = exact_area / (threshold * OVERLAP_MARGIN)
    # No IoU is above the smaller area over the larger: few of the shapes, by rising area, matter.
    first_shape, end_shape = ZERO, ZERO
    for shape in range(np.uint64(areas.shape[0])):
        first_shape += np.uint64(areas[shape] < least)
        end_shape += np.uint64(areas[shape] <= most)
    n, highest = ZERO, boxes.dtype.type(0)
    for shape in range(first_shape, end_shape):
        # IoU >= t means: intersection >= t / (1 + t) * (area + anchor area).
        needed = share * (exact_area + areas[shape])
        possible, reach_y, reach_x = reaches(
            height, width, sizes[shape, TALL], sizes[shape, WIDE], needed
        )
        if not possible:
            continue
        columns, step = shapes[shape, COLUMNS], shapes[shape, PER_CELL]
        top, bottom = cells(centre_y, reach_y, sizes[shape, PER_Y], offset, shapes[shape, ROWS])
        left, right = cells(centre_x, reach_x, sizes[shape, PER_X], offset, columns)
        first_y, first_x = shapes[shape, FIRST_Y], shapes[shape, FIRST_X]
        leftmost = shapes[shape, FIRST] + (top * columns + left) * step
        for y in range(np.uint64(first_y + top), np.uint64(first_y + bottom)):
            anchor_y_min, anchor_y_max = y_edges[TWO * y], y_edges[TWO * y + ONE]
            shared_height = min(anchor_y_max, y_max) - max(anchor_y_min, y_min)
            anchor, leftmost = leftmost, leftmost + columns * step
            if not shared_height > 0:
                continue
            anchor_height = anchor_y_max - anchor_y_min
            for x in range(np.uint64(first_x + left), np.uint64(first_x + right)):
                anchor_x_min, anchor_x_max = x_edges[TWO * x], x_edges[TWO * x + ONE]
                shared_width = min(anchor_x_max, x_max) - max(anchor_x_min, x_min)
                shared = shared_height * shared_width
                anchor_area = anchor_height * (anchor_x_max - anchor_x_min)
                overlap = shared / (anchor_area + box_area - shared + epsilon)
                # Written always, kept by counting: the branch would be mispredicted half the time.
                found.anchor[n], found.y_edge[n], found.x_edge[n] = anchor, y, x
                overlaps[n] = overlap
                n += np.uint64(overlap >= threshold)  # no where nothing is shared: negative or nan
                highest = overlap if overlap > highest else highest
                anchor += step
    return n, highest


@kernel
def lowest_anchor(anchors, overlaps, count, overlap):  # type: ignore[no-untyped-def]
    """Return the lowest of the `count` anchors found that has this overlap; one must have it."""
    lowest = np.uint32(np.iinfo(np.uint32).max)
    for i in range(count):
        lowest = min(lowest, anchors[i]) if overlaps[i] == overlap else lowest
    return np.int32(lowest)


@kernel
def find_by_share(boxes, k, lattice, share, anchors):  # type: ignore[no-untyped-def]
    """Write every anchor of which box k can cover `share` to anchors (A + 1,); return how many."""
    offset, areas, sizes, shapes = lattice.offset, lattice.areas, lattice.sizes, lattice.shapes
    height = np.float64(boxes[k, 2]) - np.float64(boxes[k, 0])
    width = np.float64(boxes[k, 3]) - np.float64(boxes[k, 1])
    centre_y = np.float64(boxes[k, 0]) + 0.5 * height
    centre_x = np.float64(boxes[k, 1]) + 0.5 * width
    n = ZERO
    for shape in range(np.uint64(shapes.shape[0])):
        needed = share * areas[shape] * OVERLAP_MARGIN
        possible, reach_y, reach_x = reaches(
            height, width, sizes[shape, TALL], sizes[shape, WIDE], needed
        )
        if not possible:
            continue
        rows, columns = shapes[shape, ROWS], shapes[shape, COLUMNS]
        top, bottom = cells(centre_y, reach_y, sizes[shape, PER_Y], offset, rows)
        left, right = cells(centre_x, reach_x, sizes[shape, PER_X], offset, columns)
        step = shapes[shape, PER_CELL]
        for row in range(top, bottom):
            anchor = shapes[shape, FIRST] + (row * columns + left) * step
            for _ in range(left, right):
                anchors[n] = anchor
                n += ONE
                anchor += step
    return n


@merged_kernel
def highest_iou(boxes, k, sizes):  # type: ignore[no-untyped-def]
    """Return the highest IoU that an anchor centred on box k would have, over all shapes."""
    height = np.float64(boxes[k, 2]) - np.float64(boxes[k, 0])
    width = np.float64(boxes[k, 3]) - np.float64(boxes[k, 1])
    highest, box_area = 0.0, height * width
    for shape in range(sizes.shape[0]):
        tall, wide = sizes[shape, TALL], sizes[shape, WIDE]
        # No IoU is above the smaller area over the larger one: most shapes need no division.
        own = tall * wide
        if own > box_area and own * highest >= box_area:
            break  # so is every later shape, which is larger
        if min(box_area, own) > highest * max(box_area, own):
            highest = max(highest, centred_iou(height, width, tall, wide))
    return highest


@merged_kernel
def find_best(boxes, k, lattice, epsilon, found, overlaps):  # type: ignore[no-untyped-def]
    """Find anchors that surely include the one of highest IoU with box k; as `find_by_iou`."""
    highest = highest_iou(boxes, k, lattice.sizes) * 0.9
    threshold = highest
    while True:
        count, best = find_by_iou(boxes, k, lattice, threshold, epsilon, found, overlaps)
        if count > 0 or threshold == ANY_OVERLAP:
            return count, best
        threshold = lower(threshold, highest)


@kernel
def lower(threshold, highest):  # type: ignore[no-untyped-def]
    """Return the next threshold to search with where one found nothing, `highest` being the first.

    By steps down to a millionth of that: of a box a thousand frames wide every IoU is tiny, and a
    search for any at all would visit every anchor.
    """
    return threshold * 0.6 if threshold > 1e-6 * highest else ANY_OVERLAP
