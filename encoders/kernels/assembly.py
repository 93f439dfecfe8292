"""Points into the boxes they belong to."""

import numpy as np

from ytrue.jit import kernel


@kernel
def assemble(yx, landmark, boxes, margin, keypoints):  # type: ignore[no-untyped-def]
    """Write each point into the keypoints of a box; see `PoseEncoder` for the rule.

    yx (M, 2) float32 and landmark (M,), by falling score; boxes (N, 4) float32, by falling score;
    margin float32; keypoints (N, K, 3) float32, zeros, get (y, x, 2) where a point was found.
    """
    for k in range(yx.shape[0]):
        y, x = yx[k, 0], yx[k, 1]
        best, least = -1, np.float32(np.inf)
        for n in range(boxes.shape[0]):
            height, width = boxes[n, 2] - boxes[n, 0], boxes[n, 3] - boxes[n, 1]
            more_y, more_x = margin * height, margin * width
            inside = (
                boxes[n, 0] - more_y <= y <= boxes[n, 2] + more_y
                and boxes[n, 1] - more_x <= x <= boxes[n, 3] + more_x
            )
            area = height * width
            if inside and area < least and keypoints[n, landmark[k], 2] == 0:
                best, least = n, area
        if best >= 0:
            keypoints[best, landmark[k], 0] = y
            keypoints[best, landmark[k], 1] = x
            keypoints[best, landmark[k], 2] = 2
