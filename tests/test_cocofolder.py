"""Folders of COCO files: splits are read as one dataset that knows them, anything else is asked about."""

import json

import numpy as np
import pytest
from datafiles import coco, image

from ytrue import DataError
from ytrue.datasets import load

BOX = [10, 5, 20, 10]


def kinds(dataset):
    return [(problem.kind, problem.action) for problem in dataset.problems]


def split_file(path, images, boxes, **top):
    """Images 40 x 60 of these ids beside the file, named ID.jpg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60} for k in images]
    coco(path.parent / "made", boxes, images=records, write_images=False, **top).rename(path)
    (path.parent / "made").rmdir()


LAYOUTS = [
    ("instances_train2017.json", "instances_val2017.json"),
    ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
    ("train.json", "val.json"),
    ("set-training.json", "set-validation.json"),
    ("Train/annotations/data.json", "Valid/annotations/data.json"),
]


@pytest.mark.parametrize(("train", "val"), LAYOUTS)
def test_the_files_of_splits_are_one_dataset_that_knows_them(train, val, tmp_path):
    ring = [[1, 2, 9, 2, 9, 8]]
    split_file(
        tmp_path / train, [1, 2],
        [{"bbox": BOX, "image_id": 2, "segmentation": ring}, {"bbox": [1, 2, 3, 4], "id": 5, "note": 1}],
        categories=[{"id": 3, "name": "dog"}],
    )  # fmt: skip
    mask = {"size": [40, 60], "counts": [45, 3, 2352]}
    split_file(
        tmp_path / val, [7],
        [{"bbox": [2, 2, 9, 9], "image_id": 7, "id": 200, "segmentation": mask, "category_id": 1},
         {"bbox": [3, 2, 9, 9], "image_id": 7, "id": 201, "segmentation": ring + [[0, 0, 1, 0, 1, 1]]}],
        categories=[{"id": 3, "name": "dog"}, {"id": 1, "name": "ant"}],
    )  # fmt: skip
    for k, place in ((1, train), (2, train), (7, val)):
        image((tmp_path / place).parent / f"{k}.jpg")
    dataset = load(tmp_path)
    assert (dataset.problems, dataset.splits) == ((), ("train", "val"))
    assert (dataset.classes, dataset.class_ids) == (("ant", "dog"), (1, 3))
    assert list(dataset.images.ids) == [1, 2, 7]
    assert [e.annotation_ids for e in dataset] == [(5,), (100,), (200, 201)]
    assert [e.annotations.labels.tolist() for e in dataset] == [[1], [1], [0, 1]]
    assert all(example.path.is_file() for example in dataset)
    np.testing.assert_array_equal(dataset[1].annotations.polygons[0][0], [[2, 1], [2, 9], [8, 9]])
    assert [len(parts) for parts in dataset[2].annotations.polygons] == [0, 2]
    np.testing.assert_array_equal(dataset[2].annotations.polygons[1][1], [[0, 0], [0, 1], [1, 1]])
    assert dataset[2].annotations.masks[0].area == 3
    assert dataset.objects.extra == {1: {"note": 1}}
    only = load(tmp_path, split="validation")
    assert (list(only.images.ids), only.splits, only.num_objects) == ([7], ("val",), 2)
    with pytest.raises(DataError, match="no split 'test': it has train, val"):
        load(tmp_path, split="test")
    dataset.to_coco(tmp_path / "out" / "all.json")
    again = load(tmp_path / "out" / "all.json", images=tmp_path if "/" in train else None)
    assert [e.annotations for e in again] == [e.annotations for e in dataset]


@pytest.mark.parametrize("annotations_too", [False, True])
def test_ids_that_two_splits_use_get_the_splits_name(annotations_too, tmp_path):
    split_file(tmp_path / "train.json", [1, 2], [{"bbox": BOX}])
    split_file(
        tmp_path / "val.json", [1], [{"bbox": [1, 2, 3, 4], "id": 100 if annotations_too else 7}]
    )
    dataset = load(tmp_path)
    said = [kind for kind, _ in kinds(dataset) if kind == "ids-prefixed"]
    assert len(said) == 1 + annotations_too
    assert dataset.images.ids == ["train/1", "train/2", "val/1"]
    assert list(dataset.objects.ids) == (["train/100", "val/100"] if annotations_too else [100, 7])
    assert [len(e.annotations) for e in dataset] == [1, 0, 1]


def test_keypoints_of_splits_stay_in_their_rows(tmp_path):
    categories = [{"id": 3, "name": "x", "keypoints": ["left a", "right a"]}]
    points = [1, 2, 2, 3, 4, 1]
    split_file(tmp_path / "train.json", [1], [{"bbox": BOX}], categories=categories)
    boxes = [{"bbox": BOX, "image_id": 2, "id": 5, "keypoints": points}]
    split_file(tmp_path / "val.json", [2], boxes, categories=categories)
    dataset = load(tmp_path)
    assert dataset.keypoint_flips == ((0, 1),)
    assert dataset[0].annotations.keypoints.tolist() == [[[0, 0, 0], [0, 0, 0]]]
    assert dataset[1].annotations.keypoints.tolist() == [[[2, 1, 2], [4, 3, 1]]]
    split_file(
        tmp_path / "val.json", [2], boxes, categories=[categories[0] | {"keypoints": ["b", "c"]}]
    )
    with pytest.raises(DataError, match=r"val.json has other keypoints than train.json; name one"):
        load(tmp_path)


def test_one_id_for_classes_of_two_names_is_refused(tmp_path):
    split_file(tmp_path / "train.json", [1], [], categories=[{"id": 3, "name": "dog"}])
    split_file(tmp_path / "val.json", [2], [], categories=[{"id": 3, "name": "cat"}])
    with pytest.raises(DataError, match="category 3 is 'cat' in val and 'dog' in another split"):
        load(tmp_path)


def test_kinds_of_the_same_images_are_not_merged(tmp_path):
    for kind in ("instances", "person_keypoints"):
        for split in ("train2017", "val2017"):
            split_file(tmp_path / "annotations" / f"{kind}_{split}.json", [1], [])
    with pytest.raises(
        DataError, match=r"COCO files of 2 kinds, which are not read as one \(.*; name one"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    "names", [("a.json", "b.json"), ("train.json", "more.json"), ("train.json", "train2017.json")]
)
def test_files_that_are_no_splits_are_listed(names, tmp_path):
    for name in names:
        split_file(tmp_path / name, [1], [])
    with pytest.raises(
        DataError, match=r"the folder holds 2 COCO files \(.*; name one of"
    ) as caught:
        load(tmp_path)
    assert all(name in str(caught.value) for name in names)


def test_a_split_alone_is_that_split(tmp_path):
    split_file(tmp_path / "instances_val2017.json", [1], [{"bbox": BOX}])
    assert load(tmp_path).splits == ("val",)
    split_file(tmp_path / "other" / "data.json", [1], [{"bbox": BOX}])
    assert load(tmp_path / "other").splits == ()


def test_a_folder_above_the_dataset_is_no_split(tmp_path):
    split_file(tmp_path / "train" / "data.json", [1], [{"bbox": BOX}])
    assert load(tmp_path / "train").splits == ()


def test_files_further_down_are_listed_not_passed_over(tmp_path):
    split_file(tmp_path / "data.json", [1], [{"bbox": BOX}])
    split_file(tmp_path / "old" / "annotations" / "data.json", [1], [])
    (tmp_path / "package.json").write_text(json.dumps({"name": "x"}))
    dataset = load(tmp_path)
    found = [p.detail for p in dataset.problems if p.kind == "file-unread"]
    assert found == ["not read: old/annotations/data.json"]


@pytest.mark.parametrize("large", [False, True])
def test_a_named_file_is_the_file_that_is_read(large, tmp_path):
    """A folder of YOLO labels lies beside it, and the annotations lie far into the file."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    info = {"history": ["x" * 100] * (2000 if large else 1)}
    split_file(tmp_path / "out.json", [1], [{"bbox": BOX}], info=info)
    content = json.loads((tmp_path / "out.json").read_text())
    keys = ["info", "categories", "images", "annotations"]
    (tmp_path / "out.json").write_text(json.dumps({key: content[key] for key in keys}))
    dataset = load(tmp_path / "out.json")
    assert (dataset.format, dataset.num_objects) == ("coco", 1)


def test_real_splits_read_as_one(shared_data, tmp_path):
    source = shared_data / "coco_tiny80_ccby"
    dataset = load(source)
    parts = [load(source / "annotations" / f"instances_{s}2017.json") for s in ("train", "val")]
    assert dataset.splits == ("train", "val")
    assert (len(dataset), dataset.num_objects) == tuple(
        map(sum, ([len(p) for p in parts], [p.num_objects for p in parts]))
    )
    for part, name in zip(parts, dataset.splits, strict=True):
        ours = dataset.split(name)
        assert [e.annotations for e in ours] == [e.annotations for e in part]
        assert [e.path for e in ours] == [e.path for e in part]
    assert dataset[0].path.is_file()
