"""VOC datasets as people have them: claims on images, splits, conventions, and files that are broken."""

import os
from collections import Counter

import numpy as np
import pytest
from datafiles import coco, image, voc

from ytrue import DataError
from ytrue.datasets import convert, load
from ytrue.datasets.pairing import Pairing, image_ids
from ytrue.datasets.voc import read, recognises

BOX = (11, 13, 40, 32)


def put(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def pair(folder, stem, name=None, boxes=(BOX,), *, xml="", pictures="", size=(40, 60)):
    voc(folder / xml / f"{stem}.xml", [("cat", box, 0) for box in boxes], name=name, size=size)
    image(folder / pictures / f"{stem}.jpg", *size)


def kinds(dataset):
    return sorted(problem.kind for problem in dataset.problems)


def pairs(dataset):
    return {e.image_id: e.path.name for e in dataset}


def by_split(dataset):
    return {split: sorted(e.path.stem for e in dataset.split(split)) for split in dataset.splits}


# Claims on images.


def test_a_stale_name_gives_way_to_the_image_of_the_own_stem(tmp_path):
    for stem, name in (("a", "a.jpg"), ("b", "a.jpg"), ("c", "b.jpg")):
        pair(tmp_path, stem, name)
    dataset = load(tmp_path)
    assert pairs(dataset) == {"a": "a.jpg", "b": "b.jpg", "c": "c.jpg"}
    assert [(p.kind, p.image_id) for p in dataset.problems] == [
        ("image-renamed", "b"), ("image-renamed", "c"),
    ]  # fmt: skip
    assert "'a.jpg' is there, too" in dataset.problems[0].detail


def test_two_files_of_one_image_are_listed_and_the_first_is_read(tmp_path):
    pair(tmp_path, "a")
    voc(tmp_path / "b.xml", [("dog", BOX, 0)], name="a.jpg")
    dataset = load(tmp_path)
    assert pairs(dataset) == {"a": "a.jpg"}
    assert [(p.kind, p.action, p.image_id) for p in dataset.problems] == [
        ("image-claimed-twice", "dropped", "b")
    ]


def test_files_without_images_do_not_claim_one(tmp_path):
    for split in ("train", "val"):
        voc(tmp_path / split / "0.xml", [("cat", BOX, 0)])
    assert len(load(tmp_path)) == 2


CLAIMS = [  # what the file a.xml names, pictures that are there, the one that is used, problems
    ("a", ["a.jpg"], "a.jpg", ["image-renamed"]),
    ("a.png", ["a.jpg"], "a.jpg", ["image-renamed"]),
    ("a.png", ["a.jpg", "a.png"], "a.png", []),
    ("", ["a.jpg", "a.png"], "a.jpg", ["image-twin"]),
    ("x.jpg", ["x.jpg"], "x.jpg", []),
    ("x.png", ["x.jpg", "x.bmp"], "x.jpg", ["image-renamed", "image-twin"]),
    ("x.jpg", ["a.jpg"], "a.jpg", ["image-renamed"]),
    ("/home/joe/a.jpg", ["a.jpg"], "a.jpg", []),
    ("C:\\set\\a.jpg", ["a.jpg"], "a.jpg", []),
    ("../JPEGImages/a.jpg", ["a.jpg"], "a.jpg", []),
    ("frame.v2", ["frame.v2.jpg", "frame.jpg"], "frame.v2.jpg", ["image-renamed"]),
    ("caf\u00e9.jpg", ["cafe\u0301.jpg"], "cafe\u0301.jpg", []),
]


@pytest.mark.parametrize(("name", "there", "used", "listed"), CLAIMS)
def test_which_image_a_file_is_of(name, there, used, listed, tmp_path):
    voc(tmp_path / "a.xml", [("cat", BOX, 0)], name=name or " ")
    for picture in there:
        image(tmp_path / picture)
    dataset = load(tmp_path)
    assert (dataset[0].path.name, kinds(dataset)) == (used, listed)


def test_images_beside_are_taken_and_those_of_a_neighbour_are_a_guess(tmp_path):
    pair(tmp_path / "set", "a", xml="Annotations", pictures="JPEGImages")
    assert kinds(load(tmp_path / "set" / "Annotations")) == []
    voc(tmp_path / "ours" / "xml" / "b.xml", [("cat", BOX, 0)])
    image(tmp_path / "images" / "b.jpg")
    dataset = load(tmp_path / "ours")
    assert kinds(dataset) == ["images-guessed"]
    assert str(tmp_path / "images") in dataset.problems[0].detail


@pytest.mark.parametrize("pictures", ["images", "labels"])
def test_pairing_lists_each_folder_a_few_times_at_most(pictures, tmp_path, monkeypatch):
    files = []
    for k in range(20):
        pair(tmp_path, f"{k}/a", xml="labels", pictures=pictures)
        files.append(tmp_path / "labels" / str(k) / "a.xml")
    asked = Counter()
    scan = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: asked.update([str(path)]) or scan(path))
    Pairing(files, None, tmp_path)
    assert max(asked.values()) <= 2  # its images, and its subfolders
    assert asked.total() <= 4 * len(files)


def test_ids_are_stems_and_paths_where_two_have_one_stem(tmp_path):
    files = [tmp_path / name for name in ("a/x.xml", "b/y.xml", "b/x.xml")]
    assert list(image_ids(files).values()) == ["a/x", "y", "b/x"]


# Splits.


def test_lists_of_image_sets_are_splits(tmp_path):
    for k in range(4):
        pair(tmp_path / "VOC2012", str(k), xml="Annotations", pictures="JPEGImages")
    main = tmp_path / "VOC2012" / "ImageSets" / "Main"
    put(main / "train.txt", "0\n1  1\n2 -1\n")
    put(main / "val.txt", "3.jpg\r\n\n")
    put(main / "trainval.txt", "0\n1\n2\n3\n")
    put(main / "cat_train.txt", "0  1\n1 -1\n2  0\n")
    put(main / "._val.txt", "\x00")
    put(tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt", "1\n")
    wanted = {
        "train": ["0", "1", "2"], "val": ["3"], "Segmentation/val": ["1"],
        "trainval": ["0", "1", "2", "3"],
    }  # fmt: skip
    for source in (tmp_path, tmp_path / "VOC2012", tmp_path / "VOC2012" / "Annotations"):
        dataset = load(source)
        assert by_split(dataset) == wanted
        assert kinds(dataset) == []
    assert [e.path.stem for e in read(main / "val.txt")] == ["3"]
    assert [e.path.stem for e in load(tmp_path, split="val")] == ["3"]
    assert [e.path.stem for e in load(main / "val.txt")] == ["3"]
    assert [e.path.stem for e in load(main / "train.txt")] == ["0", "1", "2"]
    segmentation = tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    assert [e.path.stem for e in load(segmentation)] == ["1"]
    with pytest.raises(DataError, match="the list of one class, not of a split; name the list of"):
        load(main / "cat_train.txt")


def test_lists_of_one_class_are_splits_where_there_are_no_others(tmp_path):
    for k in range(2):
        pair(tmp_path, str(k), xml="Annotations", pictures="JPEGImages")
    put(tmp_path / "ImageSets" / "Main" / "cat_train.txt", "0  1\n")
    put(tmp_path / "ImageSets" / "Main" / "cat_val.txt", "1 -1\n")
    assert by_split(load(tmp_path)) == {"train": ["0"], "val": ["1"]}


def test_names_in_lists_may_have_spaces_and_folders(tmp_path):
    pair(tmp_path, "my cat", xml="Annotations", pictures="JPEGImages")
    pair(tmp_path, "site/0", xml="Annotations", pictures="JPEGImages")
    put(tmp_path / "ImageSets" / "train.txt", "my cat\nsite/0\n")
    assert by_split(load(tmp_path)) == {"train": ["0", "my cat"]}


def test_a_list_of_a_folder_above_the_dataset_is_not_its_own(tmp_path):
    pair(tmp_path / "set" / "more", "0")
    put(tmp_path / "ImageSets" / "Main" / "train.txt", "0\n")
    assert load(tmp_path / "set" / "more").splits == ()


def test_names_without_a_file_and_images_in_two_lists_are_listed(tmp_path):
    pair(tmp_path, "0", xml="Annotations", pictures="JPEGImages")
    put(tmp_path / "ImageSets" / "Main" / "train.txt", "0\n7\n")
    put(tmp_path / "ImageSets" / "Main" / "val.txt", "0\n")
    dataset = load(tmp_path)
    assert by_split(dataset) == {"train": ["0"], "val": ["0"]}
    assert sorted(p.detail for p in dataset.problems) == [
        "1 images are in train and in val: what is learnt is then tested",
        "1 of 2 images have no XML file, such as '7'",
    ]


def test_folders_are_splits_where_there_are_no_lists(tmp_path):
    for split in ("train", "valid"):
        pair(tmp_path / "test" / "set", f"{split}/{split}0")
    dataset = load(tmp_path / "test" / "set")
    assert by_split(dataset) == {"train": ["train0"], "val": ["valid0"]}
    with pytest.raises(DataError, match="no split 'test': it has train, val"):
        load(tmp_path / "test" / "set", split="test")


# Which files are read.


@pytest.mark.parametrize(
    "names",
    [
        ("a.xml", "train/b.xml", "val/c.xml"),
        ("train/a.xml", "test/batch1/b.xml"),
        ("a.XML", "b.xml"),
        ("Annotations/a.xml", "other/deep/down/b.xml"),
    ],
)
def test_no_file_hides_another(names, tmp_path):
    for name in names:
        voc(tmp_path / name, [("cat", BOX, 0)])
        image((tmp_path / name).with_suffix(".jpg"))
    dataset = load(tmp_path)
    assert (len(dataset), kinds(dataset)) == (len(names), [])


@pytest.mark.parametrize("first", ["", "<html/>", "<annotation><object>", "\x00\x05"])
def test_the_first_file_does_not_decide_alone(first, tmp_path):
    for stem in "abc":
        pair(tmp_path, stem)
    put(tmp_path / "a.xml", first)
    put(tmp_path / "._b.xml", "\x00\x05")
    assert recognises(tmp_path)
    dataset = load(tmp_path)
    assert (len(dataset), kinds(dataset)) == (2, ["annotation-invalid", "file-unread"])


def test_xml_of_other_kinds_is_no_dataset(tmp_path):
    for stem in "abc":
        put(tmp_path / f"{stem}.xml", "<project/>")
    voc(tmp_path / "d.xml", [("cat", BOX, 0)])
    assert not recognises(tmp_path)


NAME = "\u732b\u72ac"
XML = (
    '<?xml version="1.0" encoding="{}"?><annotation><filename>a.jpg</filename><size><width>60</width>'
    "<height>40</height></size><object><name>"
    + NAME
    + "</name><bndbox><xmin>11</xmin><ymin>13</ymin>"
    "<xmax>40</xmax><ymax>32</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "gb2312", "shift_jis", "big5", "euc-jp"])
def test_xml_is_read_in_the_encoding_that_it_declares(encoding, tmp_path):
    text = XML.format(encoding)
    if encoding in ("gb2312", "big5", "euc-jp", "shift_jis", "gbk"):
        text = text.replace(NAME, NAME[0] if encoding == "gb2312" else NAME)
        text = text.replace("\u732b", "\u72ac") if encoding in ("gbk", "gb2312", "big5") else text
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    image(tmp_path / "a.jpg")
    assert load(tmp_path).classes[0][-1] == "\u72ac"


@pytest.mark.parametrize("encoding", ["hex", "no-such", "undefined", "utf-7", "ascii"])
def test_an_encoding_that_it_is_not_in_costs_the_file_alone(encoding, tmp_path):
    pair(tmp_path, "b")
    (tmp_path / "a.xml").write_bytes(XML.format(encoding).encode("utf-8"))
    dataset = load(tmp_path)
    assert (pairs(dataset), kinds(dataset)) == ({"b": "b.jpg"}, ["annotation-invalid"])


def test_a_document_type_hides_in_no_encoding(tmp_path):
    bomb = '<?xml version="1.0" encoding="utf-7"?>+ADw-!DOCTYPE a [+ADw-!ENTITY b "c"+AD4-]><annotation/>'
    put(tmp_path / "a.xml", bomb)
    with pytest.raises(DataError, match="document type is refused"):
        read(tmp_path / "a.xml")


@pytest.mark.parametrize("size", ["1e10", "-5", "nan", "inf", "x", "9" * 400, str(2**31)])
def test_a_size_that_no_image_has_is_taken_from_the_image(size, tmp_path):
    pair(tmp_path, "a", size=(40, 60))
    text = (tmp_path / "a.xml").read_text()
    put(tmp_path / "a.xml", text.replace("<width>60<", f"<width>{size}<"))
    dataset = load(tmp_path)
    assert ((dataset[0].height, dataset[0].width), dataset.num_objects) == ((40, 60), 1)
    assert kinds(dataset) == ["annotation-invalid"]


# Objects.

GOOD = (
    "<object><name>cat</name><bndbox><xmin>11</xmin><ymin>13</ymin><xmax>40</xmax>"
    "<ymax>32</ymax></bndbox></object>"
)
BAD = [
    GOOD.replace("<name>cat</name>", ""),
    GOOD.replace("cat", " "),
    GOOD.replace(">11<", ">11,5<"),
    GOOD.replace(">11<", "><"),
    GOOD.replace("<ymin>13</ymin>", ""),
    "<object><name>cat</name></object>",
    "<object><name>cat</name><robndbox><cx>5</cx></robndbox></object>",
    "<object><name>cat</name><polygon><x1>1</x1><y1>1</y1></polygon></object>",
    "<object><name>cat</name><polygon><x1>q</x1><y1>1</y1></polygon></object>",
]


def xml(*objects, size="<size><width>60</width><height>40</height></size>"):
    return f"<annotation><filename>a.jpg</filename>{size}{''.join(objects)}</annotation>"


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_object_costs_one_object(bad, tmp_path):
    put(tmp_path / "a.xml", xml(GOOD, bad, GOOD.replace("40<", "50<")))
    image(tmp_path / "a.jpg")
    for source in (tmp_path, tmp_path / "a.xml"):
        dataset = load(source)
        np.testing.assert_array_equal(dataset[0].annotations.boxes[:, 3], [40, 50])
        assert [(p.kind, p.action, p.annotation_id) for p in dataset.problems] == [
            ("annotation-invalid", "dropped", "a#1")
        ]


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "9" * 400])
def test_a_coordinate_without_bounds_costs_one_object(number, tmp_path):
    put(tmp_path / "a.xml", xml(GOOD, GOOD.replace(">11<", f">{number}<")))
    image(tmp_path / "a.jpg")
    dataset = load(tmp_path)
    assert (dataset.num_objects, len(dataset.problems)) == (1, 1)


@pytest.mark.parametrize(
    "polygon",
    [
        "<x1>50</x1><y1>10</y1><x2>58</x2><y2>10</y2><x3>55</x3><y3>30</y3>",
        "<pt><x>50</x><y>10</y></pt><pt><x>58</x><y>10</y></pt><pt><x>55</x><y>30</y></pt>",
    ],
)
def test_polygons_are_read(polygon, tmp_path):
    put(tmp_path / "a.xml", xml(f"<object><name>dog</name><polygon>{polygon}</polygon></object>"))
    image(tmp_path / "a.jpg")
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[10, 50, 30, 58]])
    assert dataset.outlines["polygon"] == 1


def test_a_damaged_polygon_costs_no_box(tmp_path):
    sound = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    broken = "<polygon><x1>q</x1><y1>1</y1></polygon>"
    put(tmp_path / "a.xml", xml(f"<object><name>dog</name>{sound}{broken}</object>"))
    dataset = load(tmp_path)
    assert (dataset.num_objects, dataset.outlines["polygon"]) == (1, 0)
    said = [p.detail for p in dataset.problems if p.kind == "field-unread"]
    assert len(said) == 1
    assert "polygon" in said[0]


def test_what_is_not_read_is_listed_once_for_each_kind(tmp_path):
    more = (
        "<part><name>head</name></part><attributes><attribute/></attributes><score>0.5</score>"
        "<deleted> </deleted></object>"
    )
    put(tmp_path / "a.xml", xml(GOOD.replace("</object>", more), GOOD.replace("</object>", more)))
    image(tmp_path / "a.jpg")
    said = [p.detail for p in load(tmp_path).problems if p.kind == "field-unread"]
    assert said == [f"<{tag}> of 2 objects is not read" for tag in ("attributes", "part", "score")]


# Where corners count from.

CORNERS = [  # corners, counts from 1, listed
    ([(1, 1, 60, 40)], True, False),
    ([(5, 5, 20, 20)], True, False),
    ([(0, 5, 20, 20)], False, False),
    ([(1, 5, 20, 20)] * 3 + [(0, 7, 20, 20)], False, False),  # at the bound: one in four
    ([(1, 5, 20, 20)] * 4 + [(0, 7, 20, 20)], True, True),  # below it
    ([(1, 5, 20, 20)] * 9 + [(0, 0, 0, 0)], True, False),  # no area
    ([(5, 5, 20, 20), (0, 0, 0, 9)], True, False),
    ([(5, 5, 20, 20), (0, 9, 20, 5)], True, False),  # inverted
    ([(5, 5, 20, 20), (0, 5, 90, 20)], True, False),  # beyond the image
    ([(5, 5, 20, 20), (0, "nan", 20, 20)], True, False),
    ([(5, 5, 20, 20), (-3, 0, 20, 20)], True, False),
]


@pytest.mark.parametrize(("corners", "from_one", "listed"), CORNERS)
def test_sound_boxes_tell_where_corners_count_from(corners, from_one, listed, tmp_path):
    pair(tmp_path, "a", boxes=corners)
    dataset = load(tmp_path)
    assert dataset[0].annotations.boxes[0, 1] == corners[0][0] - from_one
    assert ("from 1" in dataset.header["notes"][0]) == from_one
    assert ("corners-doubtful" in kinds(dataset)) == listed


# Writing.


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\x01b", "a\\x01b"),
        ("a\ud800", "a\\ud800"),
        ("\uffff", "\\uffff"),
        (" a ", "a"),
        ("", "class 0"),
    ],
)
def test_class_names_that_xml_cannot_hold_are_escaped_and_listed(name, written, tmp_path):
    categories = [{"id": 3, "name": "placeholder"}]
    dataset = load(coco(tmp_path / "in", [{"bbox": [5, 5, 20, 20]}], categories=categories))
    from dataclasses import replace

    lost = convert(replace(dataset, classes=(name,)), "voc", tmp_path / "out", copy_images=True)
    assert any(repr(written) in p.detail for p in lost)
    assert load(tmp_path / "out").classes == (written,)


def test_markup_in_names_needs_no_escape(tmp_path):
    categories = [{"id": 3, "name": "<b>&amp; \u732b"}]
    dataset = load(coco(tmp_path / "in", [{"bbox": [5, 5, 20, 20]}], categories=categories))
    convert(dataset, "voc", tmp_path / "out", copy_images=True)
    assert load(tmp_path / "out").classes == ("<b>&amp; \u732b",)
