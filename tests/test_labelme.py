"""LabelMe and its successors: images by the format's own rule, every shape read or listed."""

import base64
import io
import json
import os

import numpy as np
import pytest
from datafiles import coco, image
from PIL import Image

from ytrue import DataError
from ytrue.datasets import convert, load
from ytrue.datasets.labelme import recognises


def shape(label, points, kind="", group=None, **more):
    kind = ("rectangle" if points is BOX else "polygon") if kind == "" else kind
    return {
        "label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}
    } | more  # fmt: skip


TRIANGLE = [[10, 12], [40, 12], [40, 32]]
BOX = [[10, 12], [40, 32]]


def write(file, *shapes, picture=True, height=40, width=60, **fields):
    """A LabelMe file, and unless told otherwise its image beside it."""
    content = {
        "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{file.stem}.jpg",
        "imageData": None, "imageHeight": height, "imageWidth": width,
    } | fields  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))
    if picture:
        image(file.with_suffix(".jpg"), height, width)
    return file


def one(tmp_path, *shapes, **fields):
    return load(write(tmp_path / "far" / "a.json", *shapes, **fields).parent)


def kinds(dataset):
    return [(problem.kind, problem.action) for problem in dataset.problems]


# Images.

NAMED = [
    # where the files are, where the images are, what the files say
    ("json", "images", "../images/{0}.jpg"),
    ("json", "images", "..\\images\\{0}.jpg"),
    ("json", "json/pictures", "pictures/{0}.jpg"),
    ("json", "json/pictures", ".\\pictures\\{0}.jpg"),
    ("out/json", "in", "../../in/{0}.jpg"),
    ("json", "json", "{0}.jpg"),
    ("json", "images", "/home/ann/images/{0}.jpg"),
    ("json", "images", "C:\\Users\\ann\\images\\{0}.jpg"),
    ("json", "images", "{0}.jpg"),
    ("json/train", "images/train", "..\\..\\images\\train\\{0}.jpg"),
]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(("ours", "theirs", "said"), NAMED)
def test_images_are_found_by_the_formats_own_rule(ours, theirs, said, given, tmp_path):
    root = tmp_path / "a" / "set"
    for k in range(3):
        write(
            root / ours / f"p{k}.json",
            shape("cat", TRIANGLE),
            picture=False,
            imagePath=said.format(f"p{k}"),
        )
        image(root / theirs / f"p{k}.jpg")
    for source in (root, root / ours, root / ours / "p1.json"):
        dataset = load(source, images=root / theirs if given else None)
        assert dataset.problems == ()
        for example in dataset:
            expected = root / theirs / f"{example.image_id}.jpg"
            assert os.path.samefile(example.path, expected)
            np.testing.assert_array_equal(example.annotations.boxes, [[12, 10, 32, 40]])


def test_a_name_that_is_stale_yields_to_the_files_own(tmp_path):
    write(tmp_path / "a.json", shape("cat", BOX))
    write(tmp_path / "b.json", shape("cat", BOX), imagePath="a.jpg")  # copied from a.json
    dataset = load(tmp_path)
    assert [e.path.name for e in dataset] == ["a.jpg", "b.jpg"]
    assert kinds(dataset) == [("image-renamed", "kept")]
    assert "'b.jpg' is of its own name; 'a.jpg' is there, too" in dataset.problems[0].detail


def test_of_two_files_of_one_image_one_is_read(tmp_path):
    write(tmp_path / "a.json", shape("cat", BOX))
    write(tmp_path / "b.json", shape("dog", BOX), picture=False, imagePath="a.jpg")
    dataset = load(tmp_path)
    assert [e.image_id for e in dataset] == ["a"]
    assert kinds(dataset) == [("image-claimed-twice", "dropped")]
    assert str(tmp_path / "a.json") in dataset.problems[0].detail


@pytest.mark.parametrize("name", ["absent", None, "", 7])
def test_without_a_name_the_files_own_stem_tells_the_image(name, tmp_path):
    dataset = one(tmp_path, shape("cat", BOX), imagePath=name)
    assert (dataset[0].path.name, dataset.problems) == ("a.jpg", ())


SIZES = [
    (None, None),
    (0, 60),
    (-40, 60),
    (40.0, float("nan")),
    ("40", "60"),
    (True, 60),
    (2**31, 60),
]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_size_that_is_none_is_taken_from_the_image(height, width, tmp_path):
    file = write(
        tmp_path / "far" / "a.json", shape("cat", BOX), imageHeight=height, imageWidth=width
    )
    dataset = load(file.parent)
    assert (dataset[0].height, dataset[0].width, dataset.num_objects) == (40, 60, 1)
    given = height is not None
    assert kinds(dataset) == ([("annotation-invalid", "kept")] if given else [])


# Files.


def broken(good):
    return {
        "cut short": good.encode()[:120],
        "empty": b"",
        "blank": b" \n",
        "zeros": bytes(50),
        "no JSON": b"shapes",
        "Latin-1": good.replace("cat", "k\xe4se").encode("latin-1"),
        "deep": b"[" * 100_000,
        "shapes of another kind": json.dumps({"shapes": {}, "imagePath": "b.jpg"}).encode(),
    }


@pytest.mark.parametrize("fault", broken(""))
def test_a_broken_file_is_listed_and_the_others_are_read(fault, tmp_path):
    write(tmp_path / "a.json", shape("cat", BOX))
    file = write(tmp_path / "b.json", shape("cat", BOX))
    file.write_bytes(broken(file.read_text())[fault])
    dataset = load(tmp_path)
    assert (len(dataset), dataset.num_objects) == (1, 1)
    assert [(p.kind, p.action, p.file) for p in dataset.problems] == [
        ("annotation-invalid", "dropped", str(file))
    ]
    with pytest.raises(DataError, match=r"b\.json"):
        load(tmp_path, strict=True)
    with pytest.raises(DataError, match=r"b\.json"):
        load(file, format="labelme")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_marked_encodings_are_read(encoding, tmp_path):
    write(tmp_path / "a.json", shape("cat", BOX))
    file = write(tmp_path / "b.json", shape("Käse", BOX))
    file.write_bytes(file.read_text().encode(encoding))
    dataset = load(tmp_path)
    assert (dataset.classes, dataset.problems) == (("Käse", "cat"), ())


def test_files_of_any_depth_are_read_and_others_are_listed(tmp_path):
    for name in ("a", "train/b", "val/deep/er/c", "d"):
        write(tmp_path / f"{name}.json", shape("cat", BOX))
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "._a.json").write_bytes(b"\0\5\26\7")
    (tmp_path / "val" / "list.json").write_text("[1]")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    dataset = load(tmp_path)
    assert sorted(dataset.images.ids) == ["a", "b", "c", "d"]
    assert dataset.splits == ("train", "val")
    unread = [p for p in dataset.problems if p.kind == "file-unread"]
    named = [os.path.basename(p.file) for p in unread if p.file != str(tmp_path)]
    assert named == ["package.json", "list.json"]
    assert [p.detail for p in unread if p.file == str(tmp_path)] == [
        "1 resource fork of macOS, such as ._a.json: not read"
    ]
    assert load(tmp_path, split="val").images.ids == ["c"]


def test_a_folder_named_as_a_split_above_the_dataset_is_none(tmp_path):
    write(tmp_path / "train" / "set" / "a.json", shape("cat", BOX))
    assert load(tmp_path / "train" / "set").splits == ()
    assert load(tmp_path / "train").splits == ()
    assert load(tmp_path).splits == ("train",)


def test_most_files_decide_what_a_folder_is(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.json", shape("cat", BOX))
    (tmp_path / "0.json").write_text('{"a": 1}')
    (tmp_path / "1.json").write_text("")
    assert recognises(tmp_path)
    for k in range(2, 5):
        (tmp_path / f"{k}.json").write_text("[]")
    assert not recognises(tmp_path)


# Shapes.

KEPT = [
    # kind, points, box (y_min, x_min, y_max, x_max), vertices of the outline
    ("rectangle", [[40, 32], [10, 12]], (12, 10, 32, 40), 0),
    ("rectangle", [[10, 12], [40, 12], [40, 32], [10, 32]], (12, 10, 32, 40), 0),
    ("rectangle", [[40, 32], [10, 12], [40, 12], [10, 32]], (12, 10, 32, 40), 0),
    ("rectangle", [[30, 5], [50, 20], [30, 35], [10, 20]], (5, 10, 35, 50), 4),
    ("rotation", [[30, 5], [50, 20], [30, 35], [10, 20]], (5, 10, 35, 50), 4),
    ("oriented_rectangle", [[30, 5], [50, 20], [30, 35], [10, 20]], (5, 10, 35, 50), 4),
    ("quadrilateral", [[30, 5], [50, 20], [30, 35], [10, 21]], (5, 10, 35, 50), 4),
    ("circle", [[30, 20], [30, 30]], (10, 20, 30, 40), 36),
    ("polygon", TRIANGLE, (12, 10, 32, 40), 3),
    (None, TRIANGLE, (12, 10, 32, 40), 3),
]


@pytest.mark.parametrize(("kind", "points", "box", "vertices"), KEPT)
def test_shapes_that_have_an_extent_are_objects(kind, points, box, vertices, tmp_path):
    dataset = one(tmp_path, shape("cat", points, kind))
    assert dataset.problems == ()
    objects = dataset[0].annotations
    np.testing.assert_allclose(objects.boxes, [box], atol=1e-5)
    parts = objects.polygons[0] if objects.polygons else []
    assert sum(map(len, parts)) == vertices


FAULTY = [
    (shape("cat", [[1, 2]], "point"), "shape 1, a point 'cat': of no group, it has no extent"),
    (shape("cat", [[1, 2]], "point", 7), "shape 1, a point 'cat': its group 7 has no outline"),
    (shape("cat", TRIANGLE, "linestrip"), "shape 1, a linestrip: 3 points of this kind"),
    (shape("cat", BOX, "line"), "a line: 2 points of this kind"),
    (shape("cat", TRIANGLE, "points"), "a points: 3 points"),
    (shape("cat", TRIANGLE, "rectangle"), "a rectangle: 3 points"),
    (shape("cat", BOX, "polygon"), "a polygon: 2 points"),
    (shape("cat", BOX, "rotation"), "a rotation: 2 points"),
    (shape("cat", TRIANGLE * 3, "cuboid"), "a cuboid: 9 points"),
    (shape("cat", [], "circle"), "a circle: 0 points"),
    (shape("cat", None), "a polygon: its points are None, expected a list"),
    (shape("cat", [[1, 2], [3]], "rectangle"), r"a point is \[3\], expected two numbers of pixels"),
    (shape("cat", [[1, 2], [3, 4, 5]], "rectangle"), r"a point is \[3, 4, 5\]"),
    (shape("cat", [[1, 2], [3, "4"]], "rectangle"), r"a point is \[3, '4'\]"),
    (shape("cat", [[1, 2], [3, None]], "rectangle"), r"a point is \[3, None\]"),
    (shape("cat", [[1, 2], [3, True]], "rectangle"), r"a point is \[3, True\]"),
    (shape("cat", [[1, 2], 3], "rectangle"), "a point is 3"),
    (shape("cat", [[1, 2], [3, float("inf")]], "rectangle"), r"a point is \[3, inf\]"),
    (shape("cat", [[1, 2], [3, float("nan")]], "rectangle"), r"a point is \[3, nan\]"),
    (shape("cat", [[1, 2], [3, 10**400]], "rectangle"), r"a point is \[3, 1000"),
    (shape("cat", [[0, 0], [1e308, 1e308]], "circle"), r"a point is \[1e\+308"),
    (shape("cat", [[1, 2], [3, 2**31]], "rectangle"), r"a point is \[3, 2147483648\]"),
    (shape(None, BOX, "rectangle"), "its label is None, expected a name"),
    (shape("", BOX, "rectangle"), "its label is ''"),
    (shape(["cat"], BOX, "rectangle"), r"its label is \['cat'\]"),
    (shape(True, BOX, "rectangle"), "its label is True"),
    (shape("cat", BOX, 7), "shape_type is 7"),
    (shape("cat", BOX, "rectangle", [1]), r"group_id is \[1\]"),
    ("shape", "shape 1, a str: not a JSON object"),
    (None, "shape 1, a NoneType: not a JSON object"),
]


@pytest.mark.parametrize(("bad", "said"), FAULTY)
def test_one_bad_shape_costs_itself_and_points_at_its_number(bad, said, tmp_path):
    dataset = one(
        tmp_path, shape("dog", BOX, "rectangle"), bad, shape("dog", [[1, 1], [9, 1], [5, 9]])
    )
    assert [(p.kind, p.action) for p in dataset.problems] == [("shape-unsupported", "dropped")]
    problem = dataset.problems[0]
    assert (problem.image_id, problem.annotation_id) == ("a", "a#1")
    assert problem.file.endswith("a.json")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(problem.detail)
    assert list(dataset.objects.ids) == ["a#0", "a#2"]
    assert dataset.classes == ("dog",)


def test_labels_that_are_numbers_are_names(tmp_path):
    assert one(tmp_path, shape(3, BOX, "rectangle"), shape(3.5, TRIANGLE)).classes == ("3", "3.5")


def test_problems_of_boxes_name_the_shape(tmp_path):
    dataset = one(
        tmp_path, shape("cat", BOX, "rectangle"), shape("cat", [[70, 1], [80, 9]], "rectangle")
    )
    assert [(p.kind, p.annotation_id) for p in dataset.problems] == [("box-outside", "a#1")]


def test_further_fields_are_kept(tmp_path):
    fields = {"flags": {"blurred": True}, "description": "half", "difficult": True, "score": 0.5}
    nothing = {"description": "", "attributes": {}, "kie_linking": [], "direction": None}
    dataset = one(
        tmp_path, shape("cat", BOX, "rectangle", 4, **fields), shape("cat", TRIANGLE, **nothing),
        flags={"night": True}, text="",
    )  # fmt: skip
    assert dataset.objects.extra == {0: fields | {"group_id": 4}}
    assert dataset.images.records == [{"flags": {"night": True}}]


# Masks.


def png(pixels, mode=None):
    out = io.BytesIO()
    picture = Image.fromarray(np.asarray(pixels, np.uint8) * 255)
    (picture.convert(mode) if mode else picture).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


PART = np.array([[1, 0, 0], [1, 1, 1]])
PLACES = [
    # first corner x, y; what is set: rows, columns
    (20, 10, [10, 11, 11, 11], [20, 20, 21, 22]),
    (0, 0, [0, 1, 1, 1], [0, 0, 1, 2]),
    (58, 38, [38, 39, 39], [58, 58, 59]),
    (58, 39, [39], [58]),
    (-1, -1, [0, 0], [0, 1]),
]


@pytest.mark.parametrize("mode", [None, "1", "RGB", "P"])
@pytest.mark.parametrize(("x", "y", "rows", "columns"), PLACES)
def test_a_mask_lies_where_its_corner_says(x, y, rows, columns, mode, tmp_path):
    points = [[x, y], [x + 2, y + 1]]
    dataset = one(
        tmp_path,
        shape("cat", points, "mask", mask=png(PART, mode)),
        imageHeight=None,
        imageWidth=None,
    )
    found = np.nonzero(dataset[0].annotations.masks[0].decode())
    assert [axis.tolist() for axis in found] == [rows, columns]
    box = [min(rows), min(columns), max(rows) + 1, max(columns) + 1]
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [box])
    assert not dataset.problems


BAD_MASKS = [
    ("", "not a readable image"),
    ("@@@", "not a readable image"),
    (base64.b64encode(b"no png").decode(), "not a readable image"),
    (None, "not a readable image"),
    (7, "not a readable image"),
    (png(np.zeros((2, 3))), "nothing is set in the mask"),
]


@pytest.mark.parametrize(("mask", "said"), BAD_MASKS)
def test_a_mask_that_cannot_be_read_leaves_its_corners(mask, said, tmp_path):
    dataset = one(tmp_path, shape("cat", BOX, "mask", mask=mask))
    assert kinds(dataset) == [("mask-invalid", "kept")]
    assert said in dataset.problems[0].detail
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[12, 10, 32, 40]])
    assert dataset[0].annotations.masks is None


def test_masks_keep_to_the_limit_of_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("YTRUE_MAX_PIXELS", "2399")
    dataset = one(tmp_path, shape("cat", BOX, "mask", mask=png(PART)))
    assert kinds(dataset) == [("mask-invalid", "kept")]
    assert "more than 2,399 pixels" in dataset.problems[0].detail


def test_masks_of_a_group_are_one_and_an_outline_beside_them_is_told(tmp_path):
    shapes = [
        shape("cat", [[20, 10], [22, 11]], "mask", 1, mask=png(PART)),
        shape("cat", [[30, 10], [32, 11]], "mask", 1, mask=png(PART)),
    ]
    dataset = one(tmp_path, *shapes)
    assert dataset[0].annotations.masks[0].area == 8
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[10, 20, 12, 33]])
    dataset = one(tmp_path, *shapes, shape("cat", TRIANGLE, group=1))
    assert kinds(dataset) == [("shape-unsupported", "kept")]
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[10, 10, 32, 40]])


# Landmarks.


def pose(*names):
    points = [shape(name, [[12 + k, 14]], "point", 1) for k, name in enumerate(names)]
    return [shape("cat", BOX, "rectangle", 1), *points]


FLIPS = [
    (("left_eye", "right_eye"), ((0, 1),)),
    (("L_Eye", "R_Eye", "nose"), ((0, 1),)),
    (("head", "tail"), ()),
    (("p1", "p2"), None),
]


@pytest.mark.parametrize(("names", "flips"), FLIPS)
def test_landmarks_have_the_sides_that_their_names_tell(names, flips, tmp_path):
    dataset = one(tmp_path, *pose(*names))
    assert dataset.keypoint_flips == flips
    assert kinds(dataset) == ([("flips-unknown", "kept")] if flips is None else [])
    assert load(tmp_path / "far", keypoint_flips=[(0, 1)]).keypoint_flips == ((0, 1),)


def test_points_before_their_outline_belong_to_it(tmp_path):
    dataset = one(tmp_path, *reversed(pose("head", "tail")))
    np.testing.assert_array_equal(dataset[0].annotations.keypoints, [[[14, 12, 2], [14, 13, 2]]])


# There and back.


def test_labelme_written_is_labelme_read(tmp_path):
    shapes = [
        shape("cat", BOX, "rectangle", 9, flags={"a": True}, description="x"),
        shape("dog", TRIANGLE, group=2), shape("dog", [[1, 1], [5, 1], [5, 5]], group=2),
        shape("eye", [[12, 14]], "point", 9),
        shape("cat", [[20, 10], [22, 11]], "mask", mask=png(PART)),
        shape("cow", [[30, 5], [50, 20], [30, 35], [10, 20]], "rotation", direction=0.7),
    ]  # fmt: skip
    dataset = one(tmp_path, *shapes, flags={"night": True})
    assert convert(dataset, "labelme", tmp_path / "out", copy_images=True) == []
    again = load(tmp_path / "out")
    assert again.problems == ()
    assert again[0].annotations == dataset[0].annotations
    assert again.objects.extra == dataset.objects.extra
    assert again.images.records == dataset.images.records
    assert again.classes == dataset.classes


def test_groups_that_are_written_anew_collide_with_none(tmp_path):
    dataset = one(
        tmp_path, shape("cat", BOX, "rectangle", 1), shape("cat", TRIANGLE, group=2),
        shape("cat", [[1, 1], [5, 1], [5, 5]], group=2),
    )  # fmt: skip
    convert(dataset, "labelme", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    assert [s["group_id"] for s in written] == [1, 2, 2]


def test_masks_of_other_formats_are_written(tmp_path):
    counts = [0, 3, 2397]  # the first column's first three pixels
    record = {
        "bbox": [0, 0, 1, 3],
        "segmentation": {"size": [40, 60], "counts": counts},
        "area": "absent",
    }
    one = [{"id": 3, "name": "dog"}]
    dataset = load(coco(tmp_path / "in", [record], categories=one))
    assert convert(dataset, "labelme", tmp_path / "out") == []
    again = load(tmp_path / "out", images=tmp_path / "in")
    assert again[0].annotations.masks[0] == dataset[0].annotations.masks[0]
    wide = load(coco(tmp_path / "wide", [record | {"bbox": [0, 0, 9, 9]}], categories=one))
    lost = convert(wide, "labelme", tmp_path / "out2")
    assert [p.detail for p in lost] == ["LabelMe holds no box apart from the mask"]
