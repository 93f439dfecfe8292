"""Points into the boxes they belong to."""

import numpy as np

from ytrue.jit import kernel


@kernel
def assemble(yx, landmark, boxes, scores, margin, share, keypoints):  # type: ignore[no-untyped-def]
    """Write each point into the keypoints of a box; see `PoseEncoder` for the rule.

    yx (M, 2) float32 and landmark (M,), by falling score; boxes (N, 4) float32 and scores (N,)
    float32; margin and share float32; keypoints (N, K, 3) float32, zeros, get (y, x, 2) where a
    point was found.
    """
    for k in range(yx.shape[0]):
        highest = np.float32(0)
        for n in range(boxes.shape[0]):
            if _may_have(n, yx, k, landmark, boxes, margin, keypoints):
                highest = max(highest, scores[n])
        best, least = -1, np.float32(np.inf)
        for n in range(boxes.shape[0]):
            if scores[n] < share * highest:
                continue
            area = (boxes[n, 2] - boxes[n, 0]) * (boxes[n, 3] - boxes[n, 1])
            if area < least and _may_have(n, yx, k, landmark, boxes, margin, keypoints):
                best, least = n, area
        if best >= 0:
            keypoints[best, landmark[k], 0] = yx[k, 0]
            keypoints[best, landmark[k], 1] = yx[k, 1]
            keypoints[best, landmark[k], 2] = 2


@kernel
def _may_have(n, yx, k, landmark, boxes, margin, keypoints):  # type: ignore[no-untyped-def]
    y, x = yx[k, 0], yx[k, 1]
    more_y = margin * (boxes[n, 2] - boxes[n, 0])
    more_x = margin * (boxes[n, 3] - boxes[n, 1])
    return (
        keypoints[n, landmark[k], 2] == 0
        and boxes[n, 0] - more_y <= y <= boxes[n, 2] + more_y
        and boxes[n, 1] - more_x <= x <= boxes[n, 3] + more_x
    )
