"""Detections from predictions: equal to google/automl's postprocessing, and to a plain twin."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ytrue.encoders import preset
from ytrue.encoders.detections import detect

LEVELS = range(3, 8)


def cases(golden):
    arrays = np.load(golden / "postprocess_shared.npz")
    for case in json.loads((golden / "postprocess_meta_shared.json").read_text()):
        tag = case["tag"]
        yield case, {k.removeprefix(tag): arrays[k] for k in arrays if k.startswith(tag)}


def official(case):
    """The options of google/automl's nms_configs in our words."""
    configs = case["nms_configs"]
    options = {"method": configs["method"], "max_detections": configs["max_output_size"]}
    if configs["method"] == "gaussian":
        options["score_threshold"] = configs["score_thresh"] or 0.001
    else:
        options["score_threshold"] = configs["score_thresh"] or 0.0
        options["iou_threshold"] = configs["iou_thresh"] or 0.5
    top = configs["max_nms_inputs"]
    options["max_candidates"] = top or None
    options["classes"] = "all" if top else "best"
    return options


def predictions(case, arrays, row):
    flat = {
        ours: np.concatenate(
            [arrays[f"{theirs}_P{level}"][row].reshape(-1, size) for level in LEVELS]
        )
        for ours, theirs, size in (("class", "cls", case["num_classes"]), ("box", "box", 4))
    }
    return preset("efficientdet", case["image_hw"], case["num_classes"]), flat


def assert_equal(found, arrays, kind, row, height_width, scale):
    count = int(arrays[f"{kind}_valid_len"][row])
    # Zeros after a class ran out of boxes count as valid there.
    count = min(count, int((arrays[f"{kind}_scores"][row] > 0).sum()))
    boxes = found.boxes
    if kind != "per_class":  # which does not clip
        boxes = np.clip(boxes, 0, np.tile(np.float32(height_width), 2))
    assert len(found) == count
    np.testing.assert_array_equal(found.labels + 1, arrays[f"{kind}_classes"][row][:count])
    np.testing.assert_allclose(
        found.scores, arrays[f"{kind}_scores"][row][:count], rtol=2e-6, atol=0
    )
    np.testing.assert_allclose(
        boxes * scale, arrays[f"{kind}_boxes"][row][:count], rtol=1e-6, atol=1e-3
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("global", {"scope": "global"}),
        ("per_class", {"scope": "class"}),
        ("combined", {"classes": "all", "max_candidates": None, "method": "hard"}),
    ],
)
def test_detections_are_googles(shared_golden, kind, options):
    seen = 0
    for case, arrays in cases(shared_golden):
        settings = official(case) | options
        if kind == "combined":  # it knows neither soft suppression nor other overlaps
            settings |= {"iou_threshold": 0.5}
            settings["score_threshold"] = case["nms_configs"]["score_thresh"] or 0.0
        for row in range(case["batch"]):
            encoder, flat = predictions(case, arrays, row)
            scale = 1.0 if case["scales"] is None else case["scales"][row]
            found = encoder.decode(flat, **settings)
            assert_equal(found, arrays, kind, row, case["image_hw"], scale)
            seen += 1
    assert seen == 8


def suppressed(boxes, labels, scores, *, by_class, threshold, sigma, least, most):
    """The plain twin: take the highest score, lower or drop its rivals, again."""
    scores = scores.astype(np.float64).copy()
    left, kept = list(range(len(boxes))), []
    while left and len(kept) < most:
        best = max(left, key=lambda k: (scores[k], -k))
        if scores[best] < least:
            break
        kept.append(best)
        left.remove(best)
        for k in list(left):
            if by_class and labels[k] != labels[best]:
                continue
            low = np.maximum(boxes[k, :2], boxes[best, :2])
            high = np.minimum(boxes[k, 2:], boxes[best, 2:])
            shared = np.prod(np.maximum(high - low, 0))
            areas = sum(np.prod(boxes[j, 2:] - boxes[j, :2]) for j in (k, best))
            overlap = shared / (areas - shared) if shared > 0 else 0.0
            if sigma is not None:
                scores[k] *= np.exp(-(overlap**2) / sigma)
            elif overlap > threshold:
                left.remove(k)
    return kept, scores[kept]


@given(
    st.integers(0, 40),
    st.integers(0, 10**6),
    st.sampled_from(["class", "global"]),
    st.sampled_from([None, 0.3, 0.5]),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 12),
)
@settings(deadline=None)
def test_suppression_equals_its_twin(count, seed, scope, sigma, least, most):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate((corner, corner + rng.integers(1, 8, (count, 2))), 1).astype(np.float32)
    # Scores far apart, so that rounding decides nothing.
    values = rng.permutation(np.arange(1, 2 * count + 1))[: 2 * count].reshape(count, 2)
    values = (values / (2 * count + 1)).astype(np.float32)
    labels = values.argmax(1)
    order = np.argsort(-values.max(1), kind="stable")
    order = order[values.max(1)[order] >= least]
    kept, scores = suppressed(
        boxes[order], labels[order], values.max(1)[order], by_class=scope == "class",
        threshold=0.4, sigma=sigma, least=least, most=most,
    )  # fmt: skip
    found = detect(
        values, boxes, logits=False, score_threshold=least, scope=scope, iou_threshold=0.4,
        method="hard" if sigma is None else "gaussian", sigma=sigma or 0.5, max_detections=most,
    )  # fmt: skip
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    np.testing.assert_array_equal(found.boxes, boxes[order[kept]])
    np.testing.assert_array_equal(found.labels, labels[order[kept]])


def test_scores_and_logits_give_the_same():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 5)).astype(np.float32)
    boxes = rng.uniform(0, 40, (200, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + 10
    scores = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    for classes in ("best", "all"):
        one = detect(logits, boxes, classes=classes, score_threshold=0.3)
        other = detect(scores, boxes, classes=classes, score_threshold=0.3, logits=False)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)


def test_what_is_not_a_number_is_no_detection():
    values = np.array([[np.nan, np.nan], [0.9, 0.1]], np.float32)
    boxes = np.array([[0, 0, 1, 1], [2, 2, 4, 4]], np.float32)
    for classes in ("best", "all"):
        assert detect(values, boxes, logits=False, classes=classes).scores.tolist() == [
            np.float32(0.9),
            *([np.float32(0.1)] if classes == "all" else []),
        ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "all"}, "scope='all': expected one of class, global"),
        ({"method": "linear"}, "method='linear': expected one of hard, gaussian"),
        ({"classes": "top"}, "classes='top': expected one of best, all"),
        ({"score_threshold": 1.5}, "score_threshold=1.5: expected a number in"),
        ({"sigma": 0.0}, "sigma=0.0: expected more than 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        detect(np.zeros((1, 1)), np.zeros((1, 4), np.float32), **options)


@pytest.mark.parametrize("side", [1e20, np.inf])
def test_soft_suppression_ends_where_an_overlap_is_no_number(side):
    boxes = np.array([(0, 0, side, side)] * 2 + [(0, 0, 8, 8)], np.float32)
    scores = np.array([[0.9], [0.8], [0.7]], np.float32)
    found = detect(scores, boxes, logits=False, method="gaussian")
    np.testing.assert_array_equal(found.boxes[0], np.float32([0, 0, side, side]))
    assert len(found) < 3
