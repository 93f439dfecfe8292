"""Batches: static shapes, equal for any number of workers, entered anywhere, and never a hang."""

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from ytrue import DataError
from ytrue.datasets import Report, load, pipeline, write_shapes
from ytrue.datasets.tfdata import ENDLESS, BatchMaker
from ytrue.encoders import KeypointGridEncoder, preset
from ytrue.normalising import NORMALISATIONS
from ytrue.resizing import place


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(
        write_shapes(tmp_path_factory.mktemp("shapes"), num_images=11, image_size=(96, 128))
    )


@pytest.fixture(scope="module")
def encoder(dataset):
    return preset("ytrue", (128, 128), dataset.num_classes)


def batches(*args, **options):
    return [
        (x.numpy(), {k: v.numpy() for k, v in y.items()}) for x, y in pipeline(*args, **options)
    ]


def assert_same(some, others):
    assert len(some) == len(others)
    for (x, y), (u, v) in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, u)
        for name in y:
            np.testing.assert_array_equal(y[name], v[name], err_msg=name)


def test_shapes_are_known_before_any_data(dataset, encoder):
    spec = pipeline(dataset, encoder, batch_size=4, drop_remainder=True).element_spec
    assert spec[0] == tf.TensorSpec((4, 128, 128, 3), tf.uint8)
    for name, (shape, dtype) in encoder.spec.items():
        assert spec[1][name] == tf.TensorSpec((4, *shape), tf.as_dtype(dtype))
    assert pipeline(dataset, encoder, batch_size=4).element_spec[0].shape[0] is None


def test_targets_are_those_of_the_placed_annotations(dataset, encoder):
    found = batches(dataset, encoder, batch_size=4)
    assert [len(x) for x, _ in found] == [4, 4, 3]
    for k, example in enumerate(dataset):
        placed = place((example.height, example.width), (128, 128), "letterbox").apply(
            example.annotations
        )
        for name, array in encoder.encode(placed).items():
            np.testing.assert_array_equal(found[k // 4][1][name][k % 4], array, err_msg=name)


def test_keypoints_may_have_fewer_classes_than_objects_have(dataset):
    points = KeypointGridEncoder(128, stride=16, num_classes=4, points_per_cell=2)
    single = dataset.subset(range(4))
    classes = (*dataset.classes, *"abcd")
    wide = replace(single, classes=classes, class_ids=(*dataset.class_ids, *range(90, 94)))
    assert wide.num_classes > points.num_classes
    [(_, target)] = batches(wide, points, batch_size=4)
    assert target["state"].sum() > 8
    placed = [
        place((x.height, x.width), (128, 128), "letterbox").apply(x.annotations) for x in single
    ]
    for name, array in points.encode_batch(placed).items():
        np.testing.assert_array_equal(target[name], array, err_msg=name)
    with pytest.raises(ValueError, match="the encoder knows 4 classes, the dataset has 8"):
        batches(wide, preset("ytrue", 128, 4), batch_size=4)


def test_normalisation_is_the_models_own(dataset, encoder):
    plain = batches(dataset, encoder, batch_size=2)[0][0].astype(np.float32)
    for name in ("imagenet", "lite"):
        mean, std = NORMALISATIONS[name]
        found = batches(dataset, encoder, batch_size=2, images=name)[0][0]
        expected = (plain - np.float32(mean)) / np.float32(std)
        np.testing.assert_allclose(found[:, :96], expected[:, :96], atol=1e-5)
    padding = batches(dataset, encoder, batch_size=2, images="imagenet")[0][0][:, 100:]
    assert np.abs(padding).max() < 0.01  # the mean colour: 0 once normalised


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_workers_change_nothing(dataset, encoder, augment):
    options = {"batch_size": 3, "augment": augment, "shuffle": True, "seed": 5, "epochs": 2}
    one = batches(dataset, encoder, workers=1, **options)
    assert_same(one, batches(dataset, encoder, workers=5, **options))
    other = batches(dataset, encoder, **(options | {"seed": 6}))
    assert any((x != u).any() for (x, _), (u, _) in zip(one, other, strict=True))


def test_resuming_equals_never_stopping(dataset, encoder):
    options = {"batch_size": 3, "augment": "light", "shuffle": True, "epochs": 3}
    whole = batches(dataset, encoder, **options)
    steps = len(whole) // 3
    for epoch, step in ((0, 1), (1, 0), (2, 2)):
        assert_same(
            batches(dataset, encoder, start=(epoch, step), **options), whole[epoch * steps + step :]
        )


def test_an_epoch_shows_every_example_once_in_another_order(dataset, encoder):
    def owners(epoch):
        found = batches(
            dataset, encoder, batch_size=11, shuffle=True, start=(epoch, 0), epochs=epoch + 1
        )
        return [x.tobytes() for x in found[0][0]]

    first, second = owners(0), owners(1)
    assert sorted(first) == sorted(second)
    assert first != second
    assert len(set(first)) == 11


def test_machines_share_the_examples(dataset, encoder):
    options = {"batch_size": 1, "shuffle": True}
    shares = [
        [x.tobytes() for x, _ in batches(dataset, encoder, shard=(k, 3), **options)]
        for k in range(3)
    ]
    assert [len(share) for share in shares] == [3, 3, 3]  # equal steps on every machine
    assert len({image for share in shares for image in share}) == 9


def broken(dataset, tmp_path, index):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 broken")
    paths = list(dataset.images.paths)
    paths[index] = str(bad)
    return replace(dataset, images=replace(dataset.images, paths=paths))


def test_a_broken_image_raises_with_its_name(dataset, encoder, tmp_path):
    with pytest.raises(tf.errors.OpError, match="image 6: .*bad.jpg: not a readable image"):
        batches(broken(dataset, tmp_path, 5), encoder, batch_size=2)


def test_what_tensorflow_says_of_it_is_short(dataset, encoder, tmp_path):
    report = Report()
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        batches(broken(dataset, tmp_path, 5), encoder, batch_size=2, report=report)
    said = str(caught.value)
    assert len(said.splitlines()) == 2
    assert "Traceback" not in said
    assert "bad.jpg: not a readable image" in said.splitlines()[0]
    assert "goes on without it" in said.splitlines()[0]
    assert isinstance(report.error, DataError)
    assert str(report.error) in said.replace("\\", "")


def test_a_report_says_what_stopped_the_batches(dataset, encoder, tmp_path):
    report = Report()
    data = pipeline(broken(dataset, tmp_path, 5), encoder, batch_size=2, report=report)
    with pytest.raises(DataError, match='^image 6: .*bad.jpg: not a readable .* on_error="skip"'):
        list(report.drawn(data))
    with pytest.raises(ZeroDivisionError):  # and of what is no data's fault, that itself
        list(Report().drawn(1 / one for one in (1, 0)))


def test_mistakes_in_an_augmentation_keep_their_traceback(dataset, encoder):
    def wrong(example, pixels, random):
        return pixels, example.no_such_thing

    with pytest.raises(tf.errors.OpError, match="no_such_thing"):
        batches(dataset, encoder, batch_size=2, augment=wrong)


def test_a_broken_image_is_skipped_and_reported_once(dataset, encoder, tmp_path):
    report = Report()
    found = batches(
        broken(dataset, tmp_path, 5),
        encoder,
        batch_size=2,
        epochs=2,
        on_error="skip",
        report=report,
    )
    assert [len(x) for x, _ in found] == [2, 2, 2, 2, 2, 1] * 2
    assert list(report.skipped) == ["6"]
    assert "bad.jpg" in report.skipped["6"]
    assert report.examples == 22


def test_nothing_readable_is_an_error_not_a_hang(dataset, encoder, tmp_path):
    with pytest.raises(tf.errors.OpError, match="no image of the dataset can be read"):
        batches(broken(dataset, tmp_path, 0).subset([0]), encoder, batch_size=1, on_error="skip")


def test_dropped_objects_are_counted(dataset, encoder):
    report = Report()
    found = batches(dataset, encoder, batch_size=11, augment="light", epochs=5, report=report)
    assert report.examples == 55
    assert report.counts["dropped: left the frame"] > 0
    assert len(found) == 5


# Iterating again.


def hashes(data, count=None):
    """Return what tells one image of a batch from another, batch by batch."""
    return [
        images.numpy().tobytes() for images, *_ in (data if count is None else data.take(count))
    ]


CHANGING = {"batch_size": 3, "augment": "light", "shuffle": True}


def test_iterating_again_goes_on_with_the_next_epoch(dataset, encoder):
    wanted = hashes(pipeline(dataset, encoder, epochs=5, **CHANGING))
    assert len(set(wanted)) == 15
    data = pipeline(dataset, encoder, **CHANGING)
    assert [len(data), hashes(data), hashes(data)] == [3, wanted[:3], wanted[3:6]]
    assert hashes(data, 2) == wanted[6:8]  # what is not drawn of an epoch is not made up for
    assert hashes(data.repeat(2)) == wanted[9:]
    two = pipeline(dataset, encoder, epochs=2, **CHANGING)
    assert [len(two), hashes(two), hashes(two, 6)] == [6, wanted[:6], wanted[6:12]]


def test_resuming_counts_on_from_the_start(dataset, encoder):
    wanted = hashes(pipeline(dataset, encoder, epochs=6, **CHANGING))
    data = pipeline(dataset, encoder, start=(1, 2), epochs=2, **CHANGING)
    assert [hashes(data), hashes(data), hashes(data)] == [wanted[5:6], wanted[6:9], wanted[9:12]]
    two = pipeline(dataset, encoder, start=(1, 2), epochs=3, **CHANGING)
    assert [hashes(two), hashes(two, 6)] == [wanted[5:9], wanted[9:15]]
    assert int(data.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    assert len(pipeline(dataset, encoder, start=(1, 0), epochs=3, **CHANGING)) == 6


def test_an_endless_pipeline_never_comes_back_to_an_epoch(dataset, encoder):
    wanted = hashes(pipeline(dataset, encoder, epochs=2, **CHANGING))
    data = pipeline(dataset, encoder, epochs=None, **CHANGING)
    assert int(data.cardinality()) == tf.data.INFINITE_CARDINALITY
    assert hashes(data, 6) == wanted
    later = pipeline(dataset, encoder, epochs=ENDLESS + 1, start=(ENDLESS, 0), **CHANGING)
    assert hashes(data, 3) == hashes(later)
    assert not set(hashes(data, 3)) & set(wanted)


def test_two_iterators_at_once_have_an_epoch_each(dataset, encoder):
    wanted = hashes(pipeline(dataset, encoder, epochs=2, **CHANGING))
    data = pipeline(dataset, encoder, **CHANGING)
    first, second = iter(data), iter(data)
    drawn = [next(iterator)[0].numpy().tobytes() for _ in range(3) for iterator in (first, second)]
    assert (drawn[::2], drawn[1::2]) == (wanted[:3], wanted[3:])


def test_without_chance_every_iteration_is_equal(dataset, encoder):
    data = pipeline(dataset, encoder, batch_size=4)
    assert hashes(data) == hashes(data) == hashes(pipeline(dataset, encoder, batch_size=4))


def model_of(seen):
    """Return a small network that notes the images it is trained with."""
    import keras

    inputs = keras.Input((128, 128, 3))
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))

    class Noting(keras.Model):
        def train_step(self, data):
            seen["traced"] = seen.get("traced", 0) + 1
            tf.numpy_function(
                lambda x: seen.setdefault("images", []).append(x.tobytes()), [data[0]], []
            )
            return super().train_step(data)

    model = Noting(inputs, outputs)
    model.compile(optimizer="sgd", loss="mse")
    return model


def of_states(data):
    return data.map(
        lambda x, y: (tf.cast(x, tf.float32) / 255, tf.cast(y["state"][:, :2], tf.float32))
    )


def test_every_epoch_of_fit_is_another_one(dataset, encoder, recwarn):
    seen = {}
    data = of_states(pipeline(dataset, encoder, **CHANGING))
    held = of_states(pipeline(dataset, encoder, batch_size=4))
    history = model_of(seen).fit(data, epochs=3, validation_data=held, shuffle=False, verbose=0)
    wanted = hashes(of_states(pipeline(dataset, encoder, epochs=3, **CHANGING)))
    assert seen["images"] == wanted
    assert seen["traced"] == 1
    assert len(history.history["val_loss"]) == 3
    said = [str(warning.message) for warning in recwarn]
    assert not [one for one in said if "shuffle" in one or "ran out of data" in one]


def test_it_feeds_a_keras_model(dataset, encoder):
    model = model_of({})
    data = pipeline(dataset, encoder, batch_size=4, images="imagenet", epochs=None)
    data = data.map(lambda x, y: (x, tf.cast(y["state"][:, :2], tf.float32)))
    history = model.fit(data, steps_per_epoch=3, epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_machines_and_epochs_have_orders_of_their_own(dataset, encoder):
    """Of 9 examples each machine has 3: no two epochs or machines deal them alike."""
    from ytrue.datasets.augment import Plain

    nine, orders = dataset.subset([*range(9)] * 8), []
    for machine in range(3):
        maker = BatchMaker(
            nine, encoder, 1, Plain(), True, 7, "letterbox", "raise", (machine, 3), True,
            (0, 0, 0), 1, Report(),
        )  # fmt: skip
        orders += [tuple((maker.order(epoch) - machine) // 3) for epoch in range(4)]
        assert {row % 3 for row in maker.order(0)} == {machine}
    assert len(set(orders)) == 12


POOLS = """
import os, sys, threading, numpy as np
from ytrue.datasets import load
from ytrue.datasets.augment import Plain
from ytrue.datasets.tfdata import BatchMaker, Report
from ytrue.encoders import preset

dataset = load(sys.argv[1])
encoder = preset("ytrue", 64, dataset.num_classes)
def first(k, workers=3):
    maker = BatchMaker(dataset, encoder, 4, Plain(), True, k, "letterbox", "raise", (0, 1), False,
                       (0, 0, 0), workers, Report())
    return maker.arrays(0)[0]
counts = []
for k in range(30):
    first(k)
    counts.append(threading.active_count())
assert counts[-1] <= 1 + 3 + os.cpu_count(), counts  # a pool's threads come as they are needed
here = first(5)
child = os.fork()
if not child:
    equal = np.array_equal(first(5), here) and threading.active_count() <= counts[-1]
    os._exit(0 if equal else 1)
assert os.waitpid(child, 0)[1] == 0
assert "tensorflow" not in sys.modules
"""


def test_pipelines_share_their_threads_also_after_a_fork(dataset):
    done = subprocess.run(
        [sys.executable, "-P", "-c", POOLS, str(dataset.source)], capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_thirty_pipelines_need_no_more_threads_than_one(dataset, encoder):
    counts = []
    for seed in range(30):
        hashes(pipeline(dataset, encoder, batch_size=4, seed=seed, workers=2), 1)
        counts.append(sum(one.name.startswith("ytrue") for one in threading.enumerate()))
    assert counts[-1] - counts[0] <= 2 + os.cpu_count()  # of one pool, started as they are needed


def test_it_is_said_once_that_nothing_is_mirrored(dataset, encoder, caplog):
    unknown = replace(dataset, keypoint_flips=None)
    for augment, said in (("light", 1), ("none", 0), (None, 0), (lambda e, p, r: (p, e), 0)):
        caplog.clear()
        pipeline(unknown, encoder, batch_size=2, augment=augment)
        assert sum("images are not mirrored" in one.message for one in caplog.records) == said
    pipeline(dataset, encoder, batch_size=2, augment="light")
    assert not caplog.records


WRONG = [
    ({"batch_size": 0}, "batch_size=0: expected at least 1"),
    ({"resize": "x"}, "resize='x': expected one of letterbox, stretch"),
    ({"images": "x"}, "images='x': expected one of uint8, imagenet, lite"),
    ({"on_error": "x"}, "on_error='x': expected one of raise, skip"),
    ({"start": (-1, 0)}, r"start=\(-1, 0\): expected \(epoch, step\), both from 0"),
    ({"start": (0, 99)}, r"start=\(0, 99\): an epoch has 6 steps, from 0"),
    ({"start": (2, 0)}, "there is nothing left to draw"),
    ({"workers": 0}, "workers=0: expected at least 1"),
    ({"shard": (3, 3)}, r"shard=\(3, 3\): expected \(index, count\)"),
    ({"batch_size": 12, "shuffle": True}, "batch_size=12 is more than the 11 examples"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_arguments_are_named(dataset, encoder, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(dataset, encoder, **({"batch_size": 2} | options))


def test_an_encoder_for_too_few_classes_is_refused(dataset):
    with pytest.raises(ValueError, match="the encoder knows 2 classes, the dataset has 4"):
        pipeline(dataset, preset("ytrue", 128, 2), batch_size=2)
    with pytest.raises(ValueError, match="the dataset has no images"):
        pipeline(dataset.subset([]), preset("ytrue", 128, 4), batch_size=2)


def test_data_errors_stay_data_errors_without_tensorflow(dataset, encoder, tmp_path):
    from ytrue.datasets.augment import Plain

    maker = BatchMaker(
        broken(dataset, tmp_path, 0), encoder, 2, Plain(), False, 0, "letterbox", "raise", (0, 1), False,
        (0, 0, 0), 1, Report(),
    )  # fmt: skip
    with pytest.raises(DataError, match='on_error="skip" goes on without it'):
        maker.arrays(0)
