"""Readers and writers where formats meet: splits, broken files, losses that must be told."""

import json

import numpy as np
import pytest
from datafiles import coco, image, voc

from ytrue import DataError
from ytrue.datasets import convert, load
from ytrue.datasets.voc import read as read_voc
from ytrue.datasets.yolo import read as read_yolo


def labels(folder, split, rows, *, height=40, base="labels", pictures="images"):
    for name, text in rows.items():
        file = folder / base / split / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        image(folder / pictures / split / f"{name}.jpg", height)


FULL = "0 0.5 0.5 1 1\n"


@pytest.mark.parametrize("given", [False, True])
def test_splits_that_number_their_images_alike_keep_their_own(given, tmp_path):
    labels(tmp_path, "train", {"000": FULL, "001": FULL})
    labels(tmp_path, "val", {"000": FULL, "001": FULL}, height=100)
    (tmp_path / "images" / "val" / "001.jpg").unlink()  # train holds more of val's stems than val
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    dataset = load(tmp_path, images=tmp_path / "images" if given else None)
    assert [(e.image_id, e.path.parent.name, e.height) for e in dataset][:3] == [
        ("train/000", "train", 40), ("train/001", "train", 40), ("val/000", "val", 100),
    ]  # fmt: skip
    np.testing.assert_array_equal(dataset[2].annotations.boxes, [[0, 0, 100, 60]])
    assert {p.kind for p in dataset.problems} == {"image-missing", "image-size-unknown"}
    only = read_yolo(tmp_path, split="val")
    assert only[0].height == 100


def test_unlabelled_images_are_listed_for_any_source(tmp_path):
    folder = tmp_path / "project.v1"
    labels(folder, "", {"a": FULL})
    image(folder / "images" / "b.jpg")
    (folder / "data.yaml").write_text("names: [cat]\n")
    (folder / "args.yaml").write_text("task: detect\nnames_file: [wrong]\n")
    for source in (folder, folder / "data.yaml"):
        dataset = load(source)
        assert dataset.classes == ("cat",)
        assert [p.kind for p in dataset.problems] == ["image-unlabelled"]


BAD_YAML = [
    ("kpt_shape: 17", r"kpt_shape is 17; expected \[keypoints, 2 or 3\]"),
    ("kpt_shape: []", r"kpt_shape is \[\]"),
    ("kpt_shape: [a, 3]", r"kpt_shape is \[a, 3\]"),
    ("kpt_shape: [2, 3]\nflip_idx: [1, 9]", r"flip_idx is \[1, 9\]; expected 2 indices"),
    ("kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]", "each pointing back"),
]


@pytest.mark.parametrize(("text", "message"), BAD_YAML)
def test_a_bad_skeleton_is_refused_by_name(text, message, tmp_path):
    labels(tmp_path, "", {"a": FULL})
    (tmp_path / "data.yaml").write_text(f"names: [cat]\n{text}\n")
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert "data.yaml" in str(caught.value)


def test_voc_bad_sizes_options_and_hidden_document_types(tmp_path):
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>inf</width><height>4</height></size></annotation>"
    )
    voc(tmp_path / "b.xml", [("cat", (1, 1, 60, 40), 0)])
    image(tmp_path / "b.jpg")
    dataset = load(tmp_path)
    assert "<size> is inf x 4, expected numbers" in dataset.problems[0].detail
    with pytest.raises(ValueError, match="difficult='drop', expected 'keep' or 'ignore'"):
        read_voc(tmp_path, difficult="drop")
    bomb = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotation/>'
    (tmp_path / "a.xml").write_bytes(bomb.encode("utf-16-le"))
    with pytest.raises(DataError, match="document type is refused"):
        read_voc(tmp_path / "a.xml")


def labelme(folder, shapes, *, picture=True, **fields):
    top = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 60} | fields
    (folder / "a.json").write_text(json.dumps(top))
    if picture:
        image(folder / "a.jpg")
    return folder


def shape(kind, points, label="cat", group=None):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group}


BOX = [[1, 1], [9, 9]]


def test_labelme_groups_of_several_labels_are_several_objects(tmp_path):
    shapes = [
        shape("point", [[3, 2]], "eye", 1),
        shape("rectangle", BOX, "cat", 1),
        shape("rectangle", [[11, 1], [19, 9]], "dog", 1),
        shape("point", [[4, 2]], "eye", 1),
    ]
    dataset = load(labelme(tmp_path, shapes))
    assert [dataset.classes[k] for k in dataset[0].annotations.labels] == ["cat", "dog"]
    np.testing.assert_array_equal(dataset[0].annotations.keypoints[0], [[2, 3, 2]])
    assert [p.detail for p in dataset.problems] == [
        "shape 3, a point 'eye': group 1 has two of that name"
    ]


def test_labelme_shapes_of_a_wrong_kind_are_listed(tmp_path):
    shapes = ["x", shape("rectangle", BOX, "cat", [1]), shape("rectangle", BOX)]
    dataset = load(labelme(tmp_path, shapes))
    assert dataset.num_objects == 1
    assert [p.detail for p in dataset.problems] == [
        "shape 0, a str: not a JSON object", "shape 1, a rectangle: group_id is [1]",
    ]  # fmt: skip


def test_a_broken_embedded_image_does_not_stop_the_others(tmp_path):
    folder = tmp_path / "far" / "from" / "others"
    folder.mkdir(parents=True)
    fields = {"picture": False, "imageData": "@@", "imageHeight": None}
    dataset = load(labelme(folder, [shape("rectangle", BOX)], **fields))
    assert {"image-embedded", "image-unreadable"} <= {p.kind for p in dataset.problems}


def said(problems):
    return sorted({p.detail for p in problems})


def test_every_writer_tells_what_it_loses(tmp_path):
    outline = [[20, 10, 30, 10, 30, 20]]
    made = {"bbox": [5, 5, 40, 30], "segmentation": outline, "mine": 1, "area": "absent"}
    dataset = load(coco(tmp_path / "in", [made]))
    expected = {
        "yolo": [
            "YOLO holds no box apart from the outline",
            "YOLO holds no extra fields",
            "YOLO holds no ids of classes: 3, 7 are numbered from 0",
        ],
        "labelme": [
            "LabelMe holds no box apart from the outline",
            "LabelMe holds no classes without objects: 1 ('cat'); labels are renumbered",
            "LabelMe holds no extra fields",
        ],
        "voc": [
            "VOC holds no classes without objects: 1 ('cat'); labels are renumbered",
            "VOC holds no extra fields",
            "VOC holds no outline",
        ],
        "coco": [],
    }
    for to, details in expected.items():
        assert said(convert(dataset, to, tmp_path / to)) == details


def test_labelme_tells_of_hidden_keypoints(tmp_path):
    labels(tmp_path, "", {"a": "0 0.5 0.5 1 1 0.5 0.25 1 0.2 0.2 2\n"})
    (tmp_path / "data.yaml").write_text("names: [cat]\nkpt_shape: [2, 3]\n")
    lost = convert(load(tmp_path), "labelme", tmp_path / "out")
    assert said(lost) == ["LabelMe holds no hidden keypoints: they are written as visible"]


def test_voc_written_is_voc_read(tmp_path):
    source = coco(tmp_path / "in", [{"bbox": [-1, 5, 65, 20]}, {"bbox": [10, 10, 20, 20]}])
    dataset = load(source)
    convert(dataset, "voc", tmp_path / "out", copy_images=True)
    again = load(tmp_path / "out")
    assert "from 1" in again.header["notes"][0]
    boxes = dataset[0].annotations.boxes
    np.testing.assert_allclose(again[0].annotations.boxes, boxes, atol=0.002)
    thin = load(coco(tmp_path / "thin", [{"bbox": [10, 10, 1, 20]}]))
    assert said(convert(thin, "voc", tmp_path / "thin_voc"))[0].startswith(
        "VOC holds no box of one pixel"
    )


def test_converting_never_overwrites_its_own_source(tmp_path):
    labels(tmp_path, "", {"a": "5 0.5 0.5 0.5 0.5\n"})
    (tmp_path / "data.yaml").write_text("names: {2: a, 5: b}\nmine: 1\n")
    dataset = load(tmp_path)
    with pytest.raises(DataError, match="the yolo dataset that is being converted lies in it"):
        convert(dataset, "yolo", tmp_path)
    assert "mine: 1" in (tmp_path / "data.yaml").read_text()
    with pytest.raises(DataError, match="there is something already"):
        convert(dataset, "labelme", tmp_path, copy_images=True)
    pixels = (tmp_path / "images" / "a.jpg").read_bytes()
    unused = "holds no classes without objects: 1 ('a'); labels are renumbered"
    for to, name in (("labelme", "LabelMe"), ("voc", "VOC")):
        lost = convert(dataset, to, tmp_path, copy_images=True, force=True)
        assert said(lost) == [f"{name} {unused}"]
    assert (tmp_path / "images" / "a.jpg").read_bytes() == pixels


def test_readers_by_format_take_a_path_as_text(tmp_path):
    labels(tmp_path / "yolo", "", {"a": "5 0.5 0.5 0.5 0.5\n"})
    dataset = read_yolo(str(tmp_path / "yolo"))
    convert(dataset, "voc", tmp_path / "voc", copy_images=True)
    again = read_voc(str(tmp_path / "voc"), one_based=False)
    assert len(again) == len(dataset) == 1
