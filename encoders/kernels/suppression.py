"""Greedy non-maximum suppression of boxes, hard and soft, and of points."""

import numpy as np

from ytrue.encoders.kernels.overlap import iou
from ytrue.jit import kernel


@kernel
def suppress(  # type: ignore[no-untyped-def]
    boxes, labels, scores, by_class, threshold, decay, least, kept
):
    """Write the rows that survive to kept (at most its length), by falling score; return how many.

    boxes (N, 4) float32 and labels (N,), sorted by falling scores (N,) float32, which soft
    suppression lowers in place. Rivals are the boxes kept before, with `by_class` those of the
    same class.

    decay 0: a row falls when its IoU with a rival exceeds `threshold`. decay > 0: its score is
    multiplied by exp(-decay * IoU^2) for every rival; it falls when that is below `least`.

    A row whose score was lowered waits in a heap until it is the highest again, and then looks
    only at what was kept since, latest first: the order of TensorFlow's NonMaxSuppressionV5, so
    that scores are multiplied in the same order.
    """
    count = boxes.shape[0]
    heap = np.empty(count, np.int64)
    seen = np.zeros(count, np.int64)  # how many of the kept ones a row has looked at
    waiting, first, n = 0, 0, 0
    while n < kept.shape[0] and (first < count or waiting > 0):
        if waiting > 0 and (first == count or _before(heap[0], first, scores)):
            row = heap[0]
            waiting = _pop(heap, waiting, scores)
        else:
            row = first
            first += 1
        score, falls = scores[row], False
        for i in range(n - 1, seen[row] - 1, -1):
            rival = kept[i]
            if by_class and labels[rival] != labels[row]:
                continue
            overlap = iou(boxes, row, boxes, rival, np.float32(0))
            if decay > 0:
                scores[row] *= np.exp(-decay * overlap * overlap)
                # Of boxes whose areas are no numbers the score is none.
                falls = not scores[row] >= least
            else:
                falls = overlap > threshold
            if falls:
                break
        if falls:
            continue
        seen[row] = n
        if scores[row] == score:
            kept[n] = row
            n += 1
        else:
            waiting = _push(heap, waiting, row, scores)
    return n


@kernel
def suppress_points(yx, reach, group, kept):  # type: ignore[no-untyped-def]
    """Write the rows that survive to kept (at most its length); return how many.

    yx (N, 2) float32 sorted by falling score, reach (N, 2) float32, group (N,). A point falls when
    a kept one of its group lies within its reach along both axes.
    """
    n = 0
    for k in range(yx.shape[0]):
        if n == kept.shape[0]:
            break
        survives = True
        for i in range(n):
            rival = kept[i]
            near_y = abs(yx[k, 0] - yx[rival, 0]) <= reach[k, 0]
            near_x = abs(yx[k, 1] - yx[rival, 1]) <= reach[k, 1]
            if group[rival] == group[k] and near_y and near_x:
                survives = False
                break
        if survives:
            kept[n] = k
            n += 1
    return n


@kernel
def _before(a, b, scores):  # type: ignore[no-untyped-def]
    return scores[a] > scores[b] or (scores[a] == scores[b] and a < b)


@kernel
def _push(heap, size, row, scores):  # type: ignore[no-untyped-def]
    place = size
    while place > 0:
        parent = (place - 1) // 2
        if not _before(row, heap[parent], scores):
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = row
    return size + 1


@kernel
def _pop(heap, size, scores):  # type: ignore[no-untyped-def]
    size -= 1
    row, place = heap[size], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _before(heap[child + 1], heap[child], scores):
            child += 1
        if not _before(heap[child], row, scores):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = row
    return size
