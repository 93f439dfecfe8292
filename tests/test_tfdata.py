"""Batches: static shapes, equal for any number of workers, entered anywhere, and never a hang."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from ytrue import DataError
from ytrue.datasets import Report, load, pipeline, write_shapes
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
    from dataclasses import replace

    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 broken")
    paths = list(dataset.images.paths)
    paths[index] = str(bad)
    return replace(dataset, images=replace(dataset.images, paths=paths))


def test_a_broken_image_raises_with_its_name(dataset, encoder, tmp_path):
    with pytest.raises(tf.errors.OpError, match="image 6: .*bad.jpg: not a readable image"):
        batches(broken(dataset, tmp_path, 5), encoder, batch_size=2)


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


def test_it_feeds_a_keras_model(dataset, encoder):
    import keras

    inputs = keras.Input((128, 128, 3))
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="sgd", loss="mse")
    data = pipeline(dataset, encoder, batch_size=4, images="imagenet", epochs=None)
    data = data.map(lambda x, y: (x, tf.cast(y["state"][:, :2], tf.float32)))
    history = model.fit(data, steps_per_epoch=3, epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


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
    from ytrue.datasets.tfdata import BatchMaker

    maker = BatchMaker(
        broken(dataset, tmp_path, 0), encoder, 2, Plain(), False, 0, "letterbox", "raise", (0, 1), False,
        (0, 0, 0), 1, Report(),
    )  # fmt: skip
    with pytest.raises(DataError, match='on_error="skip" goes on without it'):
        maker.arrays(0)
