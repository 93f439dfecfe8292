"""Tasks: an encoder says which heads, loss and scores its network has, and the two must fit."""

import json

import numpy as np
import pytest
import tensorflow as tf

from ytrue.datasets import convert, load, pipeline, write_shapes
from ytrue.encoders import (
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    preset,
)
from ytrue.errors import DataError
from ytrue.model import Detector, EfficientDet, PyramidNet, Recipe, train
from ytrue.model.evaluatemasks import evaluate_masks
from ytrue.model.evaluatepoints import evaluate_points
from ytrue.model.losses import DetectionLoss, JointLoss, KeypointLoss
from ytrue.model.predict import images_of, predict, records_of
from ytrue.model.step import training_step
from ytrue.model.tasks import build_model, check_fits, task_of
from ytrue.model.training import LostObjectsError

SIZE = (64, 96)


def encoders():
    points = KeypointGridEncoder(SIZE, stride=(8, 16), num_classes=4)
    fixed = KeypointGridEncoder(SIZE, stride=8, num_classes=4, points_per_cell=4, slots="fixed")
    whole = KeypointGridEncoder(
        SIZE, "global", num_classes=4, points_per_cell=4, slots="fixed", classes="object"
    )
    boxes = preset("ytrue", SIZE, 4)
    yolo = YoloEncoder(SIZE, [[(16, 16)], [(40, 40)]], stride=(8, 16), num_classes=4)
    return {
        "box": boxes,
        "keypoints": points,
        "fixed": fixed,
        "global": whole,
        "pose": PoseEncoder(boxes, fixed),
        "mask": MaskEncoder(boxes),
        "yolo": yolo,
        "polygon": PolygonEncoder(yolo),
        "fcos": FCOSEncoder(SIZE, 4, stride=(8, 16, 32)),
        "centernet": CenterNetEncoder(SIZE, 4),
    }


# "global" has one class, and as many slots at any size.
@pytest.mark.parametrize("name", [name for name in encoders() if name != "global"])
def test_outputs_of_other_classes_or_another_size_are_not_decoded(name):
    encoder = encoders()[name]
    model = build_model(encoder, "nano")

    def outputs(size):
        return {key: array[0].numpy() for key, array in model(np.zeros((1, *size, 3))).items()}

    told = {key: array[None] for key, array in outputs(SIZE).items()}
    if name not in ("mask", "centernet"):  # whose grids are looked at first
        assert len(encoder.decode(told)) == len(encoder.decode(outputs(SIZE)))
    cut = {
        key: array[..., :-1] if key.endswith(("class", "heatmap")) else array
        for key, array in outputs(SIZE).items()
    }
    for wrong in (cut, outputs((96, 96))):
        with pytest.raises(ValueError, match="are network and encoder of one"):
            encoder.decode(wrong)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zz-tasks")
    return load(write_shapes(folder, num_images=8, image_size=(128, 192), seed=3))


@pytest.mark.parametrize("name", encoders())
def test_outputs_answer_the_targets(name, shapes):
    encoder = encoders()[name]
    model = build_model(encoder, "nano")
    check_fits(model, encoder)
    assert isinstance(model, EfficientDet if name == "box" else PyramidNet)
    batches = pipeline(shapes, encoder, batch_size=2)
    images, targets = next(iter(batches))
    loss = task_of(encoder).loss(encoder, Recipe())
    losses = loss(targets, model(images))
    assert set(losses) == {"loss", *loss.parts}
    assert all(np.isfinite(value) for value in losses.values())
    decoded = encoder.decode(
        {key: array[0].numpy() for key, array in model(images).items()}, score_threshold=0.0
    )
    assert len(decoded)


def test_a_joint_loss_is_the_sum_of_its_heads(shapes):
    encoder = encoders()["pose"]
    images, targets = next(iter(pipeline(shapes, encoder, batch_size=3)))
    outputs = build_model(encoder, "nano")(images)

    def of(part, arrays):
        return {k.removeprefix(part + "/"): a for k, a in arrays.items() if k.startswith(part)}

    box = DetectionLoss()(of("box", targets), of("box", outputs))
    points = KeypointLoss()(of("keypoints", targets), of("keypoints", outputs))
    joint = JointLoss({"box": DetectionLoss(), "keypoints": KeypointLoss()}, {"keypoints": 3.0})
    losses = joint(targets, outputs)
    assert joint.parts == ("box/class", "box/box", "keypoints/class", "keypoints/xy")
    np.testing.assert_allclose(losses["loss"], box["loss"] + 3.0 * points["loss"], rtol=1e-6)
    np.testing.assert_array_equal(losses["keypoints/xy"], points["xy"])
    with pytest.raises(ValueError, match="weights for mask: the heads are box"):
        JointLoss({"box": DetectionLoss()}, {"mask": 1.0})
    with pytest.raises(ValueError, match="targets lack state, offset, label"):
        joint({"box/" + k: a for k, a in of("box", targets).items()}, outputs)


def test_fit_reports_the_parts_of_the_loss(shapes):
    encoder = encoders()["pose"]
    model = build_model(encoder, "nano")
    model.compile("sgd")
    history = model.fit(pipeline(shapes, encoder, batch_size=4), shuffle=False, verbose=0).history
    assert set(history) == {
        "loss", "box/class_loss", "box/box_loss", "keypoints/class_loss", "keypoints/xy_loss",
        "l2_loss",
    }  # fmt: skip
    step = training_step(model)
    again = step(next(iter(pipeline(shapes, encoder, batch_size=4))))
    assert set(again) == {
        "loss", "box/class", "box/box", "keypoints/class", "keypoints/xy", "l2"
    }  # fmt: skip


def test_masks_are_not_learnt_from_boxes_alone(shapes, tmp_path):
    convert(shapes, "voc", tmp_path / "voc")
    boxes = load(tmp_path / "voc")
    encoder = encoders()["mask"]
    message = (
        "there is no object with a polygon or a mask in it, but --task mask is to learn from it"
    )
    with pytest.raises(DataError, match=message):
        train(boxes, encoder, tmp_path / "run", variant="nano", max_lost=1.0)


def test_a_step_is_compiled_once_for_any_number_of_masks(shapes):
    encoder = encoders()["mask"]
    model = build_model(encoder, "nano")
    model.compile("sgd", task_of(encoder).loss(encoder, Recipe()))
    batches = pipeline(shapes, encoder, batch_size=1)
    step = training_step(model, spec=batches.element_spec)
    counts = set()
    for batch in batches.take(4):
        step(batch)
        counts.add(batch[1]["masks"].shape[1])
    assert len(counts) > 1
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "name", ["fixed", "global", "pose", "mask", "polygon", "fcos", "centernet"]
)
def test_folding_and_saving_keep_the_outputs(name, tmp_path):
    encoder = encoders()[name]
    model = build_model(encoder, "nano")
    for weight in model.weights:  # norms that do something
        if "moving_variance" in weight.path:
            weight.assign(tf.random.stateless_uniform(weight.shape, (1, 2), 0.5, 2.0))
    images = np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), np.uint8)
    before, after = model(images), model.fold()(images)
    for key in before:
        np.testing.assert_allclose(after[key], before[key], rtol=1e-3, atol=1e-3)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    for key in before:
        np.testing.assert_array_equal(again(images)[key], before[key])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: check_fits(EfficientDet("nano", 4), encoders()["fixed"]),
            "the model has heads box, the encoder needs keypoints",
        ),
        (
            lambda: check_fits(build_model(encoders()["keypoints"], "nano"), encoders()["fixed"]),
            r"keypoints/points_per_cell is 1, the encoder's 4; .* is \[0, 1\], the encoder's \[0\]",
        ),
        (
            lambda: build_model(KeypointGridEncoder(SIZE, (5, 5), num_classes=1), "nano"),
            "no level of the network has a grid of 5x5: there are 8x12 on P3, 4x6 on P4",
        ),
        (
            lambda: build_model(KeypointGridEncoder(SIZE, stride=(16, 8), num_classes=1), "nano"),
            "are not in order: name the finest first",
        ),
        (lambda: PyramidNet("nano", {}), "heads is empty"),
        (
            lambda: PyramidNet("nano", {"a": {"kind": "wheel"}}),
            "head 'a' is of kind 'wheel': expected one of anchor, keypoint-grid",
        ),
    ],
)
def test_what_does_not_go_together_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "name",
    ["keypoints", "mask", *(pytest.param(n, marks=pytest.mark.slow) for n in ("pose", "polygon"))],
)
def test_a_run_of_the_task_trains_and_comes_back(name, shapes, tmp_path):
    encoder = encoders()[name]
    learnt, held = shapes.hold_out(4)
    recipe = Recipe(epochs=1, batch_size=3, augment="flip", deterministic=False)
    detector = train(
        learnt, encoder, tmp_path, recipe, variant="nano", validation=held, max_lost=1.0
    )
    (entry,) = json.loads((tmp_path / "history.json").read_text())
    wanted = {
        "keypoints": ["AP", "PCK"],
        "pose": ["OKS AP", "OKS AP50", "box AP", "box AP50"],
        "mask": ["mask AP", "mask AP50", "box AP", "box AP50"],
        "polygon": ["mask AP", "mask AP50", "box AP", "box AP50"],
    }
    assert list(entry["scores"]) == wanted[name]
    again = Detector.load(tmp_path, "last")
    assert again.description() == detector.description()
    assert again.landmarks == shapes.keypoint_names
    found = list(predict(again, images_of(held), score_threshold=0.0))
    records = records_of(again, found)
    fields = {
        "keypoints": {"image_id", "landmark", "point", "score"},
        "pose": {"image_id", "category_id", "bbox", "keypoints", "score"},
        "mask": {"image_id", "category_id", "bbox", "segmentation", "score"},
        "polygon": {"image_id", "category_id", "bbox", "segmentation", "score"},
    }
    assert set(records[0]) == fields[name]
    if name == "keypoints":
        in_memory = evaluate_points(held, {one.image_id: one.detections for one in found})
        from_records = evaluate_points(held, records)
        assert in_memory.overall.nearest_error == pytest.approx(
            from_records.overall.nearest_error, abs=1e-2
        )
    if name == "mask":
        in_memory = evaluate_masks(held, {one.image_id: one.detections for one in found})
        assert evaluate_masks(held, records).to_json() == in_memory.to_json()


def test_a_dataset_without_points_is_refused(shapes, tmp_path):
    bare = shapes.subset([])
    with pytest.raises(DataError, match="there is no labelled keypoint in it, but AP is to be"):
        train(shapes, encoders()["keypoints"], tmp_path, variant="nano", validation=bare)


def test_too_many_lost_points_are_refused(shapes, tmp_path):
    coarse = KeypointGridEncoder(SIZE, stride=32, num_classes=4)
    with pytest.raises(LostObjectsError, match="of the objects or points would own nothing"):
        train(shapes, coarse, tmp_path / "run", variant="nano")


def test_a_detector_saved_by_hand_comes_back(tmp_path):
    encoder = encoders()["fixed"]
    detector = Detector(
        build_model(encoder, "nano"), encoder, ("a", "b"), (7, 9), "stretch", ("l", "t", "r", "b")
    )
    detector.save(tmp_path / "deep" / "folder", note="by hand")
    again = Detector.load(tmp_path / "deep" / "folder")
    assert again.description() == detector.description()
    assert json.loads((tmp_path / "deep" / "folder" / "run.json").read_text())["note"] == "by hand"
    images = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), np.uint8)
    one, other = (d.find(images, score_threshold=0.0)[0] for d in (detector, again))
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert len(one)
