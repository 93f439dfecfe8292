"""Greedy non-maximum suppression, class by class."""

import numpy as np

from ytrue.encoders.kernels.overlap import iou
from ytrue.jit import kernel


@kernel
def suppress(boxes, labels, threshold, kept):  # type: ignore[no-untyped-def]
    """Write the rows that survive to kept (at most its length); return how many.

    boxes (N, 4) float32 sorted by falling score, labels (N,). A box falls when its IoU with a
    kept box of its class exceeds `threshold`.
    """
    n = 0
    for k in range(boxes.shape[0]):
        if n == kept.shape[0]:
            break
        survives = True
        for i in range(n):
            rival = kept[i]
            same = labels[rival] == labels[k]
            if same and iou(boxes, k, boxes, rival, np.float32(0)) > threshold:
                survives = False
                break
        if survives:
            kept[n] = k
            n += 1
    return n
