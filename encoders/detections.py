"""From class logits and boxes of every anchor to scored detections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.encoders.kernels.suppression import suppress

CANDIDATES = 5000
"""How many anchors enter the suppression at most (google/automl's max_nms_inputs)."""


def detect(
    logits: NDArray[Any],
    boxes: NDArray[np.float32],
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> Annotations:
    """Return the detections of one image, by falling score.

    Each anchor stands for its best class; class by class, the lower-scored of two boxes that
    overlap by more than `iou_threshold` falls.

    Args:
        logits: (A, C) class logits.
        boxes: (A, 4) float32 `(y_min, x_min, y_max, x_max)` pixels.
        score_threshold: lowest score (sigmoid of the logit) that is returned.
        iou_threshold: IoU above which two boxes of a class are one object.
        max_detections: most detections returned.
    """
    labels = logits.argmax(axis=-1).astype(np.int32)
    best = np.take_along_axis(logits, labels[:, None], axis=-1)[:, 0].astype(np.float64)
    scores = (0.5 * (1 + np.tanh(0.5 * best))).astype(np.float32)
    order = np.flatnonzero(scores >= score_threshold)
    order = order[np.argsort(-scores[order], kind="stable")[:CANDIDATES]]
    kept = np.empty(min(max_detections, order.size), np.int64)
    count = suppress(
        np.ascontiguousarray(boxes[order], np.float32), labels[order], iou_threshold, kept
    )
    rows = order[kept[:count]]
    return Annotations(boxes=boxes[rows], labels=labels[rows], scores=scores[rows])
