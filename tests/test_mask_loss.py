"""`MaskLoss` and `MaskHeads`: a literal NumPy transcription, values and gradients; shapes; refusals."""

import numpy as np
import pytest
import tensorflow as tf

from laws import slope
from ytrue import Annotations
from ytrue.encoders import MaskEncoder, preset
from ytrue.model.losses import DetectionLoss, MaskLoss
from ytrue.model.recipe import Recipe
from ytrue.model.tasks import build_model, task_of

SIZE = (64, 96)
K = 3


def encoder_of(stride=8):
    return MaskEncoder(preset("ytrue", SIZE, 3, num_scales=1, aspect_ratios=(1.0,)), stride=stride)


def scenes():
    square = [(4, 8), (4, 40), (36, 40), (36, 8)]
    triangle = [(20, 50), (60, 70), (20, 90)]
    return [
        Annotations(
            [(4, 8, 36, 40), (20, 50, 60, 90), (0, 0, 20, 20)], [2, 0, 1],
            polygons=[[square], [triangle], []],
        ),
        Annotations([(8, 8, 12, 12)], [1], polygons=[[[(8, 8), (8, 12), (12, 12), (12, 8)]]]),
        Annotations(),
    ]  # fmt: skip


def outputs(encoder, target, seed=0):
    rng = np.random.default_rng(seed)
    batch, anchors = target["state"].shape
    return {
        "class": rng.normal(0, 2, (batch, anchors, 3)).astype(np.float32),
        "box": rng.normal(0, 1, (batch, anchors, 4)).astype(np.float32),
        "coefficients": rng.uniform(-1, 1, (batch, anchors, K)).astype(np.float32),
        "prototypes": rng.uniform(0, 2, (batch, *encoder.cells, K)).astype(np.float32),
    }


def transcribed(encoder, target, raw, most):
    """The formula of the docstring, anchor by anchor and cell by cell, in float64."""
    total = 0.0
    rows, columns = encoder.cells
    positives = max(1, int((target["state"] == 1).sum()))
    for i in range(len(target["state"])):
        anchors = [
            a for a in np.flatnonzero(target["state"][i] == 1)
            if target["mask_state"][i, target["object"][i, a]] == 1
        ]  # fmt: skip
        kept = min(len(anchors), most)
        for rank, a in enumerate(anchors):
            if (rank + 1) * kept // len(anchors) == rank * kept // len(anchors):
                continue
            k = target["object"][i, a]
            top, left, bottom, right = target["mask_box"][i, k].astype(float)
            area = max(1.0, (bottom - top) * (right - left))
            for row in range(rows):
                for column in range(columns):
                    near = row + 1 > top - 1 and row < bottom + 1
                    if near and column + 1 > left - 1 and column < right + 1:
                        x = raw["prototypes"][i, row, column].astype(float)
                        z = float(x @ raw["coefficients"][i, a].astype(float))
                        p = 1 / (1 + np.exp(-z))
                        t = float(target["masks"][i, k, row, column])
                        cost = -t * np.log(p) - (1 - t) * np.log(1 - p)
                        total += cost / area * len(anchors) / kept
    return total / positives


@pytest.mark.parametrize("most", [100, 3])
def test_it_is_the_transcription_in_value_and_gradient(most):
    encoder = encoder_of()
    target = encoder.encode_batch(scenes())
    assert (target["state"][0] == 1).sum() > 3
    assert (target["mask_state"] == -1).any()
    raw = outputs(encoder, target)
    loss = MaskLoss(max_masks=most)
    variables = {name: tf.Variable(array) for name, array in raw.items()}
    with tf.GradientTape() as tape:
        found = loss(target, variables)
    wanted = transcribed(encoder, target, raw, most)
    assert float(found["mask"]) == pytest.approx(wanted, rel=2e-5)
    boxes = DetectionLoss()(target, variables)
    for name in ("class", "box"):
        np.testing.assert_array_equal(boxes[name], found[name])
    np.testing.assert_allclose(found["loss"], boxes["loss"] + 6.125 * wanted, rtol=1e-5)
    gradients = tape.gradient(found["mask"], variables)

    def total(moved):
        return transcribed(encoder, target, moved, most)

    assert gradients["class"] is None
    assert gradients["box"] is None
    image, anchor = np.argwhere(target["state"] == 1)[0]
    places = [("coefficients", (image, anchor, 1)), ("prototypes", (0, 2, 3, 0)),
              ("coefficients", (2, 5, 0)), ("prototypes", (1, 1, 1, 2))]  # fmt: skip
    for name, place in places:
        wanted = slope(total, raw, name, place)
        dense = tf.convert_to_tensor(gradients[name]).numpy()
        assert dense[place] == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_perfect_outputs_cost_little_and_are_found():
    encoder = encoder_of(4)
    truth = scenes()[:1]
    target = encoder.encode_batch(truth)
    # A prototype for each object: its mask; and one that takes away everywhere.
    prototypes = np.concatenate((target["masks"][0], np.full((1, *encoder.cells), 0.5)))
    own = np.eye(4)[np.maximum(target["object"], 0)]
    own[..., 3] = -1
    positive = target["state"][..., None] == 1
    raw = {
        "class": np.where(positive & (target["label"][..., None] == np.arange(3)), 9.0, -9.0),
        "box": target["box"],
        "coefficients": own,
        "prototypes": np.moveaxis(prototypes, 0, -1)[None] * 30,
    }
    raw = {name: array.astype(np.float32) for name, array in raw.items()}
    assert MaskLoss()(target, raw)["mask"] < 1e-4
    found = encoder.decode({name: array[0] for name, array in raw.items()}, score_threshold=0.5)
    wanted = encoder.decode({name: array[0] for name, array in target.items()})
    assert sorted(found.labels) == sorted(wanted.labels) == [0, 1, 2]
    for k, label in enumerate(found.labels):
        mask = wanted.masks[int(np.flatnonzero(wanted.labels == label)[0])]
        if mask is not None:
            a, b = found.masks[k].decode().astype(bool), mask.decode().astype(bool)
            assert (a & b).sum() / (a | b).sum() > 0.85


def test_images_without_masks_cost_nothing_and_wild_outputs_are_finite():
    encoder = encoder_of()
    for objects in (Annotations(), Annotations([(4, 8, 36, 40)], [2])):
        target = encoder.encode_batch([objects])
        raw = {name: np.full_like(a, 1e4) for name, a in outputs(encoder, target).items()}
        losses = MaskLoss()(target, raw)
        assert all(np.isfinite(value) for value in losses.values())
        assert losses["mask"] == 0


def test_one_graph_serves_batches_of_any_number_of_objects():
    encoder = encoder_of()
    loss = MaskLoss()
    batches = [encoder.encode_batch(scenes()), encoder.encode_batch([*scenes()[1:], Annotations()])]

    def call(target, raw):
        return loss(target, raw)["loss"]

    signature = {
        name: tf.TensorSpec((3, *shape), tf.as_dtype(dtype))
        for name, (shape, dtype) in encoder.spec.items()
    }
    raw = outputs(encoder, batches[0])
    like = {name: tf.TensorSpec(array.shape, tf.float32) for name, array in raw.items()}
    traced = tf.function(call, input_signature=[signature, like])
    for target in batches:
        np.testing.assert_allclose(traced(target, raw), loss(target, raw)["loss"], rtol=1e-5)
    assert {target["masks"].shape[1] for target in batches} == {3, 1}


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_the_network_answers_the_targets(stride):
    encoder = encoder_of(stride)
    model = build_model(encoder, "nano")
    answered = model(np.zeros((3, *SIZE, 3), np.uint8))
    target = encoder.encode_batch(scenes())
    assert answered["prototypes"].shape == (3, *encoder.cells, 32)
    assert answered["coefficients"].shape == (*target["state"].shape, 32)
    assert float(tf.reduce_min(answered["prototypes"])) >= 0
    assert float(tf.reduce_max(tf.abs(answered["coefficients"]))) <= 1
    losses = task_of(encoder).loss(encoder, Recipe())(target, answered)
    assert all(np.isfinite(value) for value in losses.values())
    found = encoder.decode(
        {name: array[0].numpy() for name, array in answered.items()}, score_threshold=0.0
    )
    assert len(found)
    assert all((mask.height, mask.width) == SIZE for mask in found.masks)


def test_what_does_not_go_together_is_named():
    encoder = encoder_of()
    target = encoder.encode_batch(scenes())
    raw = outputs(encoder, target)
    with pytest.raises(ValueError, match="predictions lack coefficients, prototypes"):
        MaskLoss()(target, {name: raw[name] for name in ("class", "box")})
    with pytest.raises(
        ValueError, match="numbers of rows differ: .* of one image size and stride?"
    ):
        MaskLoss()(target, raw | {"prototypes": raw["prototypes"][:, 1:]})
    with pytest.raises(ValueError, match="mask_weight=-1: expected a finite number from 0"):
        MaskLoss(mask_weight=-1)
    with pytest.raises(ValueError, match="max_masks=0: expected a whole number above 0"):
        MaskLoss(max_masks=0)
    with pytest.raises(
        ValueError, match="targets have a stride of 16, the network's finest features"
    ):
        build_model(encoder_of(16), "nano")
    odd = MaskEncoder(preset("ytrue", (60, 96), 3))
    with pytest.raises(
        ValueError, match="the image size is 60x96: features of a stride finer than"
    ):
        build_model(odd, "nano")
