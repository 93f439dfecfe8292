"""VOC, YOLO, LabelMe and shapes: conventions, oddities, real files, and conversions between them."""

import json

import numpy as np
import pytest
from datafiles import image, voc

from ytrue import DataError
from ytrue.datasets import convert, load, write_shapes
from ytrue.datasets.pairing import Pairing
from ytrue.datasets.voc import read as read_voc


def kinds(dataset):
    return sorted((problem.kind, problem.action) for problem in dataset.problems)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, num_images=8, image_size=(120, 160), bad=True)
    return folder


# VOC.


def test_voc_corners_count_from_one_unless_a_zero_says_otherwise(tmp_path):
    voc(tmp_path / "a.xml", [("cat", (1, 1, 60, 40), 0)])
    image(tmp_path / "a.jpg")
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[0, 0, 40, 60]])
    assert dataset.header["notes"] == [
        "pixel corners count from 1, the last pixel included: no coordinate is 0, 1 boxes end exactly "
        "at the image's edge"
    ]
    voc(tmp_path / "b.xml", [("cat", (0, 5, 9, 9), 0)])
    image(tmp_path / "b.jpg")
    both = load(tmp_path)
    np.testing.assert_array_equal(both[0].annotations.boxes, [[1, 1, 40, 60]])
    assert "from 0: 1 boxes have a coordinate of 0" in both.header["notes"][0]
    np.testing.assert_array_equal(
        read_voc(tmp_path, one_based=True)[0].annotations.boxes, [[0, 0, 40, 60]]
    )


def test_voc_difficult_objects_are_kept_or_made_ignore(tmp_path):
    voc(tmp_path / "a.xml", [("dog", (1, 1, 6, 4), 1), ("cat", (2, 2, 9, 9), 0)])
    image(tmp_path / "a.jpg")
    dataset = read_voc(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert not dataset[0].annotations.crowd.any()
    assert dataset.objects.extra == {0: {"difficult": 1}}
    np.testing.assert_array_equal(
        read_voc(tmp_path, difficult="ignore")[0].annotations.crowd, [True, False]
    )


BAD_XML = [
    (b"<annotation><object>", "not valid XML"),
    (b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "XML with a document type is refused"),
    (b"<other/><!-- <annotation -->", "the top is <other>, expected <annotation>"),
]


@pytest.mark.parametrize(("data", "message"), BAD_XML)
def test_a_bad_xml_file_is_named_and_the_others_are_read(data, message, tmp_path):
    (tmp_path / "bad.xml").write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_voc(tmp_path / "bad.xml")
    assert "bad.xml" in str(caught.value)
    voc(tmp_path / "a.xml", [("cat", (1, 1, 60, 40), 0)])
    image(tmp_path / "a.jpg")
    dataset = load(tmp_path)
    assert kinds(dataset) == [("annotation-invalid", "dropped")]
    assert message in dataset.problems[0].detail
    assert dataset.num_objects == 1


# YOLO.


def yolo(folder, rows, *, names="names: [cat, dog]\n", split=""):
    (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
    for name, text in rows.items():
        (folder / "labels" / split / f"{name}.txt").write_text(text)
        image(folder / "images" / split / f"{name}.jpg")
    if names is not None:
        (folder / "data.yaml").write_text(names + "train: images\n")
    return folder


def test_yolo_boxes_segments_and_empty_files(tmp_path):
    yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.5\r\n\r\n0 0 0 1 0 1 1\n", "b": ""})
    image(tmp_path / "images" / "c.jpg")
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[10, 15, 30, 45], [0, 0, 40, 60]])
    np.testing.assert_array_equal(
        dataset[0].annotations.polygons[1][0], [[0, 0], [0, 60], [40, 60]]
    )
    np.testing.assert_array_equal(dataset[0].annotations.labels, [1, 0])
    assert [len(example.annotations) for example in dataset] == [2, 0, 0]
    assert kinds(dataset) == [("image-unlabelled", "kept")]


def test_yolo_poses_follow_kpt_shape(tmp_path):
    names = "names: {0: person}\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
    dataset = load(yolo(tmp_path, {"a": "0 0.5 0.5 1 1 0.5 0.25 2 0 0 0\n"}, names=names))
    np.testing.assert_array_equal(dataset[0].annotations.keypoints, [[[10, 30, 2], [0, 0, 0]]])
    assert dataset.keypoint_flips == ((0, 1),)


YOLO_ROWS = [
    ("5 0.5 0.5 0.5 0.5", ("unknown-category", "dropped")),
    ("0 0.5 0.5 nan 0.5", ("box-not-finite", "dropped")),
    ("0 0.5 0.5 0.5", ("annotation-invalid", "dropped")),
    ("cat 0.5 0.5 0.5 0.5", ("annotation-invalid", "dropped")),
    ("0 0.5 0.5 0.5 0.5 0.5", ("annotation-invalid", "dropped")),
    ("0 30 20 10 10", ("coordinates-look-like-pixels", "kept")),
]


@pytest.mark.parametrize(("row", "problem"), YOLO_ROWS)
def test_yolo_oddities(row, problem, tmp_path):
    dataset = load(yolo(tmp_path, {"a": row + "\n"}), format="yolo")
    assert problem in kinds(dataset)


def test_yolo_without_names_counts_classes(tmp_path):
    dataset = load(yolo(tmp_path, {"a": "7 0.5 0.5 0.5 0.5\n"}, names=None))
    assert (dataset.classes, dataset.class_ids) == (("class 7",), (7,))
    assert kinds(dataset) == [("class-unnamed", "kept")]


# LabelMe.


def labelme(folder, shapes, *, name="a", **fields):
    content = {
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageHeight": 40,
        "imageWidth": 60,
    } | fields
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content))
    image(folder / f"{name}.jpg")
    return folder


def shape(kind, points, label="cat", group=None):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group}


def test_labelme_shapes_become_objects(tmp_path):
    shapes = [
        shape("rectangle", [[30, 20], [10, 5]]),
        shape("circle", [[30, 20], [40, 20]], "dog"),
        shape("polygon", [[1, 1], [5, 1], [5, 9]], group=4),
        shape("polygon", [[20, 1], [25, 1], [25, 9]], group=4),
        shape("point", [[3, 2]], "nose", group=4),
        shape("point", [[3, 2]], "nose"),
        shape("line", [[3, 2], [9, 9]]),
    ]
    dataset = load(labelme(tmp_path, shapes))
    objects = dataset[0].annotations
    np.testing.assert_allclose(
        objects.boxes, [[5, 10, 20, 30], [10, 20, 30, 40], [1, 1, 9, 25]], atol=1e-4
    )
    assert [len(outline) for outline in objects.polygons] == [0, 1, 2]
    np.testing.assert_array_equal(objects.keypoints[2], [[2, 3, 2]])
    assert kinds(dataset) == [("shape-unsupported", "dropped")] * 2


def test_labelme_images_of_another_name_are_found_and_said(tmp_path):
    labelme(tmp_path, [shape("polygon", [[1, 1], [5, 1], [5, 9]])], imagePath="a.png")
    dataset = load(tmp_path)
    assert kinds(dataset) == [("image-renamed", "kept")]
    assert dataset[0].path.name == "a.jpg"


# Real files, and there and back.

REAL = [
    # folder, format, images, objects, problems
    ("bccd_train", "voc", 120, 1698, [("box-empty", "dropped"), ("split-missing", "dropped")]),
    ("fridge_voc", "voc", 6, 12, []),
    ("voc100_multi_a/voc", "voc", 50, 135, [("images-guessed", "kept")]),
    ("voc100_multi_a/yolo", "yolo", 50, 135, [("images-guessed", "kept")]),
    ("voc100_multi_a/labelme_embedded", "labelme", 10, 23, []),
    ("mmdet_samples/VOCdevkit", "voc", 2, 3, [("image-renamed", "kept")]),
    (
        "coco128_ccby_train/detect",
        "yolo",
        26,
        181,
        [("image-unlabelled", "kept"), ("images-guessed", "kept")],
    ),
    ("coco128_ccby_train/segment", "yolo", 26, 181, [("images-guessed", "kept")]),
    ("okra_yolo_train", "yolo", 32, 203, [("class-unnamed", "kept")]),
    ("fruits_labelme_a/labelme", "labelme", 9, 84, []),
    ("sahi_terrain/terrain1.json", "labelme", 1, 7, [("image-renamed", "kept")]),
    ("deepforest_a/OSBS_029.xml", "voc", 1, 61, []),  # the .tif that it names is there, too
]


@pytest.mark.parametrize(("name", "format", "images", "objects", "problems"), REAL)
def test_real_datasets_read_as_they_are(name, format, images, objects, problems, shared_data):
    dataset = load(shared_data / name)
    assert (dataset.format, len(dataset), dataset.num_objects) == (format, images, objects)
    assert kinds(dataset) == problems
    for example in dataset:
        assert example.path.is_file()


def test_real_wider_annotations_show_their_faults(shared_data):
    found = kinds(load(shared_data / "malformed_wider_val"))
    assert found.count(("box-empty", "dropped")) == 10
    assert found.count(("box-inverted", "dropped")) == 1
    assert found.count(("duplicate-object", "kept")) == 1


def test_the_same_boxes_in_three_formats_agree(shared_data):
    folder = shared_data / "voc100_multi_a"
    from_coco, from_yolo = load(folder / "coco" / "instances_default.json"), load(folder / "yolo")
    from_voc = read_voc(
        folder / "voc", one_based=False
    )  # the set's other formats left corners unshifted
    for example in from_coco:
        stem = example.path.stem
        yolo_boxes = from_yolo[from_yolo.index_of(stem)].annotations.boxes
        voc_boxes = from_voc[from_voc.index_of(stem)].annotations.boxes
        order = np.lexsort(example.annotations.boxes.T)
        expected = example.annotations.boxes[order]
        np.testing.assert_allclose(voc_boxes[np.lexsort(voc_boxes.T)], expected, atol=1e-3)
        np.testing.assert_allclose(
            yolo_boxes[np.lexsort(yolo_boxes.round(1).T)], expected, atol=0.01
        )


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "labelme"])
def test_shapes_come_back_from_every_format(to, shapes, tmp_path):
    dataset = load(shapes)
    lost = convert(dataset, to, tmp_path / "out", copy_images=True)
    again = load(tmp_path / "out", format=to)
    # A YOLO image without its file has no size: it is listed, and not in the dataset.
    absent = {e.path.stem for e in dataset if not e.path.is_file()} if to == "yolo" else set()
    assert len(again) == len(dataset) - len(absent)
    unsized = {p.image_id for p in again.problems if p.kind == "image-size-unknown"}
    assert unsized == absent
    said = {problem.detail for problem in lost if problem.kind == "field-lost"}
    assert (
        said
        <= {
            "coco": set(),
            "voc": {"VOC holds no outline", "VOC holds no keypoints", "VOC holds no crowd flag"},
            "yolo": {
                "YOLO holds no outline beside boxes",
                "YOLO holds no crowd flag",
                "YOLO holds no ids of classes: 1, 2, 5, 9 are numbered from 0",
            },
            "labelme": {
                "LabelMe holds no crowd flag",
                "LabelMe holds no hidden keypoints: they are written as visible",
            },
        }[to]
    )
    assert {problem.kind for problem in lost} <= {"field-lost", "image-missing", "image-renamed"}
    by_stem = {example.path.stem: example for example in again}
    for example in dataset:
        if example.path.stem in absent:
            continue
        back = by_stem[example.path.stem].annotations
        outside = (
            example.annotations.boxes[:, 3] > example.width
        )  # normalised numbers do not leave the image
        if to == "yolo" and outside.any():
            continue
        np.testing.assert_allclose(back.boxes, example.annotations.boxes, atol=0.02)
        names = [dataset.classes[label] for label in example.annotations.labels]
        assert [again.classes[label] for label in back.labels] == names
        if to in ("coco", "yolo", "labelme"):
            labelled = example.annotations.keypoints[..., 2] > 0
            ours = example.annotations.keypoints[labelled][:, :2]
            np.testing.assert_allclose(
                back.keypoints[back.keypoints[..., 2] > 0][:, :2].sum(), ours.sum(), rtol=1e-4
            )


def test_converting_refuses_to_overwrite(tmp_path, shapes):
    dataset = load(shapes)
    with pytest.raises(DataError, match="format 'x' cannot be written; expected one of coco, voc"):
        convert(dataset, "x", tmp_path)
    twice = dataset.subset([0, 0])
    with pytest.raises(DataError, match="would both be written as 'shapes_00000'"):
        convert(twice, "voc", tmp_path)


def test_shapes_are_the_same_for_a_seed_and_hold_their_faults(tmp_path, shapes):
    file = write_shapes(tmp_path, num_images=8, image_size=(120, 160), bad=True)
    assert file.read_bytes() == (shapes / "shapes.json").read_bytes()
    for path in (shapes / "images").iterdir():
        assert (tmp_path / "images" / path.name).read_bytes() == path.read_bytes()
    dataset = load(shapes)
    assert dataset.format == "coco"
    assert {kind for kind, _ in kinds(dataset)} == {
        "box-empty", "box-inverted", "box-outside", "box-overhang", "box-overhang-large",
        "duplicate-annotation-id", "duplicate-object", "image-missing", "path-escapes",
        "polygon-invalid", "unknown-category", "unknown-image",
    }  # fmt: skip
    assert load(shapes, format="shapes").num_objects == dataset.num_objects
    assert dataset.keypoint_flips == ((0, 2),)
    crowds = [e.annotations for e in dataset if e.annotations.crowd.any()]
    assert crowds
    assert all(objects.masks[int(np.argmax(objects.crowd))].area > 0 for objects in crowds)
    with pytest.raises(DataError, match=r"no shapes.json in it; make one with ytrue demo"):
        load(tmp_path / "images", format="shapes")


def test_pairing_prefers_the_folder_that_holds_the_images(tmp_path):
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg")
    image(tmp_path / "other" / "a.jpg")
    files = [tmp_path / "labels" / "train" / f"{name}.txt" for name in ("a", "b")]
    files[0].parent.mkdir(parents=True)
    pairing = Pairing(files, None)
    assert pairing.root == tmp_path / "images"
    assert pairing.find(files[0]) == ("a.jpg", False)
    assert pairing.unclaimed(["a.jpg"]) == ["b.jpg"]


def test_images_of_a_neighbouring_project_are_not_taken(tmp_path):
    """Stems such as 1 are everywhere, and YOLO has no size that would tell."""
    yolo(tmp_path / "ours", {"1": "0 0.5 0.5 0.5 0.5\n"})
    (tmp_path / "ours" / "images" / "1.jpg").unlink()
    image(tmp_path / "theirs" / "1.jpg")
    image(tmp_path / "ours" / "images" / "2.jpg")
    assert ("images-missing", "kept") in kinds(load(tmp_path / "ours")) or (
        "image-missing",
        "dropped",
    ) in kinds(load(tmp_path / "ours"))
