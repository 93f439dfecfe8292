"""A run's weights as the start of another: which are taken, which start anew, and what is said."""

import keras
import numpy as np
import pytest

from ytrue.encoders import KeypointGridEncoder, PoseEncoder, YoloEncoder, preset
from ytrue.errors import DataError
from ytrue.model import Detector
from ytrue.model.tasks import build_model
from ytrue.model.warmstart import own_run, start_from

SIZE = (64, 96)


def detector(encoder, classes, seed, landmarks=()):
    keras.utils.set_random_seed(seed)
    model = build_model(encoder, "nano")
    return Detector(model, encoder, classes, tuple(range(len(classes))), landmarks=landmarks)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    made = detector(preset("ytrue", SIZE, 2), ("bolt", "nut"), 1)
    made.save(folder, "best")
    for weight in made.model.weights:
        weight.assign(weight + 1.0)
    made.save(folder, "last")
    return folder


def equal(one, other):
    return [np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True)]


@pytest.mark.parametrize(("named", "weights"), [("", "best"), ("last.weights.h5", "last")])
def test_the_same_classes_take_every_weight(run, named, weights):
    new = detector(preset("ytrue", SIZE, 2), ("bolt", "nut"), 7)
    assert start_from(new.model, own_run(run / named), new.classes, ()) == []
    assert all(equal(new.model, Detector.load(run, weights).model))


@pytest.mark.parametrize(
    "classes", [("bolt", "pin"), ("nut", "bolt"), ("bolt",), ("bolt", "nut", "pin")]
)
def test_other_classes_start_the_class_output_anew_and_nothing_else(run, classes):
    new = detector(preset("ytrue", SIZE, len(classes)), classes, 7)
    output = {
        id(w): w for w in new.model.class_head.towers[0][-1].weights if "depthwise" not in w.name
    }
    before = {key: weight.numpy() for key, weight in output.items()}
    assert len(output) == 2
    (said,) = start_from(new.model, own_run(run), classes, ())
    assert "class output of the head box (kernel, bias) starts anew" in said
    assert "(bolt, nut)" in said
    source = Detector.load(run).model
    assert all(equal(new.model.backbone, source.backbone))
    assert all(equal(new.model.pyramid, source.pyramid))
    assert all(equal(new.model.box_head, source.box_head))
    assert all(np.array_equal(before[key], weight) for key, weight in output.items())
    theirs = source.class_head.weights
    for ours, other in zip(new.model.class_head.weights, theirs, strict=True):
        assert id(ours) in output or np.array_equal(ours, other)


def test_another_task_takes_what_it_shares(run):
    encoder = YoloEncoder(SIZE, [[(16, 16)], [(32, 32)]], stride=(8, 16), num_classes=2)
    new = detector(encoder, ("bolt", "nut"), 7)
    head = [weight.numpy() for weight in new.model.heads["yolo"].weights]
    said = start_from(new.model, own_run(run), new.classes, ())
    assert [line.partition(" starts")[0] for line in said] == [
        "the pyramid",
        "all of the head yolo",
    ]
    source = Detector.load(run).model
    assert all(equal(new.model.backbone, source.backbone))
    assert all(
        np.array_equal(a, b) for a, b in zip(head, new.model.heads["yolo"].weights, strict=True)
    )


def test_one_of_two_heads_may_be_taken(run):
    points = KeypointGridEncoder(SIZE, stride=(8, 16), num_classes=2)
    encoder = PoseEncoder(preset("ytrue", SIZE, 2), points)
    new = detector(encoder, ("bolt", "nut"), 7, ("head", "tip"))
    said = start_from(new.model, own_run(run), new.classes, new.landmarks)
    assert [line.partition(" starts")[0] for line in said] == ["all of the head keypoints"]
    assert all(equal(new.model.heads["box"], Detector.load(run).model.heads["box"]))


def test_what_does_not_fit_is_named(run, tmp_path):
    keras.utils.set_random_seed(1)
    other = build_model(preset("ytrue", SIZE, 2), "lite0")
    with pytest.raises(
        DataError, match="the run's network is nano, not lite0; train with --model nano"
    ):
        start_from(other, own_run(run), ("bolt", "nut"), ())
    with pytest.raises(ValueError, match="weights='first'"):
        start_from(other, (run, "first"), ("bolt", "nut"), ())
    assert own_run(tmp_path) is None
    assert own_run(tmp_path / "official.h5") is None
    assert own_run(run / "history.json") is None
