"""An object's box relative to an anchor, as a network predicts it.

boxes (N, 4) and the edge tables have one dtype T; `positives` (`Places`) holds in its first `count`
places the anchors to write, `owner` (A,) their object relative to row `begin` of boxes; out (A, 4)
float32. The tables stay in the cache where the anchors' own boxes would be fetched from memory.
"""

import numpy as np

from ytrue.encoders.kernels.logarithms import take_logarithms
from ytrue.encoders.kernels.windows import ONE, TWO
from ytrue.jit import kernel


@kernel
def encode_centres(  # type: ignore[no-untyped-def]
    boxes, begin, y_edges, x_edges, owner, positives, count, epsilon, std, tall, wide, out
):
    """Write (ty, tx, th, tw): centre offsets in anchor sides, logarithms of the sides' ratios.

    tall and wide (A + 1,) T are overwritten: with the ratios, whose logarithms are taken together.

    Reference: google/automl efficientdet/object_detection/faster_rcnn_box_coder.py.
    """
    one, half = boxes.dtype.type(1), boxes.dtype.type(0.5)
    plain = std[0] == one and std[1] == one and std[2] == one and std[3] == one
    for i in range(count):
        anchor = positives.anchor[i]
        y, x = TWO * np.uint64(positives.y_edge[i]), TWO * np.uint64(positives.x_edge[i])
        k = begin + owner[anchor]
        anchor_height, anchor_width = y_edges[y + ONE] - y_edges[y], x_edges[x + ONE] - x_edges[x]
        height, width = boxes[k, 2] - boxes[k, 0], boxes[k, 3] - boxes[k, 1]
        dy = (boxes[k, 0] + height * half) - (y_edges[y] + anchor_height * half)
        dx = (boxes[k, 1] + width * half) - (x_edges[x] + anchor_width * half)
        anchor_height, anchor_width = max(anchor_height, epsilon), max(anchor_width, epsilon)
        tall[i] = max(height, epsilon) / anchor_height
        wide[i] = max(width, epsilon) / anchor_width
        ty, tx = dy / anchor_height, dx / anchor_width
        if not plain:
            ty, tx = ty / std[0], tx / std[1]
        out[anchor, 0], out[anchor, 1] = ty, tx
    take_logarithms(tall, count)
    take_logarithms(wide, count)
    for i in range(count):
        anchor, th, tw = positives.anchor[i], tall[i], wide[i]
        if not plain:
            th, tw = th / std[2], tw / std[3]
        out[anchor, 2], out[anchor, 3] = th, tw


@kernel
def encode_corners(  # type: ignore[no-untyped-def]
    boxes, begin, y_edges, x_edges, owner, positives, count, std, out
):
    """Write the distances between equal corners in anchor sides.

    Reference: fizyr/keras-retinanet utils/anchors.py, bbox_transform (in x, y order there).
    """
    for i in range(count):
        anchor = positives.anchor[i]
        y, x = TWO * np.uint64(positives.y_edge[i]), TWO * np.uint64(positives.x_edge[i])
        k = begin + owner[anchor]
        height, width = y_edges[y + ONE] - y_edges[y], x_edges[x + ONE] - x_edges[x]
        out[anchor, 0] = (boxes[k, 0] - y_edges[y]) / height / std[0]
        out[anchor, 1] = (boxes[k, 1] - x_edges[x]) / width / std[1]
        out[anchor, 2] = (boxes[k, 2] - y_edges[y + ONE]) / height / std[2]
        out[anchor, 3] = (boxes[k, 3] - x_edges[x + ONE]) / width / std[3]
