"""`FCOSLoss` and `FCOSHead`: a literal NumPy transcription, values and gradients; shapes; refusals."""

import numpy as np
import pytest
import tensorflow as tf

from laws import slope
from ytrue import Annotations
from ytrue.encoders import FCOSEncoder
from ytrue.model.losses import FCOSLoss
from ytrue.model.recipe import Recipe
from ytrue.model.tasks import build_model, task_of

SIZE = (64, 96)
NAMES = ("class", "box", "centerness")


def encoder_of(**options):
    return FCOSEncoder(SIZE, 3, **({"stride": (8, 16)} | options))


def scenes():
    return [
        Annotations(
            [(4, 8, 36, 40), (20, 50, 60, 90), (0, 0, 20, 20), (40, 0, 64, 40)],
            [2, 0, 1, 1], [False, False, False, True],
        ),
        Annotations(),
    ]  # fmt: skip


def outputs(target, seed=0):
    rng = np.random.default_rng(seed)
    shape = target["state"].shape
    return {
        "class": rng.normal(0, 2, (*shape, 3)).astype(np.float32),
        "box": rng.normal(0, 1, (*shape, 4)).astype(np.float32),
        "centerness": rng.normal(0, 2, shape).astype(np.float32),
    }


def giou(one, other):
    """Of distances (top, left, bottom, right) from one point."""

    def area(d):
        return (d[0] + d[2]) * (d[1] + d[3])

    shared = area(np.minimum(one, other))
    union = area(one) + area(other) - shared
    around = area(np.maximum(one, other))
    return shared / union - (around - union) / around


def transcribed(target, raw, alpha, gamma):
    """The formulae of the docstring, point by point, in float64."""
    parts = dict.fromkeys(NAMES, 0.0)
    centres = target["centerness"][target["state"] == 1].astype(float)
    for place in np.ndindex(target["state"].shape):
        state = target["state"][place]
        if state == -1:
            continue
        for c, z in enumerate(raw["class"][place].astype(float)):
            p = 1 / (1 + np.exp(-z))
            own = state == 1 and target["label"][place] == c
            q = p if own else 1 - p
            parts["class"] += (alpha if own else 1 - alpha) * (1 - q) ** gamma * -np.log(q)
        if state == 1:
            centre = float(target["centerness"][place])
            true = target["box"][place].astype(float)
            told = np.exp(raw["box"][place].astype(float))
            parts["box"] += centre * (1 - giou(told, true)) / centres.sum()
            p = 1 / (1 + np.exp(-float(raw["centerness"][place])))
            parts["centerness"] += -centre * np.log(p) - (1 - centre) * np.log(1 - p)
    for name in ("class", "centerness"):
        parts[name] /= max(len(centres), 1)
    return parts | {"loss": sum(parts.values())}


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 1.5)])
def test_it_is_the_transcription_in_value_and_gradient(alpha, gamma):
    target = encoder_of().encode_batch(scenes())
    assert (target["state"] == -1).any()
    assert (target["state"] == 1).sum() > 3
    raw = outputs(target)
    variables = {name: tf.Variable(array) for name, array in raw.items()}
    with tf.GradientTape() as tape:
        found = FCOSLoss(alpha=alpha, gamma=gamma)(target, variables)
    wanted = transcribed(target, raw, alpha, gamma)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5)
    gradients = tape.gradient(found["loss"], variables)

    def total(moved):
        return transcribed(target, moved, alpha, gamma)["loss"]

    first, second = (tuple(row) for row in np.argwhere(target["state"] == 1)[:2])
    ignored = tuple(np.argwhere(target["state"] == -1)[0])
    for name, places in {
        "class": [(*first, 0), (*first, 2), (*ignored, 1), (1, 3, 1)],
        "box": [(*first, 0), (*second, 3), (1, 3, 1)],
        "centerness": [first, second, ignored],
    }.items():
        dense = tf.convert_to_tensor(gradients[name]).numpy()
        for place in places:
            expected = slope(total, raw, name, place)
            assert dense[place] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_no_object_and_wild_outputs_are_finite():
    target = encoder_of().encode_batch([Annotations(), scenes()[0]])
    for value in (1e4, -1e4):
        variables = {
            name: tf.Variable(np.full_like(array, value)) for name, array in outputs(target).items()
        }
        with tf.GradientTape() as tape:
            losses = FCOSLoss()(target, variables)
        assert all(np.isfinite(value) for value in losses.values())
        for gradient in tape.gradient(losses["loss"], variables).values():
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()
    nothing = encoder_of().encode_batch([Annotations()])
    losses = FCOSLoss()(nothing, outputs(nothing))
    assert losses["box"] == losses["centerness"] == 0 < losses["class"]


def test_perfect_outputs_are_found():
    encoder = encoder_of()
    target = encoder.encode_batch(scenes()[:1])
    positive = target["state"] == 1
    raw = {
        "class": np.where(
            positive[..., None] & (target["label"][..., None] == np.arange(3)), 9.0, -9.0
        ),
        "box": np.log(np.where(positive[..., None], target["box"], 1.0)),
        "centerness": np.where(positive, 9.0, -9.0),
    }
    raw = {name: array.astype(np.float32) for name, array in raw.items()}
    assert FCOSLoss()(target, raw)["box"] < 1e-5
    wanted = encoder.decode({name: array[0] for name, array in target.items()})
    found = encoder.decode({name: array[0] for name, array in raw.items()}, score_threshold=0.5)
    order = np.argsort(found.labels)
    assert found.labels[order].tolist() == sorted(wanted.labels) == [0, 1, 2]
    np.testing.assert_allclose(
        found.boxes[order], wanted.boxes[np.argsort(wanted.labels)], atol=1e-3
    )


@pytest.mark.parametrize("stride", [(8, 16, 32, 64, 128), (8, 16), (16,)])
def test_the_network_answers_the_targets(stride):
    encoder = FCOSEncoder((128, 128), 3, stride=stride)
    model = build_model(encoder, "nano")
    answered = model(np.zeros((2, 128, 128, 3), np.uint8))
    target = encoder.encode_batch(scenes())
    assert answered["centerness"].shape == target["state"].shape
    for name, last in (("class", 3), ("box", 4)):
        assert answered[name].shape == (*target["state"].shape, last)
    losses = task_of(encoder).loss(encoder, Recipe())(target, answered)
    assert all(np.isfinite(value) for value in losses.values())
    (factors,) = [weight for weight in model.weights if weight.path.endswith("scales/factors")]
    assert factors.shape == (len(stride),)
    factors.assign(2.0 * tf.ones(len(stride)))
    np.testing.assert_allclose(
        model(np.zeros((2, 128, 128, 3), np.uint8))["box"],
        2 * answered["box"],
        rtol=1e-4,
        atol=1e-6,
    )


def test_what_does_not_go_together_is_named():
    target = encoder_of().encode_batch(scenes())
    raw = outputs(target)
    with pytest.raises(ValueError, match="predictions lack centerness"):
        FCOSLoss()(target, {name: raw[name] for name in ("class", "box")})
    with pytest.raises(ValueError, match="numbers of points differ: .* image size and levels?"):
        FCOSLoss()(target, raw | {"box": raw["box"][:, 1:]})
    with pytest.raises(ValueError, match="kind='l1': expected one of"):
        FCOSLoss(kind="l1")
    with pytest.raises(ValueError, match="box_weight=-1: expected a finite number from 0"):
        FCOSLoss(box_weight=-1)
    with pytest.raises(ValueError, match="no level of the network has a grid of 16x24"):
        build_model(encoder_of(stride=(4,)), "nano")
