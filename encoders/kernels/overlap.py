"""How much a box and an anchor share, in the anchors' own precision and one order of operations.

boxes (N, 4) and anchors (A, 4) have one dtype; so has `epsilon`, and the zero below, so that no
constant widens float32 to float64.
"""

import numpy as np

from ytrue.jit import kernel


@kernel
def intersection(boxes, k, anchors, a):  # type: ignore[no-untyped-def]
    """Return the area that box k and anchor a share; 0 where they only touch."""
    height = min(anchors[a, 2], boxes[k, 2]) - max(anchors[a, 0], boxes[k, 0])
    width = min(anchors[a, 3], boxes[k, 3]) - max(anchors[a, 1], boxes[k, 1])
    if height > 0 and width > 0:
        return height * width
    return anchors.dtype.type(0)


@kernel
def area(boxes, k):  # type: ignore[no-untyped-def]
    """Return height times width of box k."""
    return (boxes[k, 2] - boxes[k, 0]) * (boxes[k, 3] - boxes[k, 1])


@kernel
def iou(boxes, k, anchors, a, epsilon):  # type: ignore[no-untyped-def]
    """Return the intersection over (union + epsilon), 0 where nothing is shared."""
    shared = intersection(boxes, k, anchors, a)
    if shared > 0:
        return shared / (area(anchors, a) + area(boxes, k) - shared + epsilon)
    return shared


@kernel
def share_of_pixels(integral, anchors, a):  # type: ignore[no-untyped-def]
    """Return the share of anchor a that a mask's set pixels cover; edges may cut pixels. float64.

    integral (H + 1, W + 1) int64 holds the number of set pixels above and left of each corner;
    between corners it is linear along both axes, which is exact for pixels of constant value.
    """
    top, bottom = (
        _inside(anchors[a, 0], integral.shape[0]),
        _inside(anchors[a, 2], integral.shape[0]),
    )
    left, right = (
        _inside(anchors[a, 1], integral.shape[1]),
        _inside(anchors[a, 3], integral.shape[1]),
    )
    below = _count(integral, bottom, right) - _count(integral, bottom, left)
    above = _count(integral, top, right) - _count(integral, top, left)
    height = np.float64(anchors[a, 2]) - np.float64(anchors[a, 0])
    width = np.float64(anchors[a, 3]) - np.float64(anchors[a, 1])
    return (below - above) / (height * width)


@kernel
def _inside(edge, corners):  # type: ignore[no-untyped-def]
    return min(max(np.float64(edge), 0.0), corners - 1.0)


@kernel
def _count(integral, y, x):  # type: ignore[no-untyped-def]
    row, column = min(int(y), integral.shape[0] - 2), min(int(x), integral.shape[1] - 2)
    down, across = y - row, x - column
    above = integral[row, column] * (1.0 - across) + integral[row, column + 1] * across
    below = integral[row + 1, column] * (1.0 - across) + integral[row + 1, column + 1] * across
    return above * (1.0 - down) + below * down
