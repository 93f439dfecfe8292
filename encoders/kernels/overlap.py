"""How much a box and an anchor share, in the anchors' own precision and one order of operations.

boxes (N, 4) and anchors (A, 4) have one dtype; so has `epsilon`, and the zero below, so that no
constant widens float32 to float64.
"""

from ytrue.jit import inlined_kernel, kernel


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


@inlined_kernel
def centred_iou(height, width, tall, wide):  # type: ignore[no-untyped-def]
    """Return the IoU of two boxes of one centre, given their sides, all of one dtype."""
    shared = min(height, tall) * min(width, wide)
    return shared / (height * width + tall * wide - shared)
