"""Losses: the official values and gradients, and what a loss of a detector must never do."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ytrue import Annotations
from ytrue.encoders import BoxCoder, preset
from ytrue.model.losses import (
    DetectionLoss,
    decode_offsets,
    focal_loss,
    focal_terms,
    huber_loss,
    iou_loss,
    l2_loss,
)

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "losses.npz"))
LEVELS = range(3, 8)


def cases(end):
    return sorted(name.removesuffix(end) for name in GOLDEN if name.endswith(end))


def differentiated(function, *inputs):
    inputs = [tf.constant(x, tf.float32) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
    return value, tape.gradient(value, inputs)


def reference(logits, targets, alpha, gamma, smoothing):
    """The definition in float64, one class at a time, and its gradient."""
    x = np.asarray(logits, np.float64)
    z = np.where(targets, -x, x)
    softplus = np.logaddexp(0, z)
    power = np.exp(-gamma * np.logaddexp(0, -z))
    entropy = softplus - smoothing / 2 * z
    weight = np.where(targets, alpha, 1 - alpha)
    sigmoid = np.exp(-np.logaddexp(0, -z))
    other = np.exp(-softplus)  # 1 - sigmoid
    slope = power * (sigmoid - smoothing / 2 + gamma * other * entropy)
    return weight * power * entropy, weight * slope * np.where(targets, -1, 1)


@pytest.mark.parametrize("case", cases("_logits"))
def test_focal_loss_has_the_official_values_and_gradients(case):
    logits, targets = GOLDEN[f"{case}_logits"], GOLDEN[f"{case}_targets"]
    alpha, gamma, smoothing, normalizer = GOLDEN[f"{case}_params_alpha_gamma_smoothing_normalizer"]
    arguments = {"alpha": float(alpha), "gamma": float(gamma), "label_smoothing": float(smoothing)}

    def total(x):
        return tf.reduce_sum(focal_terms(x, targets, **arguments)) / normalizer

    terms = focal_terms(logits, targets, **arguments) / normalizer
    wanted, slope = GOLDEN[f"{case}_loss_ref64"], GOLDEN[f"{case}_grad_ref64"]
    np.testing.assert_allclose(terms, wanted, rtol=3e-6, atol=1e-12)
    np.testing.assert_allclose(differentiated(total, logits)[1][0], slope, rtol=3e-6, atol=1e-9)
    if smoothing == 0:  # with it, the official float32 sums cancel
        naive = GOLDEN[f"{case}_loss_naive"]
        finite = np.isfinite(naive)
        np.testing.assert_allclose(terms.numpy()[finite], naive[finite], rtol=1e-4, atol=1e-6)

    def compact(x):
        state = targets.astype(np.int8)[None]
        return focal_loss(x[None, :, None], np.zeros_like(state, np.int32), state, **arguments)

    value, (gradient,) = differentiated(compact, logits)
    assert float(value) / normalizer == pytest.approx(wanted.sum(), rel=1e-6)
    np.testing.assert_allclose(gradient / normalizer, slope, rtol=3e-6, atol=1e-9)


@given(
    st.integers(0, 2**32 - 1),
    st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0, 5)),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([1.0, 5.0, 100.0]),
)
@settings(max_examples=int(os.environ.get("YTRUE_EXAMPLES", "100")), deadline=None)
def test_the_compact_focal_loss_is_the_one_hot_one(seed, gamma, alpha, smoothing, scale):
    rng = np.random.default_rng(seed)
    shape = (2, 7, 3)
    logits = rng.uniform(-scale, scale, shape).astype(np.float32)
    state = rng.integers(-1, 2, shape[:2]).astype(np.int8)
    label = np.where(state == 1, rng.integers(0, 3, shape[:2]), -1).astype(np.int32)
    terms, slope = reference(logits, np.eye(4)[label][..., :3] > 0, alpha, gamma, smoothing)
    counted = (state != -1)[..., None]
    arguments = {"alpha": alpha, "gamma": gamma, "label_smoothing": smoothing}
    value, (gradient,) = differentiated(lambda x: focal_loss(x, label, state, **arguments), logits)
    assert np.isfinite(gradient).all()
    # Float32 sums of terms that partly cancel: the exchange at positives.
    assert float(value) == pytest.approx(
        (terms * counted).sum(), rel=1e-5, abs=2e-6 * terms.sum() + 1e-12
    )
    np.testing.assert_allclose(gradient, slope * counted, rtol=1e-5, atol=1e-7)
    assert not np.asarray(gradient)[state == -1].any()


@pytest.mark.parametrize("case", cases("_delta_numpos"))
def test_huber_loss_has_the_official_value_and_gradient(case):
    delta, positives = GOLDEN[f"{case}_delta_numpos"]
    target = GOLDEN[f"{case}_targets"].reshape(2, -1, 4)
    state = np.ones(target.shape[:2], np.int8)

    def loss(x):
        return huber_loss(x, target, state, delta=float(delta), count_zeros=False) / (4 * positives)

    value, (gradient,) = differentiated(loss, GOLDEN[f"{case}_outputs"].reshape(target.shape))
    assert float(value) == pytest.approx(GOLDEN[f"{case}_loss"], rel=1e-6)
    wanted = GOLDEN[f"{case}_grad"].reshape(target.shape)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-10)


def test_targets_of_exactly_zero_count():
    state = np.array([[1, 0, -1]], np.int8)
    prediction = np.full((1, 3, 4), 0.05, np.float32)
    value, (gradient,) = differentiated(
        lambda x: huber_loss(x, np.zeros_like(prediction), state), prediction
    )
    assert float(value) == pytest.approx(4 * 0.05**2 / 2)
    np.testing.assert_allclose(gradient[0, 0], 0.05, rtol=1e-6)
    np.testing.assert_array_equal(gradient[0, 1:], 0)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("case", ["iou_00", "iou_01"])
def test_iou_losses_have_the_official_values(case, kind):
    prediction = GOLDEN[f"{case}_pred"].reshape(len(GOLDEN[f"{case}_pred"]), -1, 4)
    target = GOLDEN[f"{case}_target"].reshape(prediction.shape)
    value, (gradient,) = differentiated(
        lambda x: tf.reduce_sum(iou_loss(x, target, kind=kind), -1), prediction
    )
    np.testing.assert_allclose(value, GOLDEN[f"{case}_{kind}_loss"], rtol=1e-5, atol=1e-6)
    assert np.isfinite(gradient).all()
    if kind == "ciou":
        return  # the official gradient leaves the aspect term out; ours is the true one, below
    wanted = GOLDEN[f"{case}_{kind}_grad_pred"].reshape(prediction.shape)
    # Boxes that only touch have no gradient: either side may be taken.
    shared = np.minimum(prediction, target)[..., 2:] - np.maximum(prediction, target)[..., :2]
    touching = (shared == 0).any((1, 2))
    assert touching.sum() <= 3
    np.testing.assert_allclose(gradient[~touching], wanted[~touching], rtol=1e-4, atol=1e-6)


def test_ciou_has_its_true_gradient():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 40, (20, 2))
    prediction = np.concatenate((low, low + rng.uniform(10, 40, (20, 2))), 1)
    target = prediction + rng.uniform(-4, 4, prediction.shape)

    def aspect_weight(p):
        """CIoU's weight is held constant by its definition."""
        iou = 1 - iou_loss(p, target, kind="iou").numpy().astype(np.float64)
        tangents = [(b[:, 3] - b[:, 1]) / (b[:, 2] - b[:, 0]) for b in (p, target)]
        v = 4 / np.pi**2 * (np.arctan(tangents[1]) - np.arctan(tangents[0])) ** 2
        return v / (1 - iou + v)

    def value(p, weight):
        tangents = [(b[:, 3] - b[:, 1]) / (b[:, 2] - b[:, 0]) for b in (p, target)]
        v = 4 / np.pi**2 * (np.arctan(tangents[1]) - np.arctan(tangents[0])) ** 2
        low, high = np.maximum(p, target)[:, :2], np.minimum(p, target)[:, 2:]
        shared = np.prod(high - low, axis=1)
        areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (p, target)]
        around = np.maximum(p, target)[:, 2:] - np.minimum(p, target)[:, :2]
        apart = ((p[:, :2] + p[:, 2:]) - (target[:, :2] + target[:, 2:])) / 2
        distance = (apart**2).sum(1) / (around**2).sum(1)
        return 1 - shared / (sum(areas) - shared) + distance + weight * v

    loss, (gradient,) = differentiated(lambda x: iou_loss(x, target, kind="ciou"), prediction)
    weight, step = aspect_weight(prediction), 1e-5
    np.testing.assert_allclose(loss, value(prediction, weight), rtol=1e-4, atol=1e-6)
    for edge in range(4):
        moved = np.eye(4)[edge] * step
        slope = (value(prediction + moved, weight) - value(prediction - moved, weight)) / (2 * step)
        np.testing.assert_allclose(gradient[:, edge], slope, rtol=1e-3, atol=1e-5)


def test_decoding_offsets_undoes_the_encoder():
    encoder = preset("ytrue", 128, 3)
    boxes = np.array([[10, 20, 60, 90], [40, 5, 100, 50]], np.float32)
    target = encoder.encode(Annotations(boxes, [0, 2]))
    positive = target["state"] == 1
    decoded = decode_offsets(target["box"], encoder.grid.boxes).numpy()
    wanted = boxes[target["object"][positive]]
    np.testing.assert_allclose(decoded[positive], wanted, rtol=1e-5, atol=1e-3)


SETTINGS = [
    {"gamma": 1.5},
    {"gamma": 1.5, "label_smoothing": 0.1, "iou": "giou"},
    {"gamma": 2.0, "iou": "ciou"},
]


@pytest.mark.parametrize("case", range(3))
def test_the_detection_loss_has_the_official_values(case):
    """From ground truth to loss: encoder and loss as google/automl's, its two quirks switched on."""
    case_name, classes = f"detection_{case:02d}", 10
    encoder = preset("efficientdet", 128, classes)
    starts = GOLDEN[f"{case_name}_gt_offsets"]
    boxes, labels = GOLDEN[f"{case_name}_gt_boxes"], GOLDEN[f"{case_name}_gt_classes"]
    targets = encoder.encode_batch(
        [
            Annotations(boxes[a:b], labels[a:b].astype(int) - 1)
            for a, b in itertools.pairwise(starts)
        ]
    )

    def flat(name, width):
        return np.concatenate(
            [GOLDEN[f"{case_name}_{name}_P{level}"].reshape(2, -1, width) for level in LEVELS], 1
        )

    loss = DetectionLoss(
        **SETTINGS[case], anchors=encoder.grid.boxes, coder=encoder.coder, offset=1.0,
        count_zeros=False,
    )  # fmt: skip
    found = {}

    def total(logits, offsets):
        found.update(loss(targets, {"class": logits, "box": offsets}))
        return found["loss"]

    _, (logits, offsets) = differentiated(total, flat("cls", classes), flat("box", 4))
    values = GOLDEN[f"{case_name}_values_det_cls_box_iou"]
    for name, wanted in zip(("loss", "class", "box", "iou"), values, strict=True):
        if name in found:
            assert float(found[name]) == pytest.approx(wanted, rel=2e-6), name
    if SETTINGS[case].get("iou") != "ciou":
        np.testing.assert_allclose(offsets, flat("grad_box", 4), rtol=1e-4, atol=1e-6)
    coarse = [
        GOLDEN[f"{case_name}_grad_cls_P{level}"].reshape(2, -1, classes) for level in (5, 6, 7)
    ]
    coarse = np.concatenate(coarse, axis=1)
    np.testing.assert_allclose(logits[:, -coarse.shape[1] :], coarse, rtol=1e-4, atol=1e-8)


def batch(seed, images=2, anchors=50, classes=4):
    rng = np.random.default_rng(seed)
    state = rng.choice([-1, 0, 0, 0, 1], (images, anchors)).astype(np.int8)
    label = np.where(state == 1, rng.integers(0, classes, state.shape), -1).astype(np.int32)
    box = np.where((state == 1)[..., None], rng.normal(size=(*state.shape, 4)), 0)
    targets = {"state": state, "label": label, "box": box.astype(np.float32)}
    predictions = {
        "class": rng.normal(size=(images, anchors, classes)).astype(np.float32),
        "box": rng.normal(size=(images, anchors, 4)).astype(np.float32),
    }
    return targets, predictions


def test_the_loss_at_the_start_is_what_the_prior_predicts():
    targets, predictions = batch(0)
    pi, alpha, gamma = 0.01, 0.25, 1.5
    predictions["class"][:] = -np.log((1 - pi) / pi)
    positives = (targets["state"] == 1).sum()
    counted = (targets["state"] != -1).sum() * 4
    negative = (1 - alpha) * pi**gamma * -np.log(1 - pi)
    positive = alpha * (1 - pi) ** gamma * -np.log(pi)
    wanted = ((counted - positives) * negative + positives * positive) / positives
    assert float(DetectionLoss()(targets, predictions)["class"]) == pytest.approx(wanted, rel=1e-5)


def test_an_image_without_objects_teaches_classes_and_no_boxes():
    targets, predictions = batch(1)
    targets["state"][:] = 0
    found = {}

    def total(logits, offsets):
        found.update(DetectionLoss()(targets, {"class": logits, "box": offsets}))
        return found["loss"]

    _, (logits, offsets) = differentiated(total, predictions["class"], predictions["box"])
    assert (np.asarray(logits) > 0).all()
    np.testing.assert_array_equal(offsets, 0)
    assert float(found["box"]) == 0


def test_a_second_derivative_is_refused_and_not_0():
    logits = tf.zeros((1, 2, 3))
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            value = focal_loss(logits, [[1, -1]], [[1, 0]])
        gradient = inner.gradient(value, logits)
    with pytest.raises(NotImplementedError, match="no second derivative: sum focal_terms"):
        outer.gradient(gradient, logits)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_a_wild_prediction_has_a_finite_iou_loss_and_gradient(kind):
    anchors = np.array([[0, 0, 32, 32]] * 3, np.float32)
    wild = [[0, 0, 90, 0], [0, 0, 200, 200], [0, 0, -90, 3]]

    def total(offsets):
        losses = iou_loss(decode_offsets(offsets, anchors), anchors, kind=kind)
        assert np.isfinite(losses).all()
        return tf.reduce_sum(losses)

    _, (gradient,) = differentiated(total, wild)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("wild", [0.0, np.inf, np.nan])
def test_ignored_anchors_teach_nothing(wild):
    targets, predictions = batch(2)
    ignored = targets["state"] == -1
    assert ignored.any()
    predictions = {name: np.array(values) for name, values in predictions.items()}
    predictions["class"][ignored] += wild
    loss = DetectionLoss()

    def total(logits, offsets):
        return loss(targets, {"class": logits, "box": offsets})["loss"]

    value, (logits, offsets) = differentiated(total, predictions["class"], predictions["box"])
    assert np.isfinite(value)
    np.testing.assert_array_equal(np.asarray(logits)[ignored], 0)
    np.testing.assert_array_equal(np.asarray(offsets)[targets["state"] != 1], 0)


def test_a_batch_may_be_split():
    """Summed over parts, each scaled by its own count of positives, it is the whole batch's."""
    targets, predictions = batch(3, images=4)
    loss = DetectionLoss()
    whole = loss(targets, predictions)
    parts, counts = [], []
    for part in (slice(0, 1), slice(1, 4)):
        some = {name: array[part] for name, array in targets.items()}
        counts.append((some["state"] == 1).sum())
        parts.append(loss(some, {name: array[part] for name, array in predictions.items()}))
    for name in ("class", "box", "loss"):
        joined = sum(float(p[name]) * n for p, n in zip(parts, counts, strict=True)) / sum(counts)
        assert joined == pytest.approx(float(whole[name]), rel=1e-5)


def test_the_moving_average_starts_with_the_first_batch_and_follows():
    loss = DetectionLoss(normalizer="moving_average", momentum=0.9)
    plain = DetectionLoss()
    first, second = batch(4), batch(5)
    second[0]["state"][:, 10:] = 0
    counts = [(targets["state"] == 1).sum() for targets, _ in (first, second)]
    assert float(loss(*first)["class"]) == pytest.approx(float(plain(*first)["class"]), rel=1e-6)
    average = 0.9 * counts[0] + 0.1 * counts[1]
    wanted = float(plain(*second)["class"]) * counts[1] / average
    assert float(loss(*second)["class"]) == pytest.approx(wanted, rel=1e-5)
    assert float(loss.average) == pytest.approx(average, rel=1e-6)
    loss(*first, training=False)
    assert float(loss.average) == pytest.approx(average, rel=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_the_loss_works_in_graphs_with_half_precision_and_any_batch(compiled):
    targets, predictions = batch(6)
    encoder = preset("ytrue", 128, 4)
    loss = DetectionLoss(iou="diou", anchors=encoder.grid.boxes[:50], coder=encoder.coder)
    signature = (
        {name: tf.TensorSpec((None, *x.shape[1:]), x.dtype) for name, x in targets.items()},
        {name: tf.TensorSpec((None, *x.shape[1:]), tf.bfloat16) for name, x in predictions.items()},
    )
    step = tf.function(loss, input_signature=None if compiled else signature, jit_compile=compiled)
    half = {name: tf.cast(x, tf.bfloat16) for name, x in predictions.items()}
    found, wanted = step(targets, half), loss(targets, predictions)
    for name, value in wanted.items():
        assert found[name].dtype == tf.float32
        assert float(found[name]) == pytest.approx(float(value), rel=2e-2)


def test_l2_counts_kernels_only():
    class Weight:
        def __init__(self, name, value):
            self.name, self.value = name, value

        def __tf_tensor__(self, dtype=None, name=None):
            return tf.constant(self.value, dtype)

    weights = [Weight("kernel", [1.0, 2.0]), Weight("level_1_depthwise_kernel", [3.0]),
               Weight("bias", [9.0]), Weight("gamma", [9.0]), Weight("weight_0", [9.0])]  # fmt: skip
    assert float(l2_loss(weights, 0.1)) == pytest.approx(0.1 * (1 + 4 + 9) / 2)
    assert float(l2_loss([], 0.1)) == 0


def test_arguments_that_do_not_go_together_are_named():
    for arguments, message in (
        ({"gamma": -1}, "gamma=-1: expected a finite number from 0"),
        ({"alpha": 2}, "alpha=2: expected a weight"),
        ({"label_smoothing": 1}, "label_smoothing=1: expected a share"),
        ({"delta": 0}, "delta=0: expected a number above 0"),
        ({"offset": np.nan}, "offset=nan: expected a finite number from 0"),
        ({"box_weight": np.nan}, "box_weight=nan: expected a finite number from 0"),
        ({"iou_weight": -1.0}, "iou_weight=-1.0: expected a finite number from 0"),
        ({"iou": "giou"}, "pass anchors=encoder.grid.boxes and coder=encoder.coder"),
        ({"iou": "giou", "anchors": np.zeros((1, 4))}, "pass anchors=.* and coder=encoder.coder"),
        ({"iou": "x", "anchors": np.zeros((1, 4))}, "iou='x': expected one of iou, giou"),
        ({"normalizer": "x"}, "normalizer='x': expected 'batch' or 'moving_average'"),
        ({"momentum": 1}, "momentum=1: expected a share"),
    ):
        with pytest.raises(ValueError, match=message):
            DetectionLoss(**arguments)
    targets, predictions = batch(7)
    with pytest.raises(ValueError, match="targets lack label: they have box, state"):
        DetectionLoss()({name: targets[name] for name in ("state", "box")}, predictions)
    predictions["box"] = predictions["box"][:, :30]
    with pytest.raises(ValueError, match="targets' state 50.*predictions' box 30; are encoder and"):
        DetectionLoss()(targets, predictions)
    for side, name, array, message in (
        (
            0,
            "state",
            np.zeros((2, 50), np.float32),
            r"state \(2, 50\) float32: expected \(B, A\) integer",
        ),
        (
            0,
            "label",
            np.zeros((2, 50, 1), np.int32),
            r"label \(2, 50, 1\) int32: expected \(B, A\) integer",
        ),
        (
            1,
            "class",
            np.zeros((2, 50), np.float32),
            r"class \(2, 50\) float32: expected \(B, A, C\) floating",
        ),
        (
            1,
            "box",
            np.zeros((2, 50, 1), np.float32),
            r"box \(2, 50, 1\) float32: expected \(B, A, 4\) floating",
        ),
        (
            1,
            "class",
            np.zeros((1, 50, 4), np.float32),
            "batch sizes differ: .*predictions' class 1,",
        ),
    ):
        both = batch(7)
        both[side][name] = array
        with pytest.raises(ValueError, match=message):
            DetectionLoss()(*both)
    with pytest.raises(ValueError, match="kind='x': expected one of iou"):
        iou_loss(np.zeros((1, 4)), np.zeros((1, 4)), kind="x")


def test_the_config_holds_every_argument():
    import inspect

    changed = {"alpha": 0.5, "gamma": 2.0, "label_smoothing": 0.1, "delta": 0.2, "box_weight": 10.0,
               "iou": "ciou", "iou_weight": 2.0, "normalizer": "moving_average", "momentum": 0.5,
               "offset": 1.0, "count_zeros": False}  # fmt: skip
    assert {*changed, "anchors", "coder", "self"} == set(
        inspect.signature(DetectionLoss.__init__).parameters
    )
    assert DetectionLoss(**changed, anchors=np.zeros((3, 4)), coder=BoxCoder()).config() == changed


REPLICAS = """
import numpy as np, tensorflow as tf
from test_losses import batch
from ytrue.model.losses import DetectionLoss
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
targets, predictions = batch(8, images=4)
loss = DetectionLoss()
def gradient(targets, predictions, share):
    given = {name: tf.convert_to_tensor(x) for name, x in predictions.items()}
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = loss(targets, given)["loss"]
    return value, {n: g * share for n, g in tape.gradient(value, given).items()}
value, whole = gradient(targets, predictions, 1.0)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
halves = [slice(0, 1), slice(1, 4)]  # of unequal size, and so of unequal positives
def part(arrays):
    def of(context):
        half = halves[context.replica_id_in_sync_group]
        return {name: tf.constant(x[half]) for name, x in arrays.items()}
    return strategy.experimental_distribute_values_from_function(of)
step = tf.function(lambda t, p: gradient(t, p, 0.5))
values, parts = strategy.run(step, args=(part(targets), part(predictions)))
mean = np.mean([v.numpy() for v in strategy.experimental_local_results(values)])
np.testing.assert_allclose(mean, value, rtol=1e-5)
for name, wanted in whole.items():
    found = np.concatenate([x.numpy() for x in strategy.experimental_local_results(parts[name])])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-8)
print("equal")
"""


def test_the_normaliser_is_the_whole_batchs_over_replicas():
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{REPLICAS}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
