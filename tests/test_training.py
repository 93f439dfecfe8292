"""A whole run: what it writes, that it goes on to the bit after a kill, and what it refuses."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from ytrue import audit
from ytrue.datasets import load, write_shapes
from ytrue.encoders import preset
from ytrue.errors import DataError
from ytrue.files import locked
from ytrue.model import Detector, Recipe, train
from ytrue.model.evaluate import evaluate
from ytrue.model.predict import images_of, predict
from ytrue.model.training import DivergedError, LostObjectsError, Watch, _digest, _Run, _strategy

RUN = """
import os, signal, sys
import tensorflow as tf
from ytrue.datasets import load
from ytrue.encoders import preset
from ytrue.model import Recipe, train
from ytrue.model.training import Watch

source, folder, last, replicas = sys.argv[1:]
done = 0
strategy = None
if replicas != "1":
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * int(replicas)
    tf.config.set_logical_device_configuration(cpu, parts)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(int(replicas))])

def moment(now):
    global done
    done += 1
    if done == int(last):
        os.kill(os.getpid(), signal.SIGKILL)

dataset = load(source)
learnt, held = dataset.hold_out(4)
recipe = Recipe(epochs=3, batch_size=3 if strategy is None else 4, optimizer="adamw",
                augment="light", drop_connect=0.5)
train(learnt, preset("ytrue", (64, 96), dataset.num_classes), folder, recipe, variant="nano",
      validation=held, save_every=0.0, max_lost=1.0, watch=Watch(moment=moment), strategy=strategy)
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    return write_shapes(folder, num_images=12, image_size=(96, 144))


def run(shapes, folder, last=0, replicas=1):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [sys.executable, "-P", "-c", RUN, str(shapes), str(folder), str(last), str(replicas)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def digests(folder):
    """The content of all arrays; the files themselves hold times of writing."""
    import h5py

    found = {}
    for name in ("best", "last"):
        with h5py.File(folder / f"{name}.weights.h5") as file:
            arrays = []
            file.visititems(
                lambda path, item, arrays=arrays: (
                    arrays.append((path, item[()].tobytes())) if hasattr(item, "dtype") else None
                )
            )
            found[name] = hashlib.sha256(repr(sorted(arrays)).encode()).hexdigest()
    with np.load(folder / "state.npz") as file:
        found["state"] = {name: file[name].tobytes() for name in file.files if name != "meta"}
    return found


@pytest.mark.slow
def test_a_run_killed_three_times_ends_as_one_that_was_not(shapes, tmp_path):
    whole = run(shapes, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for last in (2, 3, 2):  # in the first epoch, over its end, in the second
        assert run(shapes, tmp_path / "killed", last).returncode == -signal.SIGKILL
    end = run(shapes, tmp_path / "killed")
    assert end.returncode == 0, end.stderr
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    histories = [
        json.loads((tmp_path / n / "history.json").read_text()) for n in ("killed", "whole")
    ]
    for history in histories:
        for entry in history:
            del entry["images_per_second"]
    assert histories[0] == histories[1]
    assert [entry["epoch"] for entry in histories[0]] == [1, 2, 3]


@pytest.mark.slow
def test_a_mirrored_run_goes_on_after_a_kill(shapes, tmp_path):
    whole = run(shapes, tmp_path / "whole", replicas=2)
    assert whole.returncode == 0, whole.stderr
    assert run(shapes, tmp_path / "killed", 3, replicas=2).returncode == -signal.SIGKILL
    end = run(shapes, tmp_path / "killed", replicas=2)
    assert end.returncode == 0, end.stderr
    history = json.loads((tmp_path / "whole" / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert all(np.isfinite(list(entry["losses"].values())).all() for entry in history)
    assert {"AP", "AP50"} <= history[-1]["scores"].keys()
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """A run of one epoch, with its folder and what it told."""
    folder = tmp_path_factory.mktemp("run")
    dataset = load(shapes)
    learnt, held = dataset.hold_out(4)
    told = {"moments": [], "epochs": []}
    watch = Watch(
        moment=told["moments"].append,
        epoch=told["epochs"].append,
        pictures=lambda _: {"grey": np.full((4, 6, 3), 99, np.uint8)},
    )
    encoder = preset("ytrue", (64, 96), 4)
    recipe = Recipe(epochs=1, batch_size=3, deterministic=False)
    detector = train(
        learnt, encoder, folder, recipe, variant="nano", validation=held, max_lost=1.0, watch=watch
    )
    return detector, folder, told, held


def test_a_run_tells_and_writes_what_it_did(finished):
    detector, folder, told, held = finished
    assert [moment.step for moment in told["moments"]] == [0, 1, 2]
    assert told["moments"][-1].remaining == 0
    assert set(told["moments"][0].losses) == {"loss", "class", "box", "l2"}
    (entry,) = told["epochs"]
    assert json.loads((folder / "history.json").read_text()) == [entry]
    found = {
        one.image_id: one.detections
        for one in predict(detector, images_of(held), score_threshold=0.001)
    }
    assert entry["scores"]["AP50"] == pytest.approx(evaluate(held, found).ap50, abs=1e-3)


def test_tensorboard_finds_numbers_and_pictures(finished):
    _, folder, *_ = finished
    tags = {}
    for file in (folder / "logs").iterdir():
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                tags[value.tag] = value
    assert {"validation/AP", "validation/AP50", "grey"} <= tags.keys()
    pixels = tf.io.decode_png(tags["grey"].image.encoded_image_string)
    assert pixels.shape == (4, 6, 3)
    assert int(pixels[0, 0, 0]) == 99


def test_a_detector_comes_back_from_its_folder(finished):
    detector, folder, *_ = finished
    again = Detector.load(folder, "last")
    assert again.description() == detector.description()
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), np.uint8)
    for one, other in zip(
        detector.find(images, score_threshold=0.0), again.find(images, score_threshold=0.0),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert Detector.load(folder).description() == detector.description()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"classes": ("a",)},
            "numbers of classes differ: the encoder's classes 4, class names 1, class ids 4",
        ),
        ({"class_ids": (1, 2)}, "class names 4, class ids 2"),
        (
            {"encoder": preset("ytrue", (64, 96), 4, num_scales=2)},
            "the model's box/anchors is 9, the encoder's 6",
        ),
        ({"resize": "crop"}, "resize='crop': expected one of letterbox, stretch"),
        (
            {"encoder": preset("ytrue", (64, 96), 4, max_level=6)},
            r"the model has levels \(3, 4, 5, 6, 7\), the encoder's grid \(3, 4, 5, 6\)",
        ),
    ],
)
def test_parts_that_do_not_go_together_make_no_detector(finished, change, message):
    with pytest.raises(ValueError, match=message):
        replace(finished[0], **change)


def test_a_finished_run_is_not_trained_again(finished, shapes):
    detector, folder, *_ = finished
    learnt, held = load(shapes).hold_out(4)
    before = (folder / "last.weights.h5").read_bytes()
    moments, done = [], []
    train(
        learnt, detector.encoder, folder, Recipe(epochs=1, batch_size=3, deterministic=False),
        variant="nano", validation=held, max_lost=1.0,
        watch=Watch(moment=moments.append, resumed=done.append),
    )  # fmt: skip
    assert not moments
    assert done == [1]
    assert (folder / "last.weights.h5").read_bytes() == before


def test_a_folder_of_another_run_is_refused(finished, shapes):
    _, folder, *_ = finished
    learnt, held = load(shapes).hold_out(4)
    message = (
        "run.json: the folder holds another run: its training data are other images or "
        "annotations; encoder/grid/anchor_scale 4.0 there, 3.0 asked for; recipe/epochs 1 there, "
        "5 asked for; train into"
    )
    other = preset("ytrue", (64, 96), learnt.num_classes, anchor_scale=3.0)
    with pytest.raises(DataError, match=message):
        train(
            learnt.subset(range(6)), other, folder,
            Recipe(epochs=5, batch_size=3, deterministic=False), variant="nano", validation=held, max_lost=1.0,
        )  # fmt: skip


def test_a_run_goes_on_with_more_epochs_and_not_with_fewer(finished, shapes, tmp_path):
    _, folder, *_ = finished
    longer = tmp_path / "longer"
    shutil.copytree(folder, longer)
    learnt, held = load(shapes).hold_out(4)
    encoder, told, done = preset("ytrue", (64, 96), 4), [], []
    recipe = Recipe(epochs=2, batch_size=3, deterministic=False)

    def go_on(epochs):
        train(
            learnt, encoder, longer, replace(recipe, epochs=epochs), variant="nano",
            validation=held, max_lost=1.0, watch=Watch(epoch=told.append, resumed=done.append),
        )  # fmt: skip

    go_on(2)
    assert done == [1]
    assert [entry["epoch"] for entry in told] == [2]
    assert [e["epoch"] for e in json.loads((longer / "history.json").read_text())] == [1, 2]
    assert json.loads((longer / "run.json").read_text())["recipe"]["epochs"] == 2
    with pytest.raises(DataError, match="recipe/epochs 2 there, 1 asked for"):
        go_on(1)


def test_two_runs_in_one_folder_are_kept_apart(finished, shapes):
    _, folder, *_ = finished
    learnt, _ = load(shapes).hold_out(4)
    with (
        locked(folder, "training"),
        pytest.raises(DataError, match="another process is training here; wait for it, or name an"),
    ):
        train(learnt, preset("ytrue", (64, 96), 4), folder, variant="nano", max_lost=1.0)


def test_the_audits_advice_and_a_datasets_splits_are_told(shapes, tmp_path, monkeypatch):
    dataset = load(shapes)
    splits = [("train",)] * 9 + [("val",)] * 2 + [("test",)]
    tagged = replace(dataset, images=replace(dataset.images, splits=splits))
    said = []

    def stop(*_):
        raise InterruptedError

    monkeypatch.setattr(_Run, "go_on", stop)  # all that is told before the first step
    with pytest.raises(InterruptedError):
        train(
            tagged, preset("ytrue", (64, 96), 4), tmp_path / "run", Recipe(batch_size=3),
            variant="nano", max_lost=1.0, watch=Watch(advice=said.append),
        )  # fmt: skip
    assert said[0].endswith("learns its split train, 9 of 12 images")
    assert said[1].endswith("validates on its split val, 2 of 12 images")
    advice = audit(tagged.split("train"), preset("ytrue", (64, 96), 4)).advice()
    assert said[2:] == [f"audit: {sentence}" for sentence in advice] != []


@pytest.mark.parametrize(
    ("learnt", "found", "said"), [(0.125, 0.375, False), (0.125, 0.376, True), (0.0, 0.125, True)]
)
def test_norms_that_lag_are_told_once_with_what_to_do(learnt, found, said):
    told = []
    run = object.__new__(_Run)
    run.recipe, run.watch, run.strategy = Recipe(epochs=4), Watch(advice=told.append), _strategy()
    run.detector = SimpleNamespace(model=lambda images, training: {"training": training})
    run.loss = lambda targets, outputs, training: {"loss": found + outputs["training"] + training}
    batch, losses = (
        (np.zeros((1, 2, 2, 3)), {"state": np.zeros((1, 2))}),
        {"loss": learnt + 5, "l2": 5.0},
    )
    for run.epoch in (1, 2):
        run.tell_of_norms(batch, losses, 2)
    assert len(told) == said
    assert not said or ("--freeze-norms" in told[0] and "batches of 8" in told[0])
    run.told_of_norms, run.recipe = False, Recipe(epochs=4, freeze_norms=True)
    run.tell_of_norms(batch, losses, 1)
    assert len(told) == said


def test_a_changed_description_is_refused(finished, tmp_path):
    _, folder, *_ = finished
    content = json.loads((folder / "run.json").read_text())
    content["encoder"]["positive_iou"] = 0.6
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="its settings were changed after training"):
        Detector.load(tmp_path)
    with pytest.raises(DataError, match="no run.json in it; name the folder"):
        Detector.load(tmp_path / "nothing")


def gone_on_with(detector, folder, shapes):
    """Ask for the finished run again, in another folder."""
    learnt, held = load(shapes).hold_out(4)
    recipe = Recipe(epochs=1, batch_size=3, deterministic=False)
    train(
        learnt, detector.encoder, folder, recipe, variant="nano", validation=held, max_lost=1.0
    )  # fmt: skip


def test_a_broken_state_is_named(finished, shapes, tmp_path):
    detector, folder, *_ = finished
    (tmp_path / "run.json").write_bytes((folder / "run.json").read_bytes())
    (tmp_path / "state.npz").write_bytes((folder / "state.npz").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"state.npz: the training state cannot be read"):
        gone_on_with(detector, tmp_path, shapes)


def test_a_state_without_its_description_is_refused(finished, shapes, tmp_path):
    detector, folder, *_ = finished
    (tmp_path / "state.npz").write_bytes((folder / "state.npz").read_bytes())
    with pytest.raises(DataError, match=r"state.npz: a training state, but no run.json"):
        gone_on_with(detector, tmp_path, shapes)


def test_every_epoch_leaves_its_weights(shapes, tmp_path):
    seen = []

    def ended(_):
        seen.append((tmp_path / "last.weights.h5").read_bytes())
        (tmp_path / "history.json").unlink()

    learnt, _ = load(shapes).hold_out(2)
    recipe = Recipe(epochs=2, batch_size=3, deterministic=False)
    encoder = preset("ytrue", (64, 96), 4)
    train(learnt, encoder, tmp_path, recipe, variant="nano", max_lost=1.0, watch=Watch(epoch=ended))
    assert len(seen) == 2
    assert seen[0] != seen[1]
    # A finished run is asked again: its history is there.
    train(learnt, encoder, tmp_path, recipe, variant="nano", max_lost=1.0)
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2


def own_augmentation(image):
    return image


def test_what_a_run_is_known_by(shapes):
    """Outlines are learnt, too; a function has no address in it."""
    assert Recipe(augment=own_augmentation).config()["augment"] == f"{__name__}.own_augmentation"
    dataset = load(shapes)
    objects = dataset.objects
    assert len(objects.points)
    moved = replace(dataset, objects=replace(objects, points=objects.points + 1))
    assert _digest(moved) != _digest(dataset) == _digest(load(shapes))


@pytest.mark.parametrize("name", ["clip_norm", "warmup_epochs"])
def test_endless_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=inf: expected a finite number from 0"):
        Recipe(**{name: np.inf})


def test_images_of_which_none_can_be_read_are_one_message(shapes, tmp_path):
    (tmp_path / "empty").mkdir()
    dataset = load(shapes, images=tmp_path / "empty")
    with pytest.raises(
        DataError, match=r"none of its 12 images can be read; the first: .*shapes_0"
    ):
        train(dataset, preset("ytrue", (64, 96), 4), tmp_path / "run", variant="nano", max_lost=1.0)


def test_too_many_lost_objects_are_refused_with_the_report(shapes, tmp_path):
    dataset = load(shapes)
    encoder = preset("retinanet", (64, 96), dataset.num_classes)  # forces nothing
    with pytest.raises(LostObjectsError, match=r"of the objects would own no anchor") as caught:
        train(dataset, encoder, tmp_path / "run", variant="nano")
    assert caught.value.report.lost_share > 0.05
    assert not (tmp_path / "run").exists()


def test_datasets_that_do_not_fit_are_refused(shapes, tmp_path):
    dataset = load(shapes)
    other = replace(dataset, classes=("a", "b", "c", "d"))
    encoder = preset("ytrue", (64, 96), dataset.num_classes)
    with pytest.raises(DataError, match="its classes are a, b, c, d, those of the training data"):
        train(dataset, encoder, tmp_path, variant="nano", validation=other)
    nothing = dataset.subset([])
    with pytest.raises(DataError, match="there is no object to find in it, but AP is to be"):
        train(dataset, encoder, tmp_path, variant="nano", validation=nothing)
    with pytest.raises(ValueError, match="batch_size=99 is more than the 12 images"):
        train(dataset, encoder, tmp_path, Recipe(batch_size=99), variant="nano", max_lost=1.0)


def test_a_loss_that_is_no_number_stops_the_run(shapes, tmp_path):
    encoder = preset("ytrue", (64, 96), 4)
    recipe = Recipe(
        epochs=9,
        batch_size=4,
        learning_rate=1e20,
        clip_norm=0,
        warmup_epochs=0,
        deterministic=False,
    )
    with pytest.raises(DivergedError, match=r"no number in epoch \d, step \d \(.*class nan"):
        train(load(shapes), encoder, tmp_path, recipe, variant="nano", max_lost=1.0)
