"""The loss of points in cells: rows L4 to L6 to the letter, values and gradients."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_step import run

from strategies import keypoint_encoders, posed
from ytrue import Annotations
from ytrue.encoders import KeypointGridEncoder
from ytrue.model.losses import KeypointLoss, focal_terms

# (cells..., P), C: one grid, several grids, one cell for the whole image.
SHAPES = {
    "grid": ((5, 4, 1), 3),
    "slots": ((3, 6, 4), 2),
    "grids": ((26, 2), 5),
    "global": ((1, 1, 3), 1),
}
CLASSES = [("bce", None), ("focal", None), ("focal", 0.25)]


def batch(seed, images=3, slots=(5, 4, 1), classes=3, share=0.3, scale=3.0):
    """Targets as the encoder makes them, and logits of noise."""
    rng = np.random.default_rng(seed)
    state = (rng.random((images, *slots)) < share).astype(np.int8)
    held = state[..., None] == 1
    own = np.eye(classes)[rng.integers(0, classes, state.shape)]
    # A third of the coordinates on an edge of the cell.
    offset = np.clip(rng.uniform(-0.2, 1.2, (*state.shape, 2)), 0, 1)
    targets = {
        "state": state,
        "offset": np.where(held, offset, 0).astype(np.float32),
        "label": np.where(held, own, 0).astype(np.float32),
        "object": np.where(state == 1, 0, -1).astype(np.int32),
    }
    predictions = {
        "class": rng.normal(0, scale, (*state.shape, classes)).astype(np.float32),
        "xy": rng.normal(0, scale, (*state.shape, 2)).astype(np.float32),
    }
    return targets, predictions


def reference(targets, predictions, *, kind, alpha, gamma, xy_weight, normalizer):
    """Rows L4 to L6 in float64, slot by slot, coordinate by coordinate, class by class."""

    def entropy(t, x):
        p = 1 / (1 + np.exp(-x))
        return -t * np.log(p) - (1 - t) * np.log(1 - p)

    xs = {name: np.asarray(x, np.float64) for name, x in predictions.items()}
    points, found = 0, {"class": 0.0, "xy": 0.0}
    for slot in np.ndindex(targets["state"].shape):
        if targets["state"][slot] == 1:
            points += 1
            for axis in (0, 1):
                t = np.float64(targets["offset"][slot][axis])
                found["xy"] += entropy(t, xs["xy"][slot][axis])
        for c in range(targets["label"].shape[-1]):
            t, x = np.float64(targets["label"][slot][c]), xs["class"][slot][c]
            term = entropy(t, x)
            if kind == "focal":
                term *= np.abs(t - 1 / (1 + np.exp(-x))) ** gamma
            if alpha is not None:
                term *= alpha if t == 1 else 1 - alpha
            found["class"] += term
    by = max(points, 1) if normalizer == "points" else len(targets["state"])
    found = {name: value / by for name, value in found.items()}
    return {"loss": found["class"] + xy_weight * found["xy"], **found}


def slopes(targets, predictions, step=1e-5, **arguments):
    """The reference's gradient of "loss", by central differences."""
    xs = {name: np.asarray(x, np.float64) for name, x in predictions.items()}
    result = {name: np.zeros_like(x) for name, x in xs.items()}
    for name, x in xs.items():
        for place in np.ndindex(x.shape):
            sides = []
            for sign in (1, -1):
                moved = {**xs, name: x.copy()}
                moved[name][place] += sign * step
                sides.append(reference(targets, moved, **arguments)["loss"])
            result[name][place] = (sides[0] - sides[1]) / (2 * step)
    return result


def differentiated(loss, targets, predictions):
    inputs = {name: tf.constant(x) for name, x in predictions.items()}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        found = loss(targets, inputs)
    return found, tape.gradient(found["loss"], inputs)


@pytest.mark.parametrize("normalizer", ["points", "images"])
@pytest.mark.parametrize(("kind", "alpha"), CLASSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_is_its_definition(shape, kind, alpha, normalizer):
    slots, classes = SHAPES[shape]
    targets, predictions = batch(0, 2, slots, classes, share=0.5)
    assert targets["state"].any()
    arguments = {"kind": kind, "alpha": alpha, "gamma": 2.0, "xy_weight": 0.7,
                 "normalizer": normalizer}  # fmt: skip
    found = KeypointLoss(**arguments)(targets, predictions)
    assert list(found) == ["loss", *KeypointLoss.parts]
    for name, wanted in reference(targets, predictions, **arguments).items():
        assert (found[name].shape, found[name].dtype) == ((), tf.float32)
        assert float(found[name]) == pytest.approx(wanted, rel=3e-6), name


@pytest.mark.parametrize("normalizer", ["points", "images"])
@pytest.mark.parametrize(("kind", "alpha"), CLASSES)
@pytest.mark.parametrize("slots", [(2, 3, 1), (5, 2)], ids=["grid", "grids"])
def test_the_gradient_is_its_definitions(slots, kind, alpha, normalizer):
    targets, predictions = batch(1, 2, slots, 2, share=0.5)
    arguments = {"kind": kind, "alpha": alpha, "gamma": 1.5, "xy_weight": 2.0,
                 "normalizer": normalizer}  # fmt: skip
    _, gradients = differentiated(KeypointLoss(**arguments), targets, predictions)
    for name, wanted in slopes(targets, predictions, **arguments).items():
        assert np.abs(wanted).max() > 1e-2
        np.testing.assert_allclose(gradients[name], wanted, rtol=2e-5, atol=1e-7)


def test_focal_terms_weigh_nothing_without_alpha():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, 50).astype(np.float32), rng.integers(0, 2, 50)
    half = focal_terms(logits, targets, alpha=0.5, gamma=2.0, label_smoothing=0.1)
    whole = focal_terms(logits, targets, alpha=None, gamma=2.0, label_smoothing=0.1)
    np.testing.assert_array_equal(half * 2, whole)


def test_the_references_loss_but_for_points_on_an_edge():
    """AmberzzZZ/efficientDet kp/loss.py on its own layout, where no offset is 0."""
    targets, predictions = batch(2)
    held = targets["state"][..., None] == 1
    targets["offset"] = np.where(held, targets["offset"].clip(0.01, 0.99), 0).astype(np.float32)
    p = {name: 1 / (1 + np.exp(-x.astype(np.float64))) for name, x in predictions.items()}
    apart = np.abs(targets["label"] - p["class"])
    classes = (apart**2 * -np.log(1 - apart)).sum()
    t = targets["offset"].astype(np.float64)
    both = np.where(t > 0, -t * np.log(p["xy"]) - (1 - t) * np.log(1 - p["xy"]), 0).sum()
    found = KeypointLoss(normalizer="images")(targets, predictions)
    assert float(found["class"]) == pytest.approx(classes / len(held), rel=1e-5)
    assert float(found["xy"]) == pytest.approx(both / len(held), rel=1e-5)


def test_a_point_in_the_corner_of_its_cell_counts():
    targets, predictions = batch(3, 1, (2, 2, 1), 1, share=0)
    targets["state"][0, 1, 0, 0] = 1
    predictions["xy"][:] = 1.25
    loss = KeypointLoss()
    found, gradients = differentiated(loss, targets, predictions)
    assert not targets["offset"].any()
    assert float(found["xy"]) == pytest.approx(2 * np.log1p(np.exp(1.25)), rel=1e-6)
    slope = np.zeros((1, 2, 2, 1, 2))
    slope[0, 1, 0] = 1 / (1 + np.exp(-1.25))
    np.testing.assert_allclose(gradients["xy"], slope, rtol=1e-6)


@pytest.mark.parametrize("normalizer", ["points", "images"])
def test_images_without_points_teach_classes_and_no_positions(normalizer):
    targets, predictions = batch(4, share=0)
    loss = KeypointLoss(kind="bce", normalizer=normalizer)
    found, gradients = differentiated(loss, targets, predictions)
    by = 1 if normalizer == "points" else 3
    wanted = np.logaddexp(0, predictions["class"].astype(np.float64)).sum() / by
    assert float(found["class"]) == pytest.approx(wanted, rel=1e-6)
    assert float(found["xy"]) == 0
    assert (gradients["class"].numpy() > 0).all()
    np.testing.assert_array_equal(gradients["xy"], 0)


@pytest.mark.parametrize(("kind", "alpha"), CLASSES)
@pytest.mark.parametrize("size", [20.0, 200.0, 3e4, 1e30])
def test_extreme_logits_have_finite_losses_and_gradients(size, kind, alpha):
    targets, predictions = batch(5, share=0.5)
    for x in predictions.values():
        x[:] = np.sign(x) * size
    found, gradients = differentiated(KeypointLoss(kind=kind, alpha=alpha), targets, predictions)
    assert all(np.isfinite(float(value)) for value in found.values())
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    right = ((predictions["class"] > 0) == (targets["label"] == 1)).all(-1)
    np.testing.assert_allclose(gradients["class"].numpy()[right], 0, atol=1e-8)


def test_logits_of_empty_slots_reach_no_position_loss():
    targets, predictions = batch(6)
    loss = KeypointLoss()
    wanted = float(loss(targets, predictions)["xy"])
    predictions["xy"][targets["state"] == 0] = [np.inf, np.nan]
    found, gradients = differentiated(loss, targets, predictions)
    assert float(found["xy"]) == wanted
    np.testing.assert_array_equal(gradients["xy"].numpy()[targets["state"] == 0], 0)


def test_a_batch_may_be_split():
    """Summed over parts, each scaled by its own count, it is the whole batch's."""
    targets, predictions = batch(7, images=4)
    for normalizer in ("points", "images"):
        loss = KeypointLoss(alpha=0.25, normalizer=normalizer)
        whole, parts, counts = loss(targets, predictions), [], []
        for part in (slice(0, 1), slice(1, 4)):
            some = {name: array[part] for name, array in targets.items()}
            state = some["state"]
            counts.append((state == 1).sum() if normalizer == "points" else len(state))
            parts.append(loss(some, {name: x[part] for name, x in predictions.items()}))
        for name, value in whole.items():
            joined = sum(float(p[name]) * n for p, n in zip(parts, counts, strict=True))
            assert joined / sum(counts) == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_the_loss_works_in_graphs_with_half_precision_and_any_batch(compiled, dtype):
    targets, predictions = batch(8)
    loss = KeypointLoss(alpha=0.25)
    half = {name: tf.cast(x, dtype) for name, x in predictions.items()}
    signature = tuple(
        {name: tf.TensorSpec((None, None, *x.shape[2:]), x.dtype) for name, x in arrays.items()}
        for arrays in (targets, half)
    )
    step = tf.function(loss, input_signature=None if compiled else signature, jit_compile=compiled)
    # Rounded to half precision once, before the loss; the loss itself rounds nothing.
    wanted = loss(targets, {name: tf.cast(x, tf.float32) for name, x in half.items()})
    for name, value in step(targets, half).items():
        assert value.dtype == tf.float32
        assert float(value) == pytest.approx(float(wanted[name]), rel=1e-6)
    _, gradients = differentiated(loss, targets, half)
    assert {x.dtype for x in gradients.values()} == {dtype}


# One image on the first device, three on the second, which hold other numbers of points.
REPLICAS = """
import numpy as np, tensorflow as tf
from test_keypoint_loss import batch, differentiated
from ytrue.model.losses import KeypointLoss
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
targets, predictions = batch(9, images=4)
parts = (slice(0, 1), slice(1, 4))
def split(arrays):
    return {
        name: strategy.experimental_distribute_values_from_function(
            lambda context, x=x: tf.constant(x[parts[context.replica_id_in_sync_group]])
        )
        for name, x in arrays.items()
    }
for normalizer in ("points", "images"):
    loss = KeypointLoss(alpha=0.25, normalizer=normalizer)
    found, gradients = strategy.run(
        lambda t, p: differentiated(loss, t, p), args=(split(targets), split(predictions))
    )
    wanted, slopes = differentiated(loss, targets, predictions)
    for name, value in wanted.items():
        mean = strategy.reduce(tf.distribute.ReduceOp.MEAN, found[name], axis=None)
        np.testing.assert_allclose(mean, value, rtol=1e-5)
    for name, slope in slopes.items():
        joined = np.concatenate([x.numpy() for x in gradients[name].values]) / 2
        np.testing.assert_allclose(joined, slope, rtol=1e-5, atol=1e-8)
print("equal")
"""


def test_two_replicas_have_the_whole_batchs_loss():
    process = run(REPLICAS)
    output, errors = process.communicate()
    assert output.strip() == "equal", errors[-3000:]


def logit(share, most):
    share = np.asarray(share, np.float64).clip(1e-300, 1 - 1e-16)
    return (np.log(share) - np.log1p(-share)).clip(-most, most).astype(np.float32)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_perfect_logits_have_the_least_loss(data):
    encoder = data.draw(keypoint_encoders())
    target = encoder.encode(data.draw(posed(encoder)))
    perfect = {"class": logit(target["label"], 20), "xy": logit(target["offset"], 20)}
    found = KeypointLoss()(
        {name: array[None] for name, array in target.items()},
        {name: array[None] for name, array in perfect.items()},
    )
    held = target["state"] == 1
    t = target["offset"][held].astype(np.float64)
    sure = (t == 0) | (t == 1)
    inside = np.where(sure, 0.5, t)
    least = np.where(sure, 0, -inside * np.log(inside) - (1 - inside) * np.log(1 - inside))
    by = max(held.sum(), 1)
    assert float(found["class"]) < 1e-6
    assert float(found["xy"]) == pytest.approx(least.sum() / by, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("grid", [(4, 3), [(6, 4), (3, 2)], "global"], ids=str)
def test_perfect_logits_decode_to_the_points(grid):
    encoder = KeypointGridEncoder((96, 64), grid, num_classes=3, points_per_cell=3, slots="fixed")
    points = [(20.0, 10.5, 2), (80.0, 5.0, 2), (47.25, 60.0, 2)]
    people = Annotations([(0, 0, 96, 64)], [0], keypoints=[points])
    target = encoder.encode(people)
    perfect = {"class": logit(target["label"], 20), "xy": logit(target["offset"], 20)}
    found = encoder.decode(perfect)
    keypoints = found.keypoints[found.keypoints[..., 2] > 0]
    order = found.labels[np.argsort(found.labels)]
    np.testing.assert_array_equal(order, [0, 1, 2])
    np.testing.assert_allclose(
        keypoints[np.argsort(found.labels), :2], [p[:2] for p in points], atol=1e-4
    )
    assert (found.scores > 0.99).all()


def test_arguments_that_do_not_go_together_are_named():
    for arguments, message in (
        ({"kind": "l2"}, "kind='l2': expected one of focal, bce"),
        ({"normalizer": "x"}, "normalizer='x': expected one of points, images"),
        ({"alpha": 1.5}, "alpha=1.5: expected a weight"),
        ({"gamma": -1}, "gamma=-1: expected a finite number from 0"),
        ({"xy_weight": -2}, "xy_weight=-2: expected a finite number from 0"),
        ({"kind": "bce", "alpha": 0.25}, "alpha=0.25: expected None with kind='bce'"),
    ):
        with pytest.raises(ValueError, match=message):
            KeypointLoss(**arguments)


def test_arrays_that_do_not_go_together_are_named():
    loss = KeypointLoss()
    targets, predictions = batch(10)
    with pytest.raises(ValueError, match="targets lack offset: they have label, object, state"):
        loss({name: x for name, x in targets.items() if name != "offset"}, predictions)
    with pytest.raises(ValueError, match="predictions lack xy: they have class"):
        loss(targets, {"class": predictions["class"]})
    cells = np.zeros((3, 20, 1, 3), np.float32)
    for side, name, array, message in (
        (0, "state", np.zeros((3, 5, 4, 1), np.float32),
         r"targets' state \(3, 5, 4, 1\) float32: expected \(B, ..., P\) integer"),
        (0, "state", np.zeros(3, np.int8), r"state \(3\) int8: expected \(B, ..., P\) integer"),
        (0, "offset", np.zeros((3, 5, 4, 1), np.float32), r"expected \(B, ..., P, 2\) floating"),
        (0, "label", np.zeros((3, 5, 4, 1, 3), np.int32), r"expected \(B, ..., P, C\) floating"),
        (1, "xy", np.zeros((3, 5, 4, 1, 3), np.float32), r"expected \(B, ..., P, 2\) floating"),
        (1, "class", np.zeros((3, 5, 4, 1, 2), np.float32),
         "numbers of classes differ: targets' label 3, predictions' class 2"),
        (1, "class", cells, r"slots differ: .*predictions' class \(3, 20, 1, 3\).*of one image"),
        (1, "xy", np.zeros((2, 5, 4, 1, 2), np.float32), r"batch.*' xy \(2, 5, 4, 1, 2\);"),
    ):  # fmt: skip
        both = batch(10)
        both[side][name] = array
        with pytest.raises(ValueError, match=message):
            loss(*both)


def test_the_config_holds_every_argument():
    changed = {"kind": "focal", "alpha": 0.5, "gamma": 3.0, "xy_weight": 4.0,
               "normalizer": "images"}  # fmt: skip
    assert {*changed, "self"} == set(inspect.signature(KeypointLoss.__init__).parameters)
    assert KeypointLoss(**changed).config() == changed
    assert KeypointLoss(kind="bce").config()["kind"] == "bce"
    assert KeypointLoss().variables == []
