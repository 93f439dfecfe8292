"""The keypoint head: shapes and order are the encoder's, the whole image knows its places."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue.encoders import KeypointGridEncoder
from ytrue.model import EfficientDet
from ytrue.model.folding import folded
from ytrue.model.keypointheads import KeypointHead
from ytrue.model.losses import KeypointLoss

CHANNELS = 8
STRIDES = (8, 16, 32, 64)
ON = {"one": (1,), "several": (0, 2, 3), "global": "global"}


def pyramid(size, images=2, seed=0):
    """Features of noise, one for each stride."""
    rng = np.random.default_rng(seed)
    return [
        tf.constant(
            rng.normal(size=(images, -(-size[0] // s), -(-size[1] // s), CHANNELS)), tf.float32
        )
        for s in STRIDES
    ]


def encoder_of(size, on, classes=3, points=2):
    place = {"grid": "global"} if on == "global" else {"stride": [STRIDES[k] for k in on]}
    return KeypointGridEncoder(size, **place, num_classes=classes, points_per_cell=points)


def head_of(on, **arguments):
    keras.utils.set_random_seed(1)
    return KeypointHead(3, 2, 2, **{"on": on, "levels": len(STRIDES), **arguments})


@keras.saving.register_keras_serializable("tests")
class Model(keras.Model):
    """The smallest model that folds."""

    def __init__(self, on, folded=False, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"on": on, "folded": folded}
        self.head = head_of(on, folded=folded)
        self.head.build([(None, None, None, CHANNELS)] * len(STRIDES))
        self.built = True

    def call(self, features, training=None):
        return self.head(features, training=training)

    def get_config(self):
        return self.arguments


def roughened(layer):
    """Give every weight, moving statistics included, a value of its own."""
    rng = np.random.default_rng(3)
    for weight in layer.weights:
        low = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
        weight.assign(rng.uniform(low, 1.0, weight.shape))
    return layer


@pytest.mark.parametrize("size", [(64, 64), (64, 192), (97, 130), (33, 9)], ids=str)
@pytest.mark.parametrize("on", ON.values(), ids=ON)
def test_outputs_have_the_shapes_of_the_encoders_targets(on, size):
    spec = encoder_of(size, on).spec
    for call in (head_of(on), tf.function(head_of(on))):
        outputs = call(pyramid(size))
        assert tuple(outputs["class"].shape) == (2, *spec["label"][0])
        assert tuple(outputs["xy"].shape) == (2, *spec["offset"][0])
        assert {x.dtype for x in outputs.values()} == {tf.float32}


def test_it_stands_on_a_detectors_features_and_the_loss_takes_it():
    size = (97, 130)
    detector = EfficientDet("lite0", num_classes=2)
    features = detector.features(tf.zeros((1, *size, 3)))
    for on, strides in (((0, 1, 2), (8, 16, 32)), ((4,), (128,))):
        encoder = KeypointGridEncoder(size, stride=strides, num_classes=2, points_per_cell=3)
        head = KeypointHead(2, 3, 1, on=on, levels=5, activation="relu6")
        targets = {
            name: np.zeros((1, *shape), dtype) for name, (shape, dtype) in encoder.spec.items()
        }
        assert np.isfinite(float(KeypointLoss()(targets, head(features))["loss"]))


@pytest.mark.parametrize("size", [(64, 64), (97, 130)], ids=str)
def test_cells_stand_in_the_encoders_order(size):
    features = pyramid(size)
    one, several = roughened(head_of((1,))), roughened(head_of((0, 2, 3)))
    for head in (one, several):
        head(features)
    for name, width in (("class", 3), ("xy", 2)):
        (level,) = getattr(one, f"{name}_head")([features[1]])
        found = one(features)[name].numpy()
        for row, column, slot in np.ndindex(found.shape[1:4]):
            wanted = level[:, row, column, slot * width : (slot + 1) * width]
            np.testing.assert_allclose(found[:, row, column, slot], wanted, rtol=1e-5, atol=1e-5)

        levels = getattr(several, f"{name}_head")([features[k] for k in (0, 2, 3)])
        found = several(features)[name].numpy()
        cells = encoder_of(size, (0, 2, 3)).cells
        for grid, output in enumerate(levels):
            for row, column in np.ndindex(cells.grid[grid]):
                cell = cells.offsets[grid] + row * cells.grid[grid][1] + column
                wanted = output[:, row, column].numpy().reshape(2, 2, width)
                np.testing.assert_allclose(found[:, cell], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("on", ON.values(), ids=ON)
def test_levels_that_it_does_not_stand_on_change_nothing(on):
    head, features = head_of(on), pyramid((64, 64))
    before = head(features)
    stands = {3} if on == "global" else set(on)
    for k in range(len(STRIDES)):
        moved = [x + 1.0 if i == k else x for i, x in enumerate(features)]
        changed = [bool((head(moved)[name] != before[name]).numpy().any()) for name in before]
        assert changed == [k in stands] * 2


def test_levels_share_kernels_but_not_norms():
    head = head_of((0, 2, 3))
    head(pyramid((64, 64)))
    for tower in (head.class_head.towers, head.xy_head.towers):
        assert len(tower) == 1
        assert [len(conv.kernels) for conv in tower[0]] == [1, 1, 1]
        assert [len(conv.norms) for conv in tower[0]] == [3, 3, 0]


@pytest.mark.parametrize("size", [(64, 64), (200, 500)], ids=str)
def test_the_global_head_is_towers_then_pooling_then_a_dense_layer(size):
    head, features = roughened(head_of("global")), pyramid(size)
    head(features)
    roughened(head)
    x = features[-1]
    rows, columns = x.shape[1:3]
    y_x = np.empty((1, rows, columns, 2), np.float32)
    for row, column in np.ndindex(rows, columns):
        y_x[0, row, column] = (2 * row + 1) / rows - 1, (2 * column + 1) / columns - 1
    x = x + y_x @ head.place.kernels[0].numpy()[0, 0]
    outputs = head(features)
    for name, width in (("class", 3), ("xy", 2)):
        *convs, output = getattr(head, f"{name}_head").towers[0]
        y = x
        for conv in convs:
            y = conv(y)
        pooled = output.spatial(y).numpy().mean((1, 2))
        dense = pooled @ output.kernels[0].numpy()[0, 0] + output.biases[0].numpy()
        wanted = dense.reshape(2, 1, 1, 2, width)
        np.testing.assert_allclose(outputs[name], wanted, rtol=1e-4, atol=1e-4)


def test_the_global_head_can_tell_where_a_thing_is():
    """Pooled convolutions alone cannot, where the border is out of their sight."""
    head = KeypointHead(1, 1, 1, on="global", levels=1)
    head.build([(None, None, None, CHANNELS)])
    roughened(head)
    cells = np.zeros((2, 21, 21, CHANNELS), np.float32)
    cells[0, 8, 8] = cells[1, 8, 12] = 30.0
    here, there = head([cells])["xy"].numpy()
    assert np.abs(here - there).max() > 1e-3
    head.place.kernels[0].assign(tf.zeros_like(head.place.kernels[0]))
    here, there = head([cells])["xy"].numpy()
    np.testing.assert_allclose(here, there, rtol=1e-5)


@pytest.mark.parametrize("on", ON.values(), ids=ON)
def test_every_class_starts_at_its_prior_and_offsets_in_the_middle(on):
    head = head_of(on, prior=0.02)
    for x in (pyramid((64, 64)), [tf.zeros_like(x) for x in pyramid((64, 64))]):
        found = {name: tf.sigmoid(value).numpy() for name, value in head(x).items()}
        assert np.median(found["class"]) == pytest.approx(0.02, rel=0.6)
        assert np.median(found["xy"]) == pytest.approx(0.5, abs=0.25)
    biases = [head.class_head.towers[0][-1].biases[0], head.xy_head.towers[0][-1].biases[0]]
    np.testing.assert_allclose(tf.sigmoid(biases[0]), 0.02, rtol=1e-5)
    np.testing.assert_array_equal(biases[1], 0)


@pytest.mark.parametrize("on", ON.values(), ids=ON)
def test_a_folded_copy_predicts_the_same(on):
    model, features = Model(on), pyramid((97, 130))
    roughened(model)
    copy = folded(model)
    assert not any("moving" in weight.path or "gamma" in weight.path for weight in copy.weights)
    for name, wanted in model(features).items():
        np.testing.assert_allclose(copy(features)[name], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("on", ON.values(), ids=ON)
def test_it_is_built_without_a_trace_saved_and_loaded(on, tmp_path):
    head = head_of(on, survival_rate=0.5, separable=False, prior=0.1, activation="relu6")
    again = KeypointHead.from_config(head.get_config())
    assert again.get_config() == head.get_config()
    for one in (head, again):
        one.build([(None, None, None, CHANNELS)] * len(STRIDES))
    assert [w.shape for w in again.weights] == [w.shape for w in head.weights]
    weights = len(head.weights)
    roughened(head)
    inputs = [keras.Input((None, None, CHANNELS)) for _ in STRIDES]
    model = keras.Model(inputs, head(inputs))
    assert len(head.weights) == weights
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    features = pyramid((64, 64))
    for name, wanted in model(features).items():
        np.testing.assert_array_equal(loaded(features)[name], wanted)


def test_the_config_holds_every_argument():
    changed = {"num_classes": 4, "points_per_cell": 5, "repeats": 0, "on": [1], "levels": 3,
               "activation": "relu6", "prior": 0.3, "folded": True, "survival_rate": 0.9,
               "separable": False}  # fmt: skip
    config = KeypointHead(**changed, name="points").get_config()
    assert {name: config[name] for name in changed} == changed
    assert config["name"] == "points"


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("on", ON.values(), ids=ON)
def test_mixed_precision_gives_float32_outputs(on, dtype):
    head, features = head_of(on, dtype=dtype), pyramid((97, 130))
    outputs = tf.function(head)(features, training=True)
    assert {x.dtype for x in outputs.values()} == {tf.float32}
    assert {str(weight.dtype) for weight in head.weights} == {"float32"}
    exact = head_of(on)
    exact(features)
    exact.set_weights(head.get_weights())
    for name, wanted in exact(features).items():
        np.testing.assert_allclose(head(features)[name], wanted, atol=0.15)


@pytest.mark.parametrize("on", ON.values(), ids=ON)
@pytest.mark.parametrize("repeats", [0, 3])
def test_gradients_reach_every_weight(on, repeats):
    features = pyramid((200, 500))
    head = KeypointHead(3, 2, repeats, on=on, levels=len(STRIDES), survival_rate=1.0)
    head(features)
    with tf.GradientTape() as tape:
        outputs = head(features, training=True)
        total = sum(tf.reduce_sum(tf.sin(3.0 * x)) for x in outputs.values())
    gradients = tape.gradient(total, head.trainable_variables)
    for weight, gradient in zip(head.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.path
        # What a bias before a batch norm adds, the norm takes away: its gradient is 0 by nature.
        if not ("/conv_" in weight.path and weight.name == "bias"):
            assert np.abs(gradient).max() > 1e-4, weight.path


def test_arguments_out_of_range_are_named():
    for arguments, message in (
        ({"num_classes": 0}, "num_classes=0: expected a whole number of at least 1"),
        ({"points_per_cell": 1.5}, "points_per_cell=1.5: expected a whole number"),
        ({"repeats": -1}, "repeats=-1: expected a whole number of at least 0"),
        ({"levels": 0}, "levels=0: expected a whole number"),
        ({"activation": "gelu"}, "activation='gelu': expected one of swish, relu6"),
        ({"prior": 1}, "prior=1: expected a probability"),
        ({"survival_rate": 0.0}, "survival_rate=0.0: expected a rate"),
        ({"on": ()}, r"on=\(\): expected positions among 3 features"),
        ({"on": (1, 0)}, r"on=\(1, 0\): .*fine to coarse"),
        ({"on": (1, 1)}, r"on=\(1, 1\): .*each once"),
        ({"on": (0, 3)}, r"on=\(0, 3\): .*among 3 features"),
        ({"on": (-1,)}, r"on=\(-1,\): "),
        ({"on": 1}, "on=1: expected positions"),
        ({"on": "all"}, "on='all': .*or \"global\""),
    ):
        with pytest.raises(ValueError, match=message):
            KeypointHead(
                **{"num_classes": 2, "points_per_cell": 1, "repeats": 1, "on": (0,), "levels": 3}
                | arguments
            )
    head = KeypointHead(2, 1, 1, on=(0,), levels=3)
    with pytest.raises(ValueError, match="4 features: this head was made for 3"):
        head(pyramid((64, 64)))
    head.build([(None, None, None, CHANNELS)] * 3)
    with pytest.raises(ValueError, match="4 features: this head was made for 3"):
        head(pyramid((64, 64)))
