"""An object's box relative to an anchor, as a network predicts it.

boxes (N, 4) and the edge tables have one dtype T; positives (3, A + 1) int32 holds in its first
`count` columns the anchors to write and their rows in y_edges and x_edges, `owner` (A,) their
object relative to row `begin` of boxes; out (A, 4) float32. The tables stay in the cache where the
anchors' own boxes would be fetched from memory.
"""

import math

from ytrue.encoders.kernels.lattice import ANCHOR, X_EDGE, Y_EDGE
from ytrue.jit import kernel


@kernel
def encode_centres(  # type: ignore[no-untyped-def]
    boxes, begin, y_edges, x_edges, owner, positives, count, epsilon, std, out
):
    """Write (ty, tx, th, tw): centre offsets in anchor sides, logarithms of the sides' ratios.

    Reference: google/automl efficientdet/object_detection/faster_rcnn_box_coder.py.
    """
    one, half = boxes.dtype.type(1), boxes.dtype.type(0.5)
    plain = std[0] == one and std[1] == one and std[2] == one and std[3] == one
    for i in range(count):
        a, y, x = positives[ANCHOR, i], positives[Y_EDGE, i], positives[X_EDGE, i]
        k = begin + owner[a]
        anchor_height, anchor_width = y_edges[y, 1] - y_edges[y, 0], x_edges[x, 1] - x_edges[x, 0]
        height, width = boxes[k, 2] - boxes[k, 0], boxes[k, 3] - boxes[k, 1]
        dy = (boxes[k, 0] + height * half) - (y_edges[y, 0] + anchor_height * half)
        dx = (boxes[k, 1] + width * half) - (x_edges[x, 0] + anchor_width * half)
        anchor_height, anchor_width = max(anchor_height, epsilon), max(anchor_width, epsilon)
        scale_y = max(height, epsilon) / anchor_height
        scale_x = max(width, epsilon) / anchor_width
        ty, tx, th, tw = dy / anchor_height, dx / anchor_width, math.log(scale_y), math.log(scale_x)
        if not plain:
            ty, tx, th, tw = ty / std[0], tx / std[1], th / std[2], tw / std[3]
        out[a, 0], out[a, 1], out[a, 2], out[a, 3] = ty, tx, th, tw


@kernel
def encode_corners(  # type: ignore[no-untyped-def]
    boxes, begin, y_edges, x_edges, owner, positives, count, std, out
):
    """Write the distances between equal corners in anchor sides.

    Reference: fizyr/keras-retinanet utils/anchors.py, bbox_transform (in x, y order there).
    """
    for i in range(count):
        a, y, x = positives[ANCHOR, i], positives[Y_EDGE, i], positives[X_EDGE, i]
        k = begin + owner[a]
        height, width = y_edges[y, 1] - y_edges[y, 0], x_edges[x, 1] - x_edges[x, 0]
        out[a, 0] = (boxes[k, 0] - y_edges[y, 0]) / height / std[0]
        out[a, 1] = (boxes[k, 1] - x_edges[x, 0]) / width / std[1]
        out[a, 2] = (boxes[k, 2] - y_edges[y, 1]) / height / std[2]
        out[a, 3] = (boxes[k, 3] - x_edges[x, 1]) / width / std[3]
