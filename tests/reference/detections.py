"""The slow twin of `encoders.detections.detect`: NumPy, one box against one other."""

import numpy as np


def detect(values, boxes, *, kind="logits", score_threshold, iou_threshold, max_detections):
    """Rows, labels and scores of the detections, by falling score."""
    labels = values.argmax(axis=-1)
    best = values[np.arange(len(values)), labels]
    if kind == "logits":
        best = (0.5 * (1 + np.tanh(0.5 * best.astype(np.float64)))).astype(np.float32)
    kept = []
    for row in np.argsort(-best, kind="stable"):
        if best[row] < np.float32(score_threshold) or len(kept) == max_detections:
            break
        rivals = [k for k in kept if labels[k] == labels[row]]
        if all(iou(boxes[row], boxes[k]) <= iou_threshold for k in rivals):
            kept.append(row)
    return np.array(kept, int), labels[kept], best[kept]


def iou(one, other):
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return np.float32(0)
    area, rival = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return height * width / (rival + area - height * width)
