"""Prediction around the network: images in, detections back in the image's own pixels."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from datafiles import coco, image

from ytrue import Annotations
from ytrue.datasets import load, write_shapes
from ytrue.datasets.pixels import read_image
from ytrue.encoders import preset
from ytrue.errors import DataError
from ytrue.model import Detector, EfficientDet
from ytrue.model.evaluate import evaluate
from ytrue.model.evaluating.filenames import give_ids
from ytrue.model.predict import (
    Timing,
    image_files,
    images_of,
    predict,
    predict_images,
    results,
    with_class_ids,
    with_ids,
)
from ytrue.resizing import place


@dataclass
class Oracle:
    """Finds what is annotated: looks the image up by the order in which it is asked."""

    dataset: object
    encoder: object
    resize: str = "letterbox"
    seen: list = field(default_factory=list)

    @property
    def classes(self):
        return self.dataset.classes

    @property
    def class_ids(self):
        return self.dataset.class_ids

    def find(self, images, **options):
        assert images.shape[1:] == (*self.encoder.image_size, 3)
        assert images.dtype == np.uint8
        found = []
        for _ in images:
            example = self.dataset[len(self.seen)]
            self.seen.append(example.image_id)
            placement = place((example.height, example.width), self.encoder.image_size, self.resize)
            objects = example.annotations.select(np.flatnonzero(~example.annotations.crowd))
            found.append(
                Annotations(
                    boxes=placement.apply(objects).boxes,
                    labels=objects.labels,
                    scores=np.linspace(0.9, 0.5, len(objects)),
                )
            )
        return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(
        write_shapes(tmp_path_factory.mktemp("zz-oracle"), num_images=7, image_size=(90, 150))
    )


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_an_oracle_finds_is_what_is_annotated(dataset, resize, batch_size):
    oracle = Oracle(dataset, preset("ytrue", (64, 96), 4), resize)
    timing = Timing()
    done = []
    found = list(
        predict(
            oracle,
            images_of(dataset),
            batch_size=batch_size,
            timing=timing,
            progress=lambda *now: done.append(now),
        )
    )
    assert [one.image_id for one in found] == [1, 2, 3, 4, 5, 6, 7]
    for index, one in enumerate(found):
        example = dataset[index]
        assert one.size == (example.height, example.width)
        objects = example.annotations.boxes[~example.annotations.crowd]
        np.testing.assert_allclose(one.detections.boxes, objects, atol=1e-3)
    assert evaluate(dataset, results(found, dataset.class_ids)).ap == pytest.approx(1, abs=1e-6)
    assert done[-1] == (7, 7)
    assert timing.images == 7
    assert f"7 images in {timing.seconds:.1f} s" in timing.words()


def test_results_have_the_files_ids(tmp_path):
    file = coco(tmp_path, [{"bbox": [10, 5, 20, 30]}])
    data = load(file)
    oracle = Oracle(data, preset("ytrue", 64, 2))
    (record,) = results(predict(oracle, images_of(data)), data.class_ids)
    assert record["image_id"] == 1
    assert record["category_id"] == 3
    assert record["bbox"] == pytest.approx([10, 5, 20, 30], abs=2e-3)
    assert json.loads(json.dumps(record)) == record


def test_files_take_the_ids_of_the_images_that_they_are(tmp_path):
    """By the end of their path, otherwise by a name that only one image has."""
    data = {
        "images": [
            {"id": 7, "file_name": "a/0.jpg", "width": 60, "height": 40},
            {"id": 8, "file_name": "b/0.jpg", "width": 60, "height": 40},
            {"id": 9, "file_name": "a/1.jpg", "width": 60, "height": 40},
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "data.json").write_text(json.dumps(data))
    for name in ("a/0.jpg", "b/0.jpg", "a/1.jpg", "c/0.jpg", "c/1.jpg"):
        image(tmp_path / name)
    dataset = load(tmp_path / "data.json")

    def ids(*names):
        files = image_files(tmp_path / name for name in names)
        return [(one.image_id, one.path) for one in with_ids(files, dataset)]

    assert ids("b/0.jpg", "c/1.jpg") == [(8, tmp_path / "b/0.jpg"), (9, tmp_path / "c/1.jpg")]
    assert [one[0] for one in ids("a")] == [7, 9]
    with pytest.raises(DataError, match=r"c/0.jpg: 2 images of .* have its name: a/0.jpg, b/0.jpg"):
        ids("c/0.jpg")
    sources = image_files([tmp_path / "a"]) + image_files([tmp_path / "c" / "1.jpg"])
    with pytest.raises(DataError, match=r"it and .*a/1.jpg are both image 9"):
        with_ids(sources, dataset)


def test_results_for_another_dataset_carry_its_ids_of_the_classes(tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": [10, 5, 20, 30]}]))
    names = [f"class {k}" for k in range(2)]
    model = EfficientDet("nano", num_classes=2)
    detector = Detector(model, preset("ytrue", 64, 2), tuple(names), (1, 2))
    with pytest.raises(DataError, match="no class class 0, class 1 in it"):
        with_class_ids(detector, dataset)
    assert with_class_ids(detector, replace(dataset, classes=(), class_ids=())) is detector
    detector = replace(detector, classes=dataset.classes[::-1])
    assert with_class_ids(detector, dataset).class_ids == dataset.class_ids[::-1]
    with pytest.raises(
        ValueError, match=r"images \(1, 32, 64, 3\) uint8: expected \(B, 64, 64, 3\)"
    ):
        detector.find(np.zeros((1, 32, 64, 3), np.uint8))


def test_a_damaged_run_is_one_message(tmp_path):
    detector = Detector(
        EfficientDet("nano", num_classes=2), preset("ytrue", 64, 2), ("a", "b"), (1, 2)
    )
    detector.save(tmp_path)
    weights, described = tmp_path / "best.weights.h5", tmp_path / "run.json"
    whole, said = weights.read_bytes(), json.loads(described.read_text())
    with pytest.raises(ValueError, match="weights='foo': expected one of best, last"):
        Detector.load(tmp_path, "foo")
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"best.weights.h5: not the weights of this network"):
        Detector.load(tmp_path)
    Detector(
        EfficientDet("nano", num_classes=3), preset("ytrue", 64, 3), tuple("abc"), (1, 2, 3)
    ).save(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "best.weights.h5").read_bytes())
    with pytest.raises(DataError, match=r"best.weights.h5: not the weights of this network"):
        Detector.load(tmp_path)
    weights.write_bytes(whole)
    for broken, words in (
        ([], "not the description of a run: it has no encoder, digest"),
        ({**said, "network": "X"}, "its values describe no detector"),
        ({**said, "classes": ["a"]}, "its values describe no detector: numbers of classes differ"),
    ):
        described.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=f"run.json: {words}"):
            Detector.load(tmp_path)


def test_boxes_are_cut_to_the_image_and_those_in_the_padding_left_out(tmp_path):
    file = coco(tmp_path, [{"bbox": [0, 0, 60, 40]}])
    data = load(file)

    class Wild(Oracle):
        def find(self, images, **options):
            boxes = [[-5, -9, 30, 40], [50, 0, 60, 20], [10, 50, 20, 90]]
            return [Annotations(boxes=boxes, labels=[0, 1, 1], scores=[0.9, 0.8, 0.7])]

    (found,) = predict(Wild(data, preset("ytrue", 64, 2)), images_of(data))
    # The image fills 43 of 64 rows: the second box lies below it, in the padding.
    scale = place((40, 60), (64, 64), "letterbox")
    wanted = [[0, 0, 30 / scale.scale_y, 40 / scale.scale_x],
              [10 / scale.scale_y, 50 / scale.scale_x, 20 / scale.scale_y, 60]]  # fmt: skip
    assert len(found.detections) == 2
    np.testing.assert_allclose(found.detections.boxes, wanted, atol=1e-3)
    np.testing.assert_allclose(found.detections.scores, [0.9, 0.7])


def test_files_and_folders_are_named_by_their_place(tmp_path):
    image(tmp_path / "a" / "one.jpg")
    image(tmp_path / "a" / "deep" / "two.png")
    image(tmp_path / "three.jpg")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = image_files([tmp_path / "a", tmp_path / "three.jpg"])
    assert [one.image_id for one in found] == ["deep/two.png", "one.jpg", "three.jpg"]
    with pytest.raises(DataError, match=r"nothing: no such file or folder"):
        image_files([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no images in this folder"):
        image_files([tmp_path / "empty"])
    image(tmp_path / "b" / "one.jpg")
    with pytest.raises(DataError, match=r"two images are named one.jpg: the other is .*a/one.jpg"):
        image_files([tmp_path / "a", tmp_path / "b"])


def test_an_image_that_cannot_be_read_is_named(dataset, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    oracle = Oracle(dataset, preset("ytrue", 64, 4))
    with pytest.raises(DataError, match=r"broken.jpg"):
        list(predict(oracle, image_files([tmp_path / "broken.jpg"])))
    skipped = {}
    sources = [*image_files([tmp_path / "broken.jpg"]), *images_of(dataset)]
    found = list(predict(oracle, sources, batch_size=2, skipped=skipped))
    assert [one.image_id for one in found] == list(dataset.images.ids)
    assert skipped.keys() == {"broken.jpg"}
    assert "broken.jpg" in skipped["broken.jpg"]
    with pytest.raises(ValueError, match="batch_size=0: expected at least 1"):
        list(predict(oracle, [], batch_size=0))


def test_a_folded_detector_has_a_graph_of_its_own_for_single_images():
    names = ("a", "b")
    plain = Detector(EfficientDet("nano", 2), preset("ytrue", (64, 96), 2), names, (1, 2))
    detector = plain.folded()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), np.uint8)
    (alone,) = detector.find(pixels[:1], score_threshold=0.0)
    both = detector.find(pixels, score_threshold=0.0)
    np.testing.assert_allclose(both[0].boxes, alone.boxes, atol=1e-3)
    assert list(detector._graphs) == [1, None]
    # What takes any number serves the last batch as well.
    for one, taken in ((plain, [None]), (plain.folded(), [None])):
        one.find(pixels)
        one.find(pixels[:1])
        assert list(one._graphs) == taken


def test_of_no_images_nothing_is_found():
    detector = Detector(EfficientDet("nano", 2), preset("ytrue", (64, 96), 2), ("a", "b"), (1, 2))
    for none in (np.zeros((0, 64, 96, 3), np.uint8), []):
        assert detector.find(none) == []
        assert detector.folded().find(none) == []
    assert detector.predict([]) == []
    assert list(predict(detector, [])) == []
    with pytest.raises(
        ValueError, match=r"images \(0, 64, 64, 3\) uint8: expected \(B, 64, 96, 3\)"
    ):
        detector.find(np.zeros((0, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_images_of_any_size_are_predicted_in_their_own_pixels(dataset, batch_size):
    oracle = Oracle(dataset, preset("ytrue", (64, 96), 4))
    paths = [dataset[row].path for row in range(3)]
    images = [str(paths[0]), read_image(paths[1]), paths[2]]
    found = predict_images(oracle, images, batch_size=batch_size)
    assert len(found) == 3
    for row, one in enumerate(found):
        objects = dataset[row].annotations
        wanted = objects.boxes[~objects.crowd]
        np.testing.assert_allclose(one.boxes, wanted, atol=0.01)
    oracle.seen.clear()
    (alone,) = predict_images(oracle, paths[0])
    np.testing.assert_array_equal(alone.boxes, found[0].boxes)


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)),
     np.zeros((0, 8, 3), np.uint8), None],
)  # fmt: skip
def test_an_array_that_is_no_image_is_named(dataset, array):
    oracle = Oracle(dataset, preset("ytrue", (64, 96), 4))
    with pytest.raises(
        ValueError, match=r"image 1: .*expected a path, or an array \(height, width, 3"
    ):
        predict_images(oracle, [np.zeros((8, 9, 3), np.uint8), array])
    with pytest.raises(DataError, match="nowhere.jpg: .*cannot be read"):
        predict_images(oracle, ["nowhere.jpg"])


# Results that name images by file.


def named(tmp_path, *names):
    images = [
        {"id": 10 + k, "file_name": name, "height": 40, "width": 60} for k, name in enumerate(names)
    ]
    for name in names:
        image(tmp_path / name)
    return load(coco(tmp_path, [{"image_id": 10}], images=images, write_images=False))


@pytest.mark.parametrize(
    ("name", "image_id"),
    [("a.jpg", 10), ("photos/a.jpg", 10), ("sub/b.jpg", 11), ("x/sub/b.jpg", 11), ("b.jpg", 11)],
)
def test_a_file_name_is_the_image_whose_path_ends_so(tmp_path, name, image_id):
    dataset = named(tmp_path, "a.jpg", "sub/b.jpg", "c/d.jpg", "e/d.jpg")
    records = [{"image_id": name}, {"image_id": 12}, {"image_id": name}, "no record"]
    assert give_ids(records, dataset, "found.json") == 1
    assert records == [
        {"image_id": image_id},
        {"image_id": 12},
        {"image_id": image_id},
        "no record",
    ]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("z.jpg", "no image"),
        ("d.jpg", "2 images"),
        ("other/b.jpg", "no image"),
        ("xa.jpg", "no image"),
    ],
)
def test_a_file_name_of_no_image_or_of_several_says_what_to_do(tmp_path, name, count):
    dataset = named(tmp_path, "a.jpg", "sub/b.jpg", "c/d.jpg", "e/d.jpg")
    with pytest.raises(DataError, match=f"found.json: {name} is the name of {count}.*with --ids"):
        give_ids([{"image_id": name}], dataset, "found.json")


def test_ids_that_look_like_files_or_no_names_stay(tmp_path):
    dataset = named(tmp_path, "a.jpg")
    dataset = replace(dataset, images=replace(dataset.images, ids=["b.jpg"]))
    records = [{"image_id": "b.jpg"}, {"image_id": "unknown"}, {"image_id": None}]
    assert give_ids(records, dataset, "found.json") == 0
    assert [record["image_id"] for record in records] == ["b.jpg", "unknown", None]
