"""From scores of every anchor to detections: the kernels against their slow twin."""

import numpy as np
import pytest

from reference.detections import detect as twin
from ytrue.encoders.detections import detect
from ytrue.encoders.kernels.candidates import best_classes


def predictions(seed, anchors=300, classes=5):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (anchors, 2))
    boxes = np.concatenate((corners, corners + rng.uniform(0, 40, (anchors, 2))), axis=1)
    # quarters: many equal scores, some at the threshold itself
    logits = np.round(rng.normal(-2, 2, (anchors, classes)) * 4) / 4
    return logits.astype(np.float32), boxes.astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["logits", "scores"])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 1.0])
def test_detections_equal_the_slow_twins(seed, kind, threshold):
    values, boxes = predictions(seed)
    if kind == "scores":
        values = 1 / (1 + np.exp(-values))
    options = {"score_threshold": threshold, "iou_threshold": 0.4, "max_detections": 40}
    found = detect(values, boxes, logits=kind == "logits", **options)
    rows, labels, scores = twin(values, boxes, kind=kind, **options)
    np.testing.assert_array_equal(found.boxes, boxes[rows])
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.scores, scores)


def test_a_score_at_the_threshold_counts_and_of_equal_ones_the_first_class():
    scores = np.array([[0.1, 0.5, 0.5], [0.4, 0.4, 0.1], [np.nan, 0.2, 0.6]], np.float32)
    rows, labels, best = np.empty(3, np.int64), np.empty(3, np.int32), np.empty(3, np.float32)
    count = best_classes(scores, np.float32(0.5), rows, labels, best)
    assert count == 2
    assert rows[:2].tolist() == [0, 2]
    assert labels[:2].tolist() == [1, 2]
    assert best[:2].tolist() == pytest.approx([0.5, 0.6])


def test_no_anchor_above_the_threshold_is_no_detection():
    values, boxes = predictions(0)
    assert len(detect(values, boxes, score_threshold=1.0)) == 0
    assert len(detect(values[:0], boxes[:0])) == 0
