"""The detector: sizes, parts, parity with the official one, what a user does with a model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue.encoders import AnchorGrid
from ytrue.model import BiFPN, EfficientDet, EfficientNet, Head, folding
from ytrue.model.bifpn import FUSIONS, Fuse, cell_nodes, downsampled, upsampled
from ytrue.model.layers import ConvNorm
from ytrue.model.variants import DETECTORS

COUNTS = json.loads((Path(__file__).parent / "golden" / "param_counts.json").read_text())
SLOW = [name for name in DETECTORS if name not in ("d0", "lite0", "nano")]


def images(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def counts(*layers):
    weights = [weight for layer in layers for weight in layer.weights]
    size = {id(weight): int(np.prod(weight.shape)) for weight in weights}
    trainable = sum(size[id(weight)] for weight in weights if weight.trainable)
    return [trainable, sum(size.values())]


@pytest.fixture(scope="module")
def d0():
    keras.utils.set_random_seed(1)
    return EfficientDet("d0", num_classes=90)


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(1)
    return EfficientDet("lite0", num_classes=3)


@pytest.mark.parametrize(
    "name", [*("d0", "lite0"), *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_parameter_counts_are_the_official_ones(name):
    model = EfficientDet(name, num_classes=90)
    assert counts(model) == COUNTS["efficientdet"][name]
    parts = COUNTS["parts"][name]
    assert counts(model.backbone) == parts[f"efficientnet-{DETECTORS[name].backbone}"]
    assert counts(model.class_head) == parts["class_net"]
    assert counts(model.box_head) == parts["box_net"]
    assert counts(model.pyramid.coarser) == parts["resample_p6"]


def test_nodes_of_a_cell_are_the_official_ones():
    # (level, inputs) by hand from figure 2 (d): down 6, 5, 4, 3, then up 4, 5, 6, 7
    assert [(node.level, node.inputs) for node in cell_nodes(3, 7)] == [
        (6, (3, 4)),
        (5, (2, 5)),
        (4, (1, 6)),
        (3, (0, 7)),
        (4, (1, 7, 8)),
        (5, (2, 6, 9)),
        (6, (3, 5, 10)),
        (7, (4, 11)),
    ]


@pytest.mark.parametrize("size", range(1, 70))
def test_upsampling_is_the_official_resize(size):
    coarse = -(-size // 2)
    x = tf.reshape(tf.range(coarse * 3, dtype=tf.float32), (1, coarse, 3, 1))
    like = tf.zeros((1, size, 5, 7))
    official = tf.compat.v1.image.resize_nearest_neighbor(x, (size, 5))
    np.testing.assert_array_equal(upsampled(x, like), official)
    assert downsampled(like).shape[1:3] == (coarse, 3)


@pytest.mark.parametrize("size", [(64, 64), (96, 200), (321, 130), (33, 500)])
def test_outputs_stand_in_the_anchors_order_for_any_size(small, size):
    outputs = small(images(0, 1, *size, 3))
    grid = AnchorGrid(size)
    assert outputs["class"].shape == (1, len(grid), 3)
    assert outputs["box"].shape == (1, len(grid), 4)
    assert outputs["class"].dtype == outputs["box"].dtype == tf.float32
    features = small.features(images(0, 1, *size, 3))
    assert [tuple(x.shape[1:3]) for x in features] == list(grid.cells)
    level, row, column, slot = 1, 1, 0, 5
    on_level = small.box_head(features)[level]
    cell = row * grid.cells[level][1] + column
    index = grid.level_offsets[level] + cell * 9 + slot
    wanted = on_level[0, row, column, slot * 4 : slot * 4 + 4]
    np.testing.assert_array_equal(outputs["box"][0, index], wanted)


@pytest.mark.parametrize("method", FUSIONS)
def test_fusion_methods_follow_their_formulas(method):
    fuse = Fuse(method, 3)
    features = [images(i, 2, 4, 4, 5) for i in range(3)]
    fuse(features)
    shape = (5,) if method.startswith("channel") else ()
    weights = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    if method == "sum":
        assert fuse.weights == []
        shares = np.ones(3)
    else:
        assert [tuple(weight.shape) for weight in fuse.weights] == [shape] * 3
        fuse.set_weights(list(weights))
        raised = np.maximum(weights, 0) if method.endswith("fast") else np.exp(weights)
        shares = raised / (raised.sum(0) + (1e-4 if method.endswith("fast") else 0))
    wanted = sum(share * x for share, x in zip(shares, features, strict=True))
    np.testing.assert_allclose(fuse(features), wanted, rtol=1e-5, atol=1e-6)


def test_heads_share_kernels_over_levels_but_not_norms(d0):
    convs = d0.class_head.towers[0][:-1]
    assert len(d0.class_head.towers) == 1
    assert [len(conv.norms) for conv in convs] == [5, 5, 5]
    assert all(len(conv.kernels) == 1 for conv in convs)
    output = d0.class_head.towers[0][-1]
    assert (output.norms, output.activation) == ([], None)
    individual = EfficientDet("lite0", num_classes=2, sharing="individual")
    assert len(individual.box_head.towers) == 5
    assert individual(images(0, 1, 64, 64, 3))["class"].shape == (
        1,
        64 * 9 + 16 * 9 + 4 * 9 + 18,
        2,
    )


def test_identity_adds_are_there_when_asked_for():
    x = [images(i, 1, 4, 4, 8) for i in range(2)]
    head = Head(6, 2, levels=2, survival_rate=1.0)
    head(x)
    first, second, output = head.towers[0]
    for level in range(2):
        y = first(x[level], level=level)
        y = second(y, level=level) + y
        np.testing.assert_allclose(head(x)[level], output(y), rtol=1e-5, atol=1e-6)


def test_every_class_starts_at_its_prior(d0):
    logits = d0(images(0, 1, 64, 64, 3))["class"].numpy()
    assert np.median(1 / (1 + np.exp(-logits))) == pytest.approx(0.01, rel=0.5)
    bias = d0.class_head.towers[0][-1].biases[0].numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), 0.01, rtol=1e-5)


def test_the_parts_work_apart():
    backbone = EfficientNet("lite0", include_top=False)
    pyramid = BiFPN(16, 1, min_level=4, max_level=6, fusion="channel_softmax")
    head = Head(2 + 5, 1, levels=3, separable=False)
    inputs = keras.Input((96, 64, 3))
    model = keras.Model(inputs, head(pyramid(backbone(inputs)[3:])))
    assert [tuple(x.shape) for x in model(images(0, 2, 96, 64, 3))] == [
        (2, 6, 4, 7),
        (2, 3, 2, 7),
        (2, 2, 1, 7),
    ]


def test_arguments_out_of_range_are_named(small):
    with pytest.raises(ValueError, match="EfficientDet variant 'd9': expected one of d0, d1"):
        EfficientDet("d9", num_classes=2)
    with pytest.raises(ValueError, match="fusion='mean': expected one of fast, softmax, sum"):
        BiFPN(8, 1, fusion="mean")
    with pytest.raises(ValueError, match="sharing='some': expected 'shared' or 'individual'"):
        Head(8, 1, sharing="some")
    with pytest.raises(ValueError, match="2 features: this head was made for 5"):
        small.class_head([images(0, 1, 4, 4, 64)] * 2)
    with pytest.raises(ValueError, match="4 features for 2 levels"):
        BiFPN(8, 1, min_level=3, max_level=4)([images(0, 1, 8, 8, 8)] * 4)


def test_images_of_another_shape_are_refused_before_tensorflow_dies_of_them(small):
    for shape in ((64, 64, 3), (2, 64, 64), (1, 64, 64, 1)):
        with pytest.raises(ValueError, match=r"expected \(B, height, width, 3\)"):
            small(np.zeros(shape, np.float32))


def test_a_model_saved_and_loaded_is_the_same(tmp_path, small):
    small.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = images(3, 1, 64, 96, 3)
    for name, array in small(x).items():
        np.testing.assert_array_equal(again(x)[name], array)
    small.save_weights(tmp_path / "m.weights.h5")
    other = EfficientDet("lite0", num_classes=3)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other(x)["box"], small(x)["box"])


def test_folding_keeps_the_outputs(d0):
    x = images(4, 1, 128, 96, 3)
    for _ in range(2):
        d0(x, training=True)
    folded = d0.fold()
    for name, array in d0(x).items():
        np.testing.assert_allclose(folded(x)[name], array, atol=1e-4)
    assert not any("moving" in weight.path for weight in folded.weights)


@pytest.mark.parametrize("change", [{"num_classes": 0}, {"num_classes": 2, "anchors": 0}])
def test_a_network_without_outputs_is_refused(change):
    name = "anchors" if "anchors" in change else "num_classes"
    with pytest.raises(ValueError, match=f"{name}=0: expected a whole number above 0"):
        EfficientDet("nano", **change)


@pytest.mark.parametrize("count", [1, 2])  # of one image the gates go into the kernels
def test_a_graph_of_a_folded_model_holds_its_weights(d0, count):
    x = tf.constant(images(5, count, 128, 96, 3))
    d0(x, training=True)
    folded = d0.fold()
    graph = tf.function(folded).get_concrete_function(tf.TensorSpec(x.shape))
    assert not graph.captured_inputs
    kernels = [op.inputs[1].op.type for op in graph.graph.get_operations() if op.type == "Conv2D"]
    # Those of the last blocks are larger than the features, 8 x 6 and 4 x 3 cells.
    assert kernels.count("Mul") == (5 if count == 1 else 0)
    found = graph(x)
    for name, array in d0(x).items():
        np.testing.assert_allclose(found[name], array, atol=1e-4)


def test_a_folded_model_is_not_trained_when_it_comes_back(tmp_path):
    folded = EfficientDet("nano", num_classes=3).fold()
    folded.save(tmp_path / "folded.keras")
    again = keras.saving.load_model(tmp_path / "folded.keras")
    assert not folded.trainable_weights
    assert not again.trainable_weights
    assert not again.backbone.trainable_weights


def test_other_values_in_the_weights_place_are_used():
    folded = EfficientDet("nano", num_classes=3).fold()
    x = tf.constant(images(5, 1, 64, 64, 3))
    call = tf.function(lambda values: folded.stateless_call([], values, x)[0]["class"])
    values = [tf.zeros(own.shape, own.dtype) for own in folded.non_trainable_variables]
    assert not np.any(call(values))
    assert np.all(folded(x)["class"])


def test_a_large_folded_model_keeps_its_variables(monkeypatch):
    model = EfficientDet("nano", num_classes=3)
    x = tf.constant(images(5, 1, 64, 64, 3))
    folded = model.fold()
    # Its backbone alone is small.
    monkeypatch.setattr(folding, "CONSTANT_BYTES", 4 * folded.count_params() - 1)
    graph = tf.function(folded).get_concrete_function(x)
    assert len(graph.captured_inputs) == len(folded.weights)
    np.testing.assert_allclose(graph(x)["class"], model(x)["class"], atol=1e-4)


def test_a_bias_of_zeros_is_left_to_be_fused():
    """TensorFlow drops the sum with a constant of zeros, and then fuses nothing there."""
    model = EfficientDet("nano", num_classes=3)  # as initialised
    folded = tf.function(model.fold()).get_concrete_function(tf.TensorSpec((1, 64, 64, 3)))
    biases = [op.inputs[1].op.type for op in folded.graph.get_operations() if op.type == "BiasAdd"]
    assert "PlaceholderWithDefault" in biases
    for op in folded.graph.get_operations():
        if op.type == "BiasAdd" and op.inputs[1].op.type == "Const":
            assert tf.make_ndarray(op.inputs[1].op.get_attr("value")).any()


def test_mixed_precision_gives_float32_outputs():
    model = EfficientDet("lite0", num_classes=3, dtype="mixed_bfloat16")
    outputs = tf.function(model)(images(0, 2, 64, 64, 3), training=True)
    assert {x.dtype for x in outputs.values()} == {tf.float32}
    assert all(np.isfinite(x).all() for x in outputs.values())
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    assert model.backbone(images(0, 1, 64, 64, 3))[0].dtype == tf.bfloat16


def test_xla_gives_the_same(small):
    x = tf.constant(images(0, 1, 64, 64, 3))
    plain = tf.function(small)(x)
    compiled = tf.function(small, jit_compile=True)(x)
    for name, array in plain.items():
        np.testing.assert_allclose(compiled[name], array, atol=1e-4)


def official(model, data):
    """Largest differences of class and box outputs over all levels."""
    outputs = tf.function(model)(tf.constant(data["image"]))
    worst, first = {"class": 0.0, "box": 0.0}, 0
    for level in range(3, 8):
        box = data[f"box_P{level}"]
        rows, columns = box.shape[1:3]
        end = first + rows * columns * 9
        ours = outputs["box"][:, first:end].numpy().reshape(box.shape)
        worst["box"] = max(worst["box"], np.abs(ours - box).max())
        logits = outputs["class"][:, first:end].numpy().reshape(1, rows, columns, -1)
        if f"cls_P{level}" in data:
            difference = logits - data[f"cls_P{level}"]
        else:
            y, x = data[f"cells_P{level}"].T
            difference = logits[:, y, x] - data[f"cls_at_cells_P{level}"]
        worst["class"] = max(worst["class"], np.abs(difference).max())
        total = logits.sum((1, 2), dtype=np.float64)
        np.testing.assert_allclose(total, data[f"cls_sum_P{level}"], rtol=1e-4, atol=0.3)
        first = end
    return worst


FILES = ["{}.h5", "{}_tf2_ckpt.tar.gz", "{}.tar.gz"]


@pytest.mark.parametrize("file", FILES)
def test_official_d0_weights_give_official_outputs(d0, shared_golden, file):
    folder = shared_golden / "efficientdet-d0"
    d0.load_official(folder / file.format("efficientdet-d0"))
    worst = official(d0, np.load(folder / "io_shared.npz"))
    assert worst["class"] < 1e-4
    assert worst["box"] < 1e-4


def test_official_lite0_weights_give_official_outputs(shared_golden):
    """In a process without oneDNN, whose order of sums alone moves these logits by 1.5e-4."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import numpy as np; from pathlib import Path\n"
        "from test_efficientdet import official; from ytrue.model import EfficientDet\n"
        "model, folder = EfficientDet('lite0', num_classes=90), Path(sys.argv[1])\n"
        "model.load_official(folder / 'efficientdet-lite0.h5')\n"
        "print(max(official(model, np.load(folder / 'io_shared.npz')).values()))"
    )
    folder = shared_golden / "efficientdet-lite0"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder), str(Path(__file__).parent)],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_biases_before_frozen_norms_learn(training):
    rng = np.random.default_rng(0)
    conv = ConvNorm(3, 1, use_bias=True)
    conv.build((None, None, None, 2))
    conv.norms[0].trainable = False
    conv.norms[0].moving_variance.assign(rng.uniform(0.5, 2, 3))
    x = tf.constant(rng.normal(size=(1, 4, 4, 2)), tf.float32)

    def loss():
        return tf.reduce_sum(conv(x, training=training) ** 2)

    with tf.GradientTape() as tape:
        value = loss()
    (bias,) = conv.biases
    found, step = tape.gradient(value, bias.value).numpy(), 1e-2
    for k, gradient in enumerate(found):
        values = []
        for sign in (1, -1):
            bias.assign(sign * step * np.eye(3)[k])
            values.append(float(loss()))
        assert gradient == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3, abs=1e-3)
