"""`CenterNetLoss` and `CenterHead`: a literal NumPy transcription, values and gradients; shapes; refusals."""

import numpy as np
import pytest
import tensorflow as tf

from laws import slope
from ytrue import Annotations
from ytrue.encoders import CenterNetEncoder
from ytrue.model.centernetheads import CenterHead
from ytrue.model.losses import CenterNetLoss
from ytrue.model.recipe import Recipe
from ytrue.model.tasks import build_model, task_of

SIZE = (64, 96)
NAMES = ("heatmap", "size", "offset")


def encoder_of(**options):
    return CenterNetEncoder(SIZE, 3, **({"stride": 8} | options))


def scenes():
    return [
        Annotations(
            [(4, 8, 36, 40), (20, 50, 60, 90), (0, 0, 20, 20), (2, 2, 18, 18), (40, 0, 64, 40)],
            [2, 0, 1, 0, 1], [False, False, False, False, True],
        ),
        Annotations(),
    ]  # fmt: skip


def outputs(target, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 2, target[name].shape).astype(np.float32) for name in NAMES}


def transcribed(target, raw, gamma, beta):
    """The formulae of the docstring, cell by cell, in float64."""
    parts = dict.fromkeys(NAMES, 0.0)
    peaks = positives = 0
    for place in np.ndindex(target["state"].shape):
        state = target["state"][place]
        if state == 1:
            positives += 1
            for name in ("size", "offset"):
                parts[name] += np.abs(target[name][place] - raw[name][place].astype(float)).sum()
        if state == -1:
            continue
        for y, z in zip(target["heatmap"][place].astype(float), raw["heatmap"][place], strict=True):
            p = 1 / (1 + np.exp(-float(z)))
            if y == 1:
                peaks += 1
                parts["heatmap"] += (1 - p) ** gamma * -np.log(p)
            else:
                parts["heatmap"] += (1 - y) ** beta * p**gamma * -np.log(1 - p)
    parts["heatmap"] /= max(peaks, 1)
    for name in ("size", "offset"):
        parts[name] /= max(positives, 1)
    return parts | {"loss": parts["heatmap"] + 0.1 * parts["size"] + parts["offset"]}


@pytest.mark.parametrize(("gamma", "beta"), [(2.0, 4.0), (1.5, 1.0), (0.0, 0.0)])
def test_it_is_the_transcription_in_value_and_gradient(gamma, beta):
    target = encoder_of(radius="published").encode_batch(scenes())
    assert (target["state"] == -1).any()
    # Two objects of two classes share a cell: one more peak than positives.
    assert (target["heatmap"] == 1).sum() > (target["state"] == 1).sum() > 1
    raw = outputs(target)
    variables = {name: tf.Variable(array) for name, array in raw.items()}
    with tf.GradientTape() as tape:
        found = CenterNetLoss(gamma=gamma, beta=beta)(target, variables)
    wanted = transcribed(target, raw, gamma, beta)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5)
    gradients = tape.gradient(found["loss"], variables)

    def total(moved):
        return transcribed(target, moved, gamma, beta)["loss"]

    peak = tuple(np.argwhere(target["heatmap"] == 1)[0])
    near = tuple(np.argwhere((target["heatmap"] > 0) & (target["heatmap"] < 1))[0])
    ignored = (*np.argwhere(target["state"] == -1)[0], 1)
    for name, places in {
        "heatmap": [peak, near, ignored, (1, 0, 0, 0)],
        "size": [(*peak[:3], 0), (1, 0, 0, 1)],
        "offset": [(*peak[:3], 1)],
    }.items():
        dense = tf.convert_to_tensor(gradients[name]).numpy()
        for place in places:
            expected = slope(total, raw, name, place)
            assert dense[place] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_no_object_and_wild_outputs_are_finite():
    target = encoder_of().encode_batch([Annotations(), scenes()[0]])
    for value in (1e4, -1e4):
        raw = {name: np.full_like(array, value) for name, array in outputs(target).items()}
        variables = {name: tf.Variable(array) for name, array in raw.items()}
        with tf.GradientTape() as tape:
            losses = CenterNetLoss()(target, variables)
        assert all(np.isfinite(value) for value in losses.values())
        for gradient in tape.gradient(losses["loss"], variables).values():
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()
    nothing = encoder_of().encode_batch([Annotations()])
    losses = CenterNetLoss()(nothing, outputs(nothing))
    assert losses["size"] == losses["offset"] == 0 < losses["heatmap"]


def test_perfect_outputs_cost_little_and_are_found():
    encoder = encoder_of()
    truth = scenes()[0]
    target = encoder.encode_batch([truth])
    raw = {
        "heatmap": np.where(target["heatmap"] == 1, 12.0, -12.0),
        "size": target["size"],
        "offset": target["offset"],
    }
    raw = {name: array.astype(np.float32) for name, array in raw.items()}
    losses = CenterNetLoss()(target, raw)
    assert losses["loss"] < 1e-3
    wanted = encoder.decode({name: array[0] for name, array in target.items()})
    found = encoder.decode({name: array[0] for name, array in raw.items()}, score_threshold=0.5)
    assert len(found) == len(wanted) + 1  # of the two that share a cell, both classes
    for box, label in zip(wanted.boxes, wanted.labels, strict=True):
        same = (np.abs(found.boxes - box) < 1e-3).all(axis=1) & (found.labels == label)
        assert same.sum() == 1


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_the_network_answers_the_targets(stride):
    encoder = encoder_of(stride=stride)
    model = build_model(encoder, "nano")
    assert list(model.pyramid.wanted) == [3]
    answered = model(np.zeros((2, *SIZE, 3), np.uint8))
    target = encoder.encode_batch(scenes())
    for name in NAMES:
        assert answered[name].shape == target[name].shape
    losses = task_of(encoder).loss(encoder, Recipe())(target, answered)
    assert all(np.isfinite(value) for value in losses.values())
    first = tf.sigmoid(answered["heatmap"]).numpy()
    np.testing.assert_allclose(first.mean(), 0.1, atol=0.05)
    found = encoder.decode(
        {name: array[0].numpy() for name, array in answered.items()}, score_threshold=0.0
    )
    assert len(found)


def test_what_does_not_go_together_is_named():
    target = encoder_of().encode_batch(scenes())
    raw = outputs(target)
    with pytest.raises(ValueError, match="predictions lack heatmap, size"):
        CenterNetLoss()(target, {"offset": raw["offset"]})
    with pytest.raises(
        ValueError, match="numbers of rows differ: .* of one image size and stride?"
    ):
        CenterNetLoss()(target, raw | {"size": raw["size"][:, 1:]})
    with pytest.raises(ValueError, match="beta=-1: expected a finite number from 0"):
        CenterNetLoss(beta=-1)
    with pytest.raises(ValueError, match=r"on=\[1\]: expected \[0\], the finest level"):
        CenterHead(3, 1, on=[1], levels=2)
    with pytest.raises(ValueError, match="stride=3: expected one of 8, 4, 2"):
        CenterHead(3, 1, on=[0], levels=1, stride=3)
    with pytest.raises(ValueError, match="targets have a stride of 16, the network's finest"):
        build_model(encoder_of(stride=16), "nano")
