"""Which cells can hold an anchor that overlaps a box enough: a rectangle in closed form.

Along one axis, a box and an anchor whose centres are d apart share
min(side, anchor side, (side + anchor side) / 2 - d). To share an area `needed` they must share at
least needed / (the shorter width) vertically, which bounds d, and likewise horizontally. Bounds
are taken in float64 and widened, so that the rounding of anchors and overlaps to float32 excludes
no anchor that a dense search would find; what is inside is then measured as the dense search
would, in the anchors' precision (T).
"""

import numpy as np

from ytrue.encoders.kernels.jit import inlined_kernel, kernel
from ytrue.encoders.kernels.lattice import (
    COLUMNS,
    FIRST,
    FIRST_X,
    FIRST_Y,
    LEVEL,
    PER_CELL,
    ROWS,
    SLOT,
)
from ytrue.encoders.kernels.overlap import area

# Rounding moves an overlap by less than one part in ten thousand, an anchor by far less than
# a 64th of a cell (float32 at 8,192 pixels: half a thousandth of a pixel).
OVERLAP_MARGIN = 1.0 - 1e-4
CELL_MARGIN = 1.0 / 64.0

# Below any IoU above 0.
ANY_OVERLAP = 1e-300


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
def window(  # type: ignore[no-untyped-def]
    centre_y, centre_x, height, width, needed, shape, levels, inverses, offset, shapes, sizes
):
    """Return (top, bottom, left, right), cells whose anchors of a shape can share `needed`."""
    top = bottom = left = right = 0
    tall, wide = sizes[shape, 0], sizes[shape, 1]
    shorter_height, shorter_width = min(height, tall), min(width, wide)
    largest = shorter_height * shorter_width
    if largest >= needed:
        level, part = shapes[shape, LEVEL], needed / largest
        reach_y = (height + tall) * 0.5 - part * shorter_height
        reach_x = (width + wide) * 0.5 - part * shorter_width
        top, bottom = cells(centre_y, reach_y, inverses[level, 0], offset, levels[level, ROWS])
        left, right = cells(centre_x, reach_x, inverses[level, 1], offset, levels[level, COLUMNS])
    return top, bottom, left, right


@kernel
def find_by_iou(boxes, k, lattice, threshold, epsilon, found, overlaps):  # type: ignore[no-untyped-def]
    """Write the anchors of IoU >= threshold with box k to found, and the IoUs to overlaps.

    boxes (N, 4) T; threshold float64 above 0; found (A + 1,) int32, overlaps (A + 1,) T. Returns
    how many.
    """
    levels, inverses, offset, shapes, sizes, y_edges, x_edges = lattice[:7]
    y_min, x_min, y_max, x_max = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
    box_area = area(boxes, k)
    height, width = np.float64(y_max) - np.float64(y_min), np.float64(x_max) - np.float64(x_min)
    centre_y, centre_x = np.float64(y_min) + 0.5 * height, np.float64(x_min) + 0.5 * width
    share = threshold / (1.0 + threshold) * OVERLAP_MARGIN
    n = 0
    for shape in range(shapes.shape[0]):
        # IoU >= t means: intersection >= t / (1 + t) * (area + anchor area).
        needed = share * (height * width + sizes[shape, 0] * sizes[shape, 1])
        top, bottom, left, right = window(
            centre_y,
            centre_x,
            height,
            width,
            needed,
            shape,
            levels,
            inverses,
            offset,
            shapes,
            sizes,
        )
        level = shapes[shape, LEVEL]
        columns, step = levels[level, COLUMNS], levels[level, PER_CELL]
        for row in range(top, bottom):
            edge = shapes[shape, FIRST_Y] + row
            anchor_y_min, anchor_y_max = y_edges[edge, 0], y_edges[edge, 1]
            shared_height = min(anchor_y_max, y_max) - max(anchor_y_min, y_min)
            if not shared_height > 0:
                continue
            anchor_height = anchor_y_max - anchor_y_min
            first = levels[level, FIRST] + row * columns * step + shapes[shape, SLOT]
            for column in range(left, right):
                edge = shapes[shape, FIRST_X] + column
                anchor_x_min, anchor_x_max = x_edges[edge, 0], x_edges[edge, 1]
                shared_width = min(anchor_x_max, x_max) - max(anchor_x_min, x_min)
                shared = shared_height * shared_width
                anchor_area = anchor_height * (anchor_x_max - anchor_x_min)
                overlap = shared / (anchor_area + box_area - shared + epsilon)
                # Written always, kept by counting: the branch would be mispredicted half the time.
                found[n] = first + column * step
                overlaps[n] = overlap
                n += overlap >= threshold  # false where nothing is shared: negative or nan
    return n


@kernel
def find_by_share(boxes, k, lattice, share, found):  # type: ignore[no-untyped-def]
    """Write every anchor of which box k can cover `share` to found (A,); return how many."""
    levels, inverses, offset, shapes, sizes = lattice[:5]
    height = np.float64(boxes[k, 2]) - np.float64(boxes[k, 0])
    width = np.float64(boxes[k, 3]) - np.float64(boxes[k, 1])
    centre_y = np.float64(boxes[k, 0]) + 0.5 * height
    centre_x = np.float64(boxes[k, 1]) + 0.5 * width
    n = 0
    for shape in range(shapes.shape[0]):
        needed = share * sizes[shape, 0] * sizes[shape, 1] * OVERLAP_MARGIN
        top, bottom, left, right = window(
            centre_y,
            centre_x,
            height,
            width,
            needed,
            shape,
            levels,
            inverses,
            offset,
            shapes,
            sizes,
        )
        level = shapes[shape, LEVEL]
        columns, step = levels[level, COLUMNS], levels[level, PER_CELL]
        for row in range(top, bottom):
            first = levels[level, FIRST] + row * columns * step + shapes[shape, SLOT]
            for column in range(left, right):
                found[n] = first + column * step
                n += 1
    return n


@kernel
def highest_iou(boxes, k, sizes):  # type: ignore[no-untyped-def]
    """Return the highest IoU that an anchor centred on box k would have, over all shapes."""
    height = np.float64(boxes[k, 2]) - np.float64(boxes[k, 0])
    width = np.float64(boxes[k, 3]) - np.float64(boxes[k, 1])
    highest = 0.0
    for shape in range(sizes.shape[0]):
        tall, wide = sizes[shape, 0], sizes[shape, 1]
        shared = min(height, tall) * min(width, wide)
        highest = max(highest, shared / (height * width + tall * wide - shared))
    return highest
