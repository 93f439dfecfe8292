"""Records of COCO that are not as they should be: each costs itself at most, and is told as it is."""

import json

import numpy as np
import pytest
from datafiles import coco, image

from ytrue import DataError
from ytrue.datasets import load

BOX = [10, 5, 20, 10]
RING = [[1, 2, 9, 2, 9, 8]]
A = {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}
B = {"id": 2, "file_name": "b.jpg", "height": 40, "width": 60}


def kinds(dataset):
    return [(problem.kind, problem.action) for problem in dataset.problems]


def detail(dataset, kind):
    return next(problem.detail for problem in dataset.problems if problem.kind == kind)


# Ids.


@pytest.mark.parametrize("count", [2, 1500])
@pytest.mark.parametrize(
    ("own", "named"),
    [(1, "1"), ("1", 1), (0, "0"), (-3, "-3"), (2**63, str(2**63)), (str(2**100), 2**100)],
)
def test_an_id_of_another_type_is_the_same_id(own, named, count, tmp_path):
    boxes = [{"bbox": [1, 2, 3, 4 + k / 1e4], "image_id": named} for k in range(count)]
    dataset = load(coco(tmp_path, boxes, images=[A | {"id": own}]))
    assert kinds(dataset) == [("id-retyped", "kept")]
    assert f"{count} annotations have a image_id" in dataset.problems[0].detail
    assert f"such as {named!r} for {own!r}" in dataset.problems[0].detail
    assert len(dataset[0].annotations) == count
    categories = [{"id": own, "name": "cat"}]
    boxes = [{"bbox": BOX, "category_id": named}]
    dataset = load(coco(tmp_path, boxes, categories=categories))
    assert (kinds(dataset), dataset.num_objects) == ([("id-retyped", "kept")], 1)


def test_where_both_types_are_there_each_means_itself(tmp_path):
    images = [A, B | {"id": "1"}]
    boxes = [{"bbox": BOX, "image_id": "1"}, {"bbox": [1, 2, 3, 4], "image_id": 1}]
    dataset = load(coco(tmp_path, boxes, images=images))
    assert dataset.problems == ()
    assert [e.annotation_ids for e in dataset] == [(101,), (100,)]


@pytest.mark.parametrize("named", ["01", "1.0", " 1", "+1", "one", "²", ""])
def test_what_does_not_read_the_same_is_unknown(named, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": BOX, "image_id": named}]))
    assert kinds(dataset) == [("unknown-image", "dropped")]


@pytest.mark.parametrize("count", [3, 1500])
@pytest.mark.parametrize(
    "ids", [(2**63 - 1, 2**63), (2**100, 2**100 + 1), (-(2**70), 5), (2**64 + 1, 1)]
)
def test_ids_of_any_length_work(ids, count, tmp_path):
    images = [A | {"id": ids[0]}, B | {"id": ids[1]}]
    boxes = [
        {"bbox": [1, 2, 3, 4 + k / 1e4], "image_id": ids[k % 2], "id": ids[0] + k, "category_id": ids[1]}
        for k in range(count)
    ]  # fmt: skip
    dataset = load(coco(tmp_path, boxes, images=images, categories=[{"id": ids[1], "name": "x"}]))
    assert dataset.problems == ()
    assert [len(e.annotations) for e in dataset] == [(count + 1) // 2, count // 2]
    assert dataset[0].annotation_ids[:2] == (ids[0], ids[0] + 2)[: len(dataset[0].annotations)]


@pytest.mark.parametrize("missing", ["absent", None, True, 1.5, [1]])
def test_annotations_without_ids_are_counted_above_those_there_are(missing, tmp_path):
    boxes = [{"bbox": [1, 2, 3, 4 + k], "id": missing if k else 7} for k in range(3)]
    dataset = load(coco(tmp_path, boxes))
    assert kinds(dataset) == [("annotation-unnumbered", "kept")]
    assert dataset[0].annotation_ids == (7, 8, 9)
    assert "2 annotations have no id of their own: numbered 8 to 9" in dataset.problems[0].detail
    boxes = [{"bbox": [1, 2, 3, 4 + k], "id": missing} for k in range(2)]
    assert load(coco(tmp_path, boxes))[0].annotation_ids == (1, 2)


def test_a_problem_of_an_annotation_without_id_tells_its_place(tmp_path):
    boxes = [{"bbox": BOX}, {"bbox": [1, 2, 3, 4], "id": "absent", "segmentation": [[1, 2]]}]
    problem = load(coco(tmp_path, boxes)).problems[0]
    assert problem.annotation_id is None
    assert problem.detail.startswith("annotation 1 of the list: a polygon part of 2 numbers")


# Boxes.

BOXES = [
    (["10", "5", "20", "10"], "number-text"),
    (["10", 5, " 20.0 ", "1e1"], "number-text"),
    ("[10, 5, 20, 10]", "number-text"),
    ("10 5 20 10", "number-text"),
    ("(10,5,20,10)", "number-text"),
]


@pytest.mark.parametrize(("box", "kind"), BOXES)
def test_boxes_of_numbers_written_as_text_are_read(box, kind, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": box}, {"bbox": [1, 2, 3, 4]}]))
    assert kinds(dataset) == [(kind, "kept")]
    assert "1 annotations have boxes" in dataset.problems[0].detail
    np.testing.assert_array_equal(dataset[0].annotations.boxes[0], [5, 10, 15, 30])


ODD_BOXES = [
    ({"x": 10, "y": 5}, "bbox is {'x': 10, 'y': 5}, expected x, y, width, height"),
    ([48, 32, 40, 10, 0.5], "bbox is [48, 32, 40, 10, 0.5], expected"),
    ([1, 2, 3], "bbox is [1, 2, 3], expected"),
    ([[1, 2], [3, 4]], "bbox is [[1, 2], [3, 4]]"),
    (["a", 1, 2, 3], "bbox is ['a', 1, 2, 3]"),
    (["1_0", 1, 2, 3], "bbox is ['1_0', 1, 2, 3]"),
    ([None, 1, 2, 3], "bbox is [None, 1, 2, 3]"),
    ([True, 1, 2, 3], "bbox is [True, 1, 2, 3]"),
    ("none", "bbox is 'none'"),
    (7, "bbox is 7"),
    (False, "bbox is False"),
    ("\x1b[31m", r"bbox is '\x1b[31m'"),
    (list(range(100)), "..., expected x, y, width, height"),
]


@pytest.mark.parametrize(("box", "said"), ODD_BOXES)
def test_what_is_no_box_is_said_once_as_it_stands(box, said, tmp_path):
    file = coco(tmp_path, [{"bbox": box}, {"bbox": [1, 2, 3, 4]}])
    dataset = load(file)
    assert (kinds(dataset), dataset.num_objects) == ([("box-invalid", "dropped")], 1)
    assert said in dataset.problems[0].detail
    assert (dataset.problems[0].image_id, dataset.problems[0].annotation_id) == (1, 100)
    file = coco(tmp_path, [{"bbox": box, "segmentation": RING}, {"bbox": [1, 2, 3, 4]}])
    dataset = load(file)
    assert (kinds(dataset), dataset.num_objects) == ([("box-invalid", "kept")], 2)
    assert dataset.problems[0].detail.endswith("taken tight around its shape")
    np.testing.assert_array_equal(dataset[0].annotations.boxes[0], [2, 1, 8, 9])


@pytest.mark.parametrize("box", ["absent", None, []])
def test_neither_a_box_nor_a_shape_is_told_as_that(box, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": box}, {"bbox": [1, 2, 3, 4]}]))
    assert (kinds(dataset), dataset.num_objects) == ([("shape-missing", "dropped")], 1)
    assert detail(dataset, "shape-missing").startswith("neither a box nor a usable shape")
    assert load(coco(tmp_path, [{"bbox": box, "keypoints": [0, 0, 0]}])).num_objects == 0


def test_rows_are_not_moved_by_those_that_are_dropped_before(tmp_path):
    boxes = [
        {"bbox": BOX, "image_id": 9}, {"bbox": None, "segmentation": RING}, {"bbox": BOX, "category_id": 8},
        {"bbox": None}, {"bbox": [3, 4, 5, 6]},
        {"bbox": None, "segmentation": {"size": [40, 60], "counts": [45, 3, 2352]}},
    ]  # fmt: skip
    dataset = load(coco(tmp_path, boxes))
    assert dataset[0].annotation_ids == (101, 104, 105)
    np.testing.assert_array_equal(
        dataset[0].annotations.boxes, [[2, 1, 8, 9], [4, 3, 10, 8], [5, 1, 8, 2]]
    )
    assert dataset[0].annotations.masks[2].area == 3


# Shapes.


@pytest.mark.parametrize("far", [1.0000001e9, -1.0000001e9, 1e30, 1e300])
def test_what_lies_nowhere_is_dropped_and_at_the_bound_is_kept(far, tmp_path):
    edge = 1e9 if far > 0 else -1e9
    boxes = [
        {"bbox": [far, 5, 20, 10]},
        {"bbox": [1, 2, 3, 4], "segmentation": [[1, 2, far, 4, 5, 6], [5, 6, 7, 6, 7, 9]]},
        {"bbox": [1, 2, 3, 5], "keypoints": [5, far, 1]},
        {"bbox": [1, 2, 3, 6], "segmentation": [[1, 2, edge, 4, 5, 6]], "keypoints": [5, edge, 1]},
    ]
    dataset = load(coco(tmp_path, boxes))
    assert sorted(kinds(dataset)) == [
        ("box-not-finite", "dropped"), ("keypoints-invalid", "dropped"), ("polygon-invalid", "dropped"),
    ]  # fmt: skip
    assert [p.annotation_id for p in dataset.problems] == [102, 101, 100]
    example = dataset[0].annotations
    assert [len(parts) for parts in example.polygons] == [1, 0, 1]
    np.testing.assert_array_equal(example.polygons[0][0], [[6, 5], [6, 7], [9, 7]])
    assert example.keypoints[:, 0, 2].tolist() == [0, 0, 1]
    assert load(coco(tmp_path, [{"bbox": [1, 2, 1e9, 1e9]}])).num_objects == 1


MASKS = [
    ({"size": [40, 60], "counts": [2**62] * 4 + [2400]}, "mask runs sum to"),
    ({"size": [40, 60], "counts": [2399]}, "mask runs sum to 2399"),
    ({"size": [40, 60], "counts": [2500, -100]}, "a mask run of -100 pixels"),
    ({"size": [40, 60], "counts": "é"}, "foreign character"),
    ({"size": [40, 60], "counts": [10**400]}, "mask runs are"),
    ({"size": [40, 60], "counts": [0.5, 2399.5]}, "mask runs are"),
    ({"size": [40, 60], "counts": {}}, "mask runs are"),
    ({"size": [40, 60], "counts": None}, "mask runs are"),
    ({"size": None, "counts": [2400]}, "a mask of size None"),
    ({"size": [32000, 32000], "counts": [5, 10, 32000**2 - 15]}, "YTRUE_MAX_PIXELS"),
    ({"size": [60, 40], "counts": [2400]}, "the mask is 60x40, the image 40x60"),
    ({"counts": [2400]}, "a mask without size or counts: {'counts': [2400]}"),
]


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize(("mask", "said"), MASKS)
def test_a_mask_that_is_none_costs_the_mask(mask, said, crowd, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": BOX, "iscrowd": crowd, "segmentation": mask}]))
    assert (kinds(dataset), dataset.num_objects) == ([("mask-invalid", "dropped")], 1)
    assert said in dataset.problems[0].detail
    assert dataset[0].annotations.masks is None


@pytest.mark.parametrize(
    ("crowd", "is_crowd"),
    [(1, True), (0, False), (None, False), ("1", True), ("0", False), (True, True), (False, False), (1.0, True), ("x", False)],
)  # fmt: skip
@pytest.mark.parametrize("large", [False, True])
def test_crowds_are_told_however_they_are_written(crowd, is_crowd, large, tmp_path, monkeypatch):
    from ytrue.datasets import coco as module

    monkeypatch.setattr(module, "LARGE", 0 if large else 2**30)
    dataset = load(coco(tmp_path, [{"bbox": BOX, "iscrowd": crowd}]))
    assert (dataset.problems, dataset[0].annotations.crowd.tolist()) == ((), [is_crowd])


# Keypoints.


def test_one_long_list_of_keypoints_asks_no_memory_for_all(tmp_path):
    boxes = [{"bbox": [1, 2, 3, 4 + k / 100], "keypoints": [1, 2, 2] * 2} for k in range(400)]
    boxes[7]["keypoints"] = [1, 2, 2] * 20_000
    dataset = load(coco(tmp_path, boxes))
    assert dataset.num_keypoints == 2
    assert [p.annotation_id for p in dataset.problems if p.kind == "keypoints-invalid"] == [107]
    dataset = load(coco(tmp_path, [boxes[7]]))
    assert (dataset.num_keypoints, dataset.num_objects) == (1, 1)


def test_a_long_list_of_names_asks_no_memory_either(tmp_path):
    categories = [{"id": 3, "name": "x", "keypoints": [f"k{i}" for i in range(1001)]}]
    dataset = load(coco(tmp_path, [{"bbox": BOX, "keypoints": [1, 2, 2]}], categories=categories))
    assert kinds(dataset) == [("keypoints-invalid", "dropped")]
    assert (dataset.num_keypoints, dataset.num_objects) == (0, 1)
    categories[0]["keypoints"].pop()
    assert load(coco(tmp_path, [{"bbox": BOX}], categories=categories)).num_keypoints == 1000


@pytest.mark.parametrize("keypoints", [{"a": [1, 2]}, "1 2 2", 7])
def test_keypoints_that_are_no_list_are_said(keypoints, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": BOX, "keypoints": keypoints}]))
    assert kinds(dataset) == [("keypoints-invalid", "dropped")]
    assert "keypoints are " in dataset.problems[0].detail


def test_an_unlabelled_keypoint_may_lie_nowhere(tmp_path):
    file = coco(tmp_path, [{"bbox": BOX, "keypoints": [float("nan"), float("inf"), 0, 5, 6, 2]}])
    dataset = load(file)
    assert [kind for kind, _ in kinds(dataset)] == ["flips-unknown"]
    np.testing.assert_array_equal(dataset[0].annotations.keypoints, [[[0, 0, 0], [6, 5, 2]]])


# Left and right.


def landmarks(tmp_path, **fields):
    categories = [{"id": 3, "name": "x", **fields}]
    return coco(tmp_path, [{"bbox": BOX, "keypoints": [1, 2, 2, 3, 4, 2]}], categories=categories)


def test_flips_are_what_the_file_says_and_else_what_the_names_say(tmp_path):
    dataset = load(landmarks(tmp_path, keypoints=["Eye_Left", "Eye_Right"]))
    assert (dataset.keypoint_flips, dataset.problems) == (((0, 1),), ())
    assert load(landmarks(tmp_path, keypoints=["a", "b"])).keypoint_flips == ()
    assert load(landmarks(tmp_path, keypoints=["a", "b"], flip_pairs=[[0, 1]])).keypoint_flips == (
        (0, 1),
    )
    assert load(landmarks(tmp_path, keypoints=["a", "b"], swap=["b", "a"])).keypoint_flips == (
        (0, 1),
    )
    dataset = load(landmarks(tmp_path, keypoints=["left", "right"], flip_idx=[0, 1]))
    assert (dataset.keypoint_flips, dataset.problems) == ((), ())


@pytest.mark.parametrize(
    "fields", [{}, {"keypoints": ["1", "2"]}, {"keypoints": ["left a", "b"]},
               {"keypoints": ["a", "b"], "flip_pairs": None}]
)  # fmt: skip
def test_unknown_sides_are_said_once_and_carried_along(fields, tmp_path):
    file = landmarks(tmp_path, **fields)
    dataset = load(file, strict=True)
    assert dataset.keypoint_flips is None
    assert kinds(dataset) == [("flips-unknown", "kept")]
    assert "--flip-pairs" in dataset.problems[0].detail
    told = load(file, keypoint_flips=[(0, 1)])
    assert (told.keypoint_flips, told.problems) == (((0, 1),), ())
    dataset.to_coco(tmp_path / "back" / "data.json")
    assert load(tmp_path / "back" / "data.json", images=tmp_path).keypoint_flips is None
    if fields:
        told.to_coco(tmp_path / "back" / "data.json")
        again = load(tmp_path / "back" / "data.json", images=tmp_path)
        assert (again.keypoint_flips, again.problems) == (((0, 1),), ())


def test_pairs_that_name_no_landmark_are_said(tmp_path):
    dataset = load(landmarks(tmp_path, keypoints=["a", "b"], flip_pairs=[[0, 2]]))
    assert kinds(dataset) == [("keypoints-invalid", "dropped"), ("flips-unknown", "kept")]
    assert "flip_pairs is [[0, 2]]" in dataset.problems[0].detail
    assert dataset.keypoint_flips is None


def test_categories_with_other_landmarks_are_said(tmp_path):
    categories = [{"id": k, "name": str(k), "keypoints": ["a", "bc"[k % 2]]} for k in (3, 4)]
    dataset = load(coco(tmp_path, [{"bbox": BOX}], categories=categories))
    assert (kinds(dataset), dataset.keypoint_names) == ([("keypoints-differ", "kept")], ("a", "c"))


# Images.


def test_two_records_of_one_file_are_said(tmp_path):
    images = [A, B, A | {"id": 3}, B | {"id": 4, "file_name": "b.png"}]
    file = coco(tmp_path, [], images=images, write_images=False)
    image(tmp_path / "a.jpg")
    image(tmp_path / "b.jpg")
    dataset = load(file)
    found = [p for p in dataset.problems if p.kind == "duplicate-image-file"]
    assert [(p.image_id, p.action) for p in found] == [(3, "kept"), (4, "kept")]
    assert "'a.jpg' is the file of image 1 as well" in found[0].detail
    assert len(dataset) == 4


def test_two_records_of_one_missing_file_are_said(tmp_path):
    file = coco(tmp_path, [], images=[A, A | {"id": 3}, B], write_images=False)
    dataset = load(file, images=tmp_path)
    assert kinds(dataset) == [("duplicate-image-file", "kept"), ("images-missing", "kept")]


@pytest.mark.parametrize("folder", ["val2017", "images", "."])
@pytest.mark.parametrize("key", ["coco_url", "flickr_url"])
def test_images_without_names_are_named_by_their_address(folder, key, tmp_path):
    record = {
        "id": 1,
        "height": 40,
        "width": 60,
        key: "http://images.cocodataset.org/val2017/0001.jpg?x=1",
    }
    image(tmp_path / folder / "0001.jpg")
    file = coco(tmp_path / "annotations", [{"bbox": BOX}], images=[record], write_images=False)
    dataset = load(file, images=tmp_path if folder == "val2017" else tmp_path / folder)
    assert (kinds(dataset), dataset.num_objects) == ([("image-unnamed", "kept")], 1)
    assert dataset[0].path == tmp_path / folder / "0001.jpg"


def test_images_without_names_that_are_not_there_are_missing(tmp_path):
    record = {"id": 1, "height": 40, "width": 60, "coco_url": "http://x.org/val2017/0001.jpg"}
    dataset = load(coco(tmp_path, [{"bbox": BOX}], images=[record], write_images=False))
    assert kinds(dataset) == [("image-unnamed", "kept"), ("images-missing", "kept")]
    assert (dataset.images.file_names, dataset.num_objects) == (["val2017/0001.jpg"], 1)


@pytest.mark.parametrize("name", [None, "", "absent", 7, []])
def test_an_image_without_any_name_is_said(name, tmp_path):
    record = {key: value for key, value in (A | {"file_name": name}).items() if value != "absent"}
    dataset = load(coco(tmp_path, [], images=[record, B], write_images=False))
    assert kinds(dataset)[0] == ("image-invalid", "dropped")
    assert "image 0 of the list lacks a file_name: {'id': 1" in dataset.problems[0].detail
    assert len(dataset) == 1


@pytest.mark.parametrize(
    ("size", "found"),
    [(None, []), (0, []), (60.0, []), ("60", []), ("absent", []), (float("nan"), []),
     (-60, ["image-size-invalid"]), (60.5, ["image-size-invalid"]), ("wide", ["image-size-invalid"]),
     (2**31, ["image-size-invalid"]), (10**400, ["image-size-invalid"]), (True, ["image-size-invalid"]),
     ([60], ["image-size-invalid"])],
)  # fmt: skip
def test_a_size_that_is_none_is_taken_from_the_file(size, found, tmp_path):
    whole = A | (
        {"width": size, "height": size} if size in (None, 0, "absent") else {"width": size}
    )
    record = {key: value for key, value in whole.items() if value != "absent"}
    file = coco(tmp_path, [{"bbox": BOX}], images=[record], write_images=False)
    image(tmp_path / "a.jpg")
    dataset = load(file)
    assert [kind for kind, _ in kinds(dataset) if kind != "image-size"] == found
    if size not in (-60, 60.5, "wide", 2**31, 10**400, True, [60]) and size == size:
        assert dataset.num_objects == 1


@pytest.mark.parametrize("name", [None, "absent", ""])
def test_a_category_without_a_name_is_called_by_its_id(name, tmp_path):
    record = {"id": 3, "name": name}
    categories = [{k: v for k, v in record.items() if v != "absent"}, {"id": 7, "name": "cat"}]
    dataset = load(coco(tmp_path, [{"bbox": BOX}], categories=categories))
    assert kinds(dataset) == [("category-unnamed", "kept")]
    assert dataset.classes == ("3", "cat")


def test_no_categories_at_all_name_classes_by_ids(tmp_path):
    file = coco(tmp_path, [{"bbox": BOX}])
    content = json.loads(file.read_text()) | {"categories": None}
    file.write_text(json.dumps(content))
    dataset = load(file)
    assert (kinds(dataset), dataset.classes) == ([("category-unnamed", "kept")], ("3",))


def test_records_that_are_no_records_cost_themselves(tmp_path):
    file = coco(tmp_path, [{"bbox": BOX}], images=[A, B])
    content = json.loads(file.read_text())
    content["annotations"] = [None, 3, "x", [], {}, *content["annotations"]]
    content["images"] = [None, [], *content["images"]]
    file.write_text(json.dumps(content))
    dataset = load(file)
    assert (
        kinds(dataset)
        == [("annotation-invalid", "dropped")] * 5 + [("image-invalid", "dropped")] * 2
    )
    assert [p.detail.split(":")[0] for p in dataset.problems[:5]] == [
        f"annotation {k} of the list is of no use" for k in range(5)
    ]
    assert dataset.num_objects == 1
    with pytest.raises(DataError, match="annotation 0 of the list is of no use"):
        load(file, strict=True)
