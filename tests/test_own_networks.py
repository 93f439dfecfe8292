"""Losses in `compile` of any Keras model with a detector's outputs, and what they say of misfits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue import Annotations
from ytrue.encoders import BoxCoder, CenterNetEncoder, KeypointGridEncoder, preset
from ytrue.model import EfficientDet
from ytrue.model.losses import (
    CenterNetLoss,
    DetectionLoss,
    FCOSLoss,
    JointLoss,
    KeypointLoss,
    MaskLoss,
    PolygonLoss,
    YoloLoss,
)

SIZE = (48, 64)


def network(classes=3, size=SIZE, anchors=1):
    """A pyramid of one's own, with the outputs that `AnchorEncoder`'s targets ask for."""
    images = x = keras.Input((*size, 3))
    found = {"class": [], "box": []}
    for level in range(1, 8):
        x = keras.layers.Conv2D(4, 3, 2, "same", activation="relu")(x)
        for name, width in (("class", classes), ("box", 4)) if level >= 3 else ():
            cells = keras.layers.Conv2D(anchors * width, 1)(x)
            found[name].append(keras.layers.Reshape((-1, width))(cells))
    joined = {name: keras.layers.Concatenate(axis=1)(parts) for name, parts in found.items()}
    return keras.Model(images, joined)


def batch(encoder, images=4):
    objects = Annotations([(6, 8, 40, 36)], [encoder.num_classes - 1])
    targets = encoder.encode_batch([objects] * images)
    pixels = np.random.default_rng(0).random((images, *encoder.image_size, 3), np.float32)
    return pixels, targets


def test_a_plain_keras_model_learns_from_a_loss_of_ours():
    encoder = preset("atss", SIZE, 3)
    pixels, targets = batch(encoder)
    model = network()
    loss = DetectionLoss(iou="giou", anchors=encoder.grid.boxes, coder=encoder.coder)
    model.compile(keras.optimizers.SGD(0.01), loss)
    history = model.fit(pixels, targets, epochs=3, batch_size=2, verbose=0).history["loss"]
    assert history[2] < history[1] < history[0]
    wanted = float(loss(targets, model(pixels))["loss"])
    assert model.evaluate(pixels, targets, batch_size=4, verbose=0) == pytest.approx(wanted)


def test_clones_and_files_keep_the_loss(tmp_path):
    encoder = preset("atss", SIZE, 3)
    pixels, targets = batch(encoder)
    model = network()
    model.compile(
        "sgd", DetectionLoss(gamma=2.0, iou="ciou", anchors=encoder.grid.boxes, coder=encoder.coder)
    )
    wanted = model.evaluate(pixels, targets, verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert clone.evaluate(pixels, targets, verbose=0) == pytest.approx(wanted)
    model.save(tmp_path / "own.keras")
    again = keras.saving.load_model(tmp_path / "own.keras")
    assert again.evaluate(pixels, targets, verbose=0) == pytest.approx(wanted)


def test_a_clone_of_our_own_model_is_one_of_its_kind():
    model = EfficientDet("nano", 2)
    model.compile("sgd", DetectionLoss())
    clone = keras.models.clone_model(model)
    assert type(clone) is EfficientDet
    assert clone.get_config() == model.get_config()


def test_keras_own_losses_are_compiled_as_ever():
    DetectionLoss()  # from here on our way of compiling is in place
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse", loss_weights=0.5)
    model.set_weights([np.array([[1.0], [2.0]])])
    found = model.evaluate(np.array([[1.0, 1.0]]), np.array([[1.0]]), verbose=0)
    assert found == pytest.approx(0.5 * (3.0 - 1.0) ** 2)


LOSSES = {
    "detection": DetectionLoss(
        alpha=0.5, iou="giou", anchors=np.array([[0, 0, 8, 16]], np.float32),
        coder=BoxCoder("corner", std=(0.1, 0.2, 0.3, 0.4)),
    ),
    "mask": MaskLoss(mask_weight=2.0, max_masks=7, box_weight=3.0),
    "fcos": FCOSLoss(kind="diou", box_weight=2.0),
    "centernet": CenterNetLoss(beta=3.0),
    "yolo": YoloLoss(areas=np.array([0.1, 0.2]), offset_range=(-0.5, 1.5), alpha=0.5),
    "polygon": PolygonLoss(np.array([0.5, 0.25]), polygon_weight=0.3, gamma=1.0),
    "keypoints": KeypointLoss(kind="bce", normalizer="images"),
    "joint": JointLoss({"box": DetectionLoss(gamma=2.0), "keypoints": KeypointLoss()}, {"box": 2.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_made_again_from_its_config(name):
    import json

    loss = LOSSES[name]
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert again.parts == loss.parts


def test_the_config_holds_every_argument_of_every_loss():
    import inspect

    for name, loss in LOSSES.items():
        own = set(inspect.signature(type(loss).__init__).parameters) - {"self", "options"}
        if name in ("mask", "polygon"):
            own |= set(inspect.signature(type(loss).__mro__[1].__init__).parameters) - {"self"}
        assert own == set(loss.get_config()), name


def fit(model, pixels, targets, **compiled):
    model.compile("sgd", DetectionLoss(), **compiled)
    return model.fit(pixels, targets, verbose=0).history["loss"]


@pytest.mark.parametrize("other", [{"size": (64, 64)}, {"anchors": 2}], ids=["size", "anchors"])
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_a_network_of_another_size_or_number_of_anchors_is_told_so(other, compiled):
    pixels, targets = batch(preset("atss", SIZE, 3))
    model = network(**other)
    pixels = np.zeros((4, *model.input_shape[1:]), np.float32)
    with pytest.raises(ValueError, match="numbers of anchors differ.*one image size, levels and"):
        fit(model, pixels, targets, jit_compile=compiled)


def test_labels_beyond_the_networks_classes_stop_the_first_batch():
    pixels, targets = batch(preset("atss", SIZE, 3))
    words = r"labels of positives must lie in \[0, 2\): the predictions have 2 classes"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        fit(network(classes=2), pixels, targets)
    with pytest.raises(ValueError, match=f"{words}.*the farthest label is 2"):
        DetectionLoss()(targets, network(classes=2)(pixels))
    # XLA cannot stop: the loss is no number, which nobody takes for learning.
    assert np.isnan(fit(network(classes=2), pixels, targets, jit_compile=True)).all()
    assert np.isfinite(fit(network(classes=3), pixels, targets, jit_compile=True)).all()


def test_a_moving_average_needs_to_know_whether_it_trains():
    with pytest.raises(ValueError, match="normalizer='moving_average': Keras does not say"):
        network().compile("sgd", DetectionLoss(normalizer="moving_average"))
    with pytest.raises(ValueError, match="loss_weights: the parts"):
        network().compile("sgd", DetectionLoss(), loss_weights=2.0)


@pytest.mark.parametrize("loss", ["mse", keras.losses.Huber(), DetectionLoss, {"class": "mse"}])
def test_a_loss_of_keras_is_refused_with_what_to_pass(loss):
    with pytest.raises(
        ValueError, match=r"pass a loss of ytrue.model.losses, such as DetectionLoss"
    ):
        EfficientDet("nano", 2).compile("adam", loss)


def classes_of(label, classes):
    """Of each loss with classes: targets and predictions of one image, the one positive's label."""
    state, label = np.array([[1, 0]], np.int8), np.array([[label, -1]], np.int32)
    box, logits = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, classes), np.float32)
    half, polygon = np.full((1, 2), 0.5, np.float32), np.full((1, 2, 3, 3), 0.5, np.float32)
    common = {"state": state, "label": label, "box": box}
    masks = {"object": np.array([[0, -1]]), "masks": np.ones((1, 1, 2, 2), np.uint8),
             "mask_state": np.ones((1, 1), np.int8), "mask_box": np.ones((1, 1, 4), np.float32)}  # fmt: skip
    found = {"class": logits, "box": box}
    return {
        DetectionLoss: (common, found),
        FCOSLoss: (common | {"centerness": half}, found | {"centerness": half}),
        YoloLoss: (common, found | {"objectness": half}),
        PolygonLoss: (common | {"polygon": polygon}, found | {"objectness": half, "polygon": polygon}),
        MaskLoss: (common | masks, found | {"coefficients": np.ones((1, 2, 2), np.float32),
                                            "prototypes": np.ones((1, 2, 2, 2), np.float32)}),
    }  # fmt: skip


WITH_CLASSES = (DetectionLoss, FCOSLoss, YoloLoss, PolygonLoss, MaskLoss)


@pytest.mark.parametrize("kind", WITH_CLASSES)
@pytest.mark.parametrize("label", [-1, 3, 4])
def test_every_loss_refuses_a_positives_label_that_is_no_class(kind, label):
    given = classes_of(label, 3)[kind]
    with pytest.raises(ValueError, match=rf"labels of positives must lie in \[0, 3\).*is {label}$"):
        kind()(*given)
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"(?s)must lie in.*\[{label}\]"):
        tf.function(kind())(*given)
    if kind is not MaskLoss:  # its ragged rows are none of XLA's
        assert np.isnan(float(tf.function(kind(), jit_compile=True)(*given)["loss"]))


@pytest.mark.parametrize("kind", WITH_CLASSES)
@pytest.mark.parametrize("label", [0, 2])
def test_the_first_and_the_last_class_are_taken(kind, label):
    for loss in (kind(), tf.function(kind())):
        assert np.isfinite(float(loss(*classes_of(label, 3)[kind])["loss"]))


def test_heat_maps_and_points_of_other_classes_are_refused():
    objects = Annotations([(6, 8, 40, 36)], [1], keypoints=[[(9, 9, 2), (20, 30, 2)]])
    centers = CenterNetEncoder(SIZE, 2).encode_batch([objects])
    with pytest.raises(
        ValueError, match="numbers of classes differ: targets' heatmap 2, .* 1; are"
    ):
        CenterNetLoss()(centers, {"heatmap": np.zeros((1, 12, 16, 1), np.float32),
                                  "size": centers["size"], "offset": centers["offset"]})  # fmt: skip
    points = KeypointGridEncoder(SIZE, stride=16, num_classes=2).encode_batch([objects])
    with pytest.raises(ValueError, match="numbers of classes differ: targets' label 2, .* 3; are"):
        KeypointLoss()(points, {"class": np.zeros((1, 3, 4, 1, 3), np.float32),
                                "xy": points["offset"]})  # fmt: skip
