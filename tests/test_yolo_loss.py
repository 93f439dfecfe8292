"""`YoloLoss` and `PolygonLoss` against a literal NumPy transcription, values and gradients."""

import numpy as np
import pytest
import tensorflow as tf

from laws import slope
from ytrue import Annotations
from ytrue.encoders import PolygonEncoder, YoloEncoder
from ytrue.model.losses import PolygonLoss, YoloLoss
from ytrue.model.recipe import Recipe
from ytrue.model.tasks import build_model, task_of

SIZE = (64, 96)
V = 6


def yolo(**options):
    return YoloEncoder(
        SIZE, [[(16, 16), (24, 12)], [(40, 40), (30, 60)]], stride=(8, 16), num_classes=3, **options
    )


def scenes():
    square = [(4, 8), (4, 40), (36, 40), (36, 8)]
    return [
        Annotations(
            [(4, 8, 36, 40), (20, 50, 60, 90), (0, 0, 9, 9)], [2, 0, 1],
            polygons=[[square], [[(20, 50), (60, 70), (20, 90)]], [[(0, 0), (9, 0), (9, 9)]]],
        ),
        Annotations(),
    ]  # fmt: skip


def entropy(t, z):
    p = 1 / (1 + np.exp(-z))
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def transcribed(target, raw, areas, scales, gamma, alpha, low, high):
    """The formulae of the docstrings, place by place, in float64."""
    raw = {name: array.astype(np.float64) for name, array in raw.items()}
    state = target["state"]
    flat = {
        name: array.reshape(state.size, *array.shape[state.ndim :])
        for name, array in target.items()
    }
    given = {
        name: array.reshape(state.size, *array.shape[state.ndim :]) for name, array in raw.items()
    }
    parts = dict.fromkeys(("objectness", "class", "box", "distance", "angle", "vertex"), 0.0)
    positives = max(1, int((state == 1).sum()))
    for k, s in enumerate(state.ravel()):
        if s != -1:
            t, z = float(s == 1), given["objectness"][k]
            p = 1 / (1 + np.exp(-z))
            weight = 1.0 if alpha is None else (alpha if t else 1 - alpha)
            parts["objectness"] += weight * abs(t - p) ** gamma * entropy(t, z)
        if s == 1:
            one_hot = np.eye(3)[flat["label"][k]]
            parts["class"] += entropy(one_hot, given["class"][k]).sum()
            box = flat["box"][k].astype(np.float64)
            share = areas[k % len(areas)] * np.exp(box[2] + box[3])
            u = (box[:2] - low) / (high - low)
            terms = entropy(u, given["box"][k][:2]).sum()
            terms += 0.5 * ((box[2:] - given["box"][k][2:]) ** 2).sum()
            parts["box"] += (2 - share) * terms
            for (r, a, mark), (rr, ra, rk) in zip(
                flat["polygon"][k].astype(np.float64), given["polygon"][k], strict=True
            ):
                if mark:
                    d = scales[k % len(scales)]
                    parts["distance"] += (2 - share) * 0.5 * (np.log(max(r, 0.005) / d) - rr) ** 2
                    parts["angle"] += (2 - share) * entropy(a, ra)
                parts["vertex"] += (2 - share) * entropy(mark, rk)
    parts = {name: value / positives for name, value in parts.items()}
    outline = parts["distance"] + parts["angle"] + parts["vertex"]
    return parts | {"loss": parts["objectness"] + parts["class"] + parts["box"] + 0.2 * outline}


def outputs(target, seed=0):
    rng = np.random.default_rng(seed)
    shape = target["state"].shape
    return {
        "objectness": rng.normal(0, 2, shape).astype(np.float32),
        "class": rng.normal(0, 2, (*shape, 3)).astype(np.float32),
        "box": rng.normal(0, 1, (*shape, 4)).astype(np.float32),
        "polygon": rng.normal(0, 1, (*shape, V, 3)).astype(np.float32),
    }


@pytest.mark.parametrize("neighbours", [0, 2])
@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, None), (2.0, 0.25)])
def test_it_is_the_transcription_in_value_and_gradient(neighbours, gamma, alpha):
    encoder = PolygonEncoder(yolo(neighbours=neighbours), bins=V)
    target = encoder.encode_batch(scenes())
    assert (target["state"] == 1).sum() >= 3
    assert (target["state"] == -1).any()
    raw = outputs(target)
    rng = np.random.default_rng(1)
    count = len(encoder.boxes.boxes)
    areas, scales = rng.uniform(0.01, 0.2, count), rng.uniform(0.05, 0.5, count)
    low, high = encoder.boxes.offset_range
    common = {"areas": areas, "offset_range": (low, high), "gamma": gamma, "alpha": alpha}
    loss = PolygonLoss(scales, **common)
    variables = {name: tf.Variable(array) for name, array in raw.items()}
    with tf.GradientTape() as tape:
        found = loss(target, variables)
    wanted = transcribed(target, raw, areas, scales, gamma, alpha, low, high)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5)
    boxes_only = YoloLoss(**common)(target, variables)
    for name in ("objectness", "class", "box"):
        np.testing.assert_array_equal(boxes_only[name], found[name])
    gradients = tape.gradient(found["loss"], variables)

    def total(moved):
        return transcribed(target, moved, areas, scales, gamma, alpha, low, high)["loss"]

    places = np.flatnonzero(target["state"].ravel() == 1)[:2].tolist() + [5]
    for name, gradient in gradients.items():
        dense = tf.convert_to_tensor(gradient).numpy().reshape(target["state"].size, -1)
        for place in places:
            for number in range(min(3, dense.shape[1])):
                at = np.unravel_index(place * dense.shape[1] + number, raw[name].shape)
                expected = slope(total, raw, name, at)
                assert dense[place, number] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_no_object_and_wild_logits_are_finite():
    encoder = PolygonEncoder(yolo(), bins=V)
    target = encoder.encode_batch([Annotations()])
    raw = {name: np.full_like(array, 1e4) for name, array in outputs(target).items()}
    losses = PolygonLoss()(target, raw)
    assert all(np.isfinite(value) for value in losses.values())
    assert losses["box"] == losses["vertex"] == 0


def test_perfect_outputs_are_found_and_cost_little():
    encoder = PolygonEncoder(yolo(), bins=V)
    truth = scenes()[0]
    target = encoder.encode_batch([truth])
    positive = target["state"] == 1
    scale = task_of(encoder).loss(encoder, Recipe())
    logs = np.exp(scale.log_scales.numpy()).reshape(target["state"].shape[1:])[None]
    offset = np.clip(target["box"][..., :2], 1e-5, 1 - 1e-5)
    polygon = target["polygon"]
    distance = np.where(polygon[..., 0] > 0, polygon[..., 0], 1) / logs[..., None]
    angle = np.clip(polygon[..., 1], 1e-5, 1 - 1e-5)
    raw = {
        "objectness": np.where(positive, 12.0, -12.0),
        "class": 24.0 * (target["label"][..., None] == np.arange(3)) - 12,
        "box": np.concatenate((np.log(offset / (1 - offset)), target["box"][..., 2:]), axis=-1),
        "polygon": np.stack(
            (np.log(distance), np.log(angle / (1 - angle)), 24 * polygon[..., 2] - 12), axis=-1
        ),
    }
    raw = {name: array.astype(np.float32) for name, array in raw.items()}
    losses = scale(target, raw)
    assert losses["distance"] < 1e-6
    assert losses["objectness"] < 1e-2
    found = encoder.decode({name: array[0] for name, array in raw.items()}, score_threshold=0.5)
    wanted = encoder.decode({name: array[0] for name, array in target.items()})
    order = np.argsort(found.labels)
    by_label = np.argsort(wanted.labels)
    np.testing.assert_allclose(found.boxes[order], wanted.boxes[by_label], atol=1e-2)
    for k, j in zip(order, by_label, strict=True):
        np.testing.assert_allclose(found.polygons[k][0], wanted.polygons[j][0], atol=2e-2)


def test_what_does_not_go_together_is_named():
    encoder = PolygonEncoder(yolo(), bins=V)
    target = encoder.encode_batch(scenes())
    raw = outputs(target)
    with pytest.raises(ValueError, match="numbers of places differ: .* the loss's anchors 5"):
        YoloLoss(areas=np.ones(5))(target, raw)
    with pytest.raises(ValueError, match="predictions lack objectness"):
        YoloLoss()(target, {name: raw[name] for name in ("class", "box")})
    with pytest.raises(ValueError, match="predictions lack polygon"):
        PolygonLoss()(target, {name: raw[name] for name in ("class", "box", "objectness")})
    with pytest.raises(ValueError, match="box_weight=-1: expected a finite number from 0"):
        YoloLoss(box_weight=-1)
    with pytest.raises(ValueError, match="polygon_weight=-1"):
        PolygonLoss(polygon_weight=-1)
    with pytest.raises(ValueError, match=r"offset_range=\(1, 0\)"):
        YoloLoss(offset_range=(1, 0))


@pytest.mark.parametrize("encoder", [yolo(), PolygonEncoder(yolo(neighbours=1), bins=V)])
def test_the_network_answers_the_targets(encoder):
    model = build_model(encoder, "nano")
    images = np.zeros((2, *SIZE, 3), np.uint8)
    answered = model(images)
    target = encoder.encode_batch(scenes())
    losses = task_of(encoder).loss(encoder, Recipe())(target, answered)
    assert all(np.isfinite(value) for value in losses.values())
    for name in ("class", "box"):
        assert answered[name].shape[:-1] == target["state"].shape
    decoded = encoder.decode(
        {name: array[0].numpy() for name, array in answered.items()}, score_threshold=0.0
    )
    assert len(decoded)
