"""YOLO datasets as people have them: layouts, splits, names, poses, and files that are broken."""

import os
import shutil

import numpy as np
import pytest
from datafiles import image

from ytrue import DataError
from ytrue.datasets import convert, load
from ytrue.datasets.yolo import read, recognises
from ytrue.datasets.yoloyaml import read_facts

ROW = "0 0.5 0.5 0.5 0.5\n"


def put(file, text=ROW):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def pair(folder, name, text=ROW, *, labels="labels", images="images", height=40):
    put(folder / labels / f"{name}.txt", text)
    image(folder / images / f"{name}.jpg", height)


def kinds(dataset):
    return sorted(problem.kind for problem in dataset.problems)


def by_split(dataset):
    return {split: sorted(e.path.name for e in dataset.split(split)) for split in dataset.splits}


def taught(dataset):
    """Image name -> names of the classes of its objects."""
    return {e.path.name: [dataset.classes[k] for k in e.annotations.labels] for e in dataset}


# Splits.


def roboflow(folder):
    for split in ("train", "valid"):
        pair(folder / split, f"{split}0")
    put(folder / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: [a]\n")


def ultralytics(folder):
    for split in ("train", "valid"):
        pair(folder, f"{split}/{split}0")
    put(folder / "data.yaml", "path: .\ntrain: images/train\nval: [images/valid]\nnames: [a]\n")


def ultralytics_lists(folder):
    for name in ("train0", "valid0"):
        pair(folder, name)
    put(folder / "train.txt", "./images/train0.jpg\n")
    put(folder / "val.txt", "images/valid0.jpg\r\n")
    put(folder / "data.yaml", "path: .\ntrain: train.txt\nval: val.txt\nnames: {0: a}\n")


def lists_of_another_machine(folder):
    ultralytics_lists(folder)
    put(folder / "val.txt", "/content/set/images/valid0.jpg\n")
    put(folder / "train.txt", "C:\\set\\images\\train0.jpg\n")


def cvat_yolo(folder):
    pair(folder, "train0", labels="obj_train_data", images="obj_train_data")
    pair(folder, "valid0", labels="obj_valid_data", images="obj_valid_data")
    put(folder / "train.txt", "data/obj_train_data/train0.jpg\n")
    put(folder / "valid.txt", "data/obj_valid_data/valid0.jpg\n")
    put(folder / "obj.names", "a\n")
    lines = "classes = 1\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    put(folder / "obj.data", lines)


def lists_without_yaml(folder):
    ultralytics_lists(folder)
    (folder / "data.yaml").unlink()
    put(folder / "classes.txt", "a\n")


def folders_without_keys(folder):
    roboflow(folder)
    put(folder / "data.yaml", "names: [a]\n")


LAYOUTS = [
    roboflow, ultralytics, ultralytics_lists, lists_of_another_machine, cvat_yolo,
    lists_without_yaml, folders_without_keys,
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_of_every_layout(layout, tmp_path):
    folder = tmp_path / "train" / "set"  # a folder above the dataset names no split
    layout(folder)
    dataset = load(folder, format="yolo")
    assert by_split(dataset) == {"train": ["train0.jpg"], "val": ["valid0.jpg"]}
    assert dataset.classes == ("a",)
    assert kinds(dataset) == []
    assert [e.path.name for e in read(folder, split="valid")] == ["valid0.jpg"]


def test_a_dataset_without_splits_has_none_from_the_folders_above_it(tmp_path):
    pair(tmp_path / "val" / "set", "a")
    put(tmp_path / "val" / "set" / "data.yaml", "names: [a]")
    assert load(tmp_path / "val" / "set").splits == ()


@pytest.mark.parametrize("path", ["../datasets/set8", "set8", "nowhere/set8"])
def test_path_is_followed_from_the_yaml_and_from_datasets(path, tmp_path):
    home = tmp_path / "datasets" / "set8"
    pair(home, "train/t")
    yaml = put(tmp_path / "cfg" / "set8.yaml", f"path: {path}\ntrain: images/train\nnames: [a]\n")
    if path.startswith("nowhere"):
        with pytest.raises(DataError, match="no YOLO label files in it"):
            load(yaml)
    else:
        assert by_split(load(yaml)) == {"train": ["t.jpg"]}


def test_what_splits_name_and_is_not_there_is_listed(tmp_path):
    ultralytics_lists(tmp_path)
    put(tmp_path / "val.txt", "images/valid0.jpg\nimages/gone.jpg\n")
    put(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\ntest: images/test\nnames: [a]\n")
    said = {p.detail for p in load(tmp_path).problems}
    assert said == {
        "test: images/test is not there",
        "1 of 2 images are not here, such as 'images/gone.jpg'",
    }


def test_an_image_in_train_and_val_is_in_both_and_listed(tmp_path):
    ultralytics_lists(tmp_path)
    put(tmp_path / "val.txt", "images/valid0.jpg\nimages/train0.jpg\n")
    dataset = load(tmp_path)
    assert by_split(dataset)["val"] == ["train0.jpg", "valid0.jpg"]
    assert [p.detail for p in dataset.problems] == [
        "1 images are in train and in val: what is learnt is then tested"
    ]


def test_a_list_never_names_an_image_of_another_folder(tmp_path):
    pair(tmp_path, "train/0")
    put(tmp_path / "val.txt", "images/val/0.jpg\n")
    put(tmp_path / "data.yaml", "train: images/train\nval: val.txt\nnames: [a]\n")
    dataset = load(tmp_path)
    assert by_split(dataset) == {"train": ["0.jpg"]}
    assert kinds(dataset) == ["split-missing"]


@pytest.mark.parametrize("layout", [ultralytics, ultralytics_lists])
def test_splits_are_written_and_come_back(layout, tmp_path):
    layout(tmp_path / "in")
    if layout is ultralytics_lists:
        put(tmp_path / "in" / "val.txt", "images/valid0.jpg\nimages/train0.jpg\n")
    dataset = load(tmp_path / "in")
    convert(dataset, "yolo", tmp_path / "out", copy_images=True)
    assert by_split(load(tmp_path / "out")) == by_split(dataset)
    assert (tmp_path / "out" / "labels" / "train" / "train0.txt").is_file()
    assert (tmp_path / "out" / "images" / "train" / "train0.jpg").is_file()
    convert(dataset, "voc", tmp_path / "voc", copy_images=True)
    assert by_split(load(tmp_path / "voc")) == by_split(dataset)


def test_splits_that_number_their_images_alike_can_be_written(tmp_path):
    for split in ("train", "val"):
        pair(tmp_path / "in", f"{split}/0")
    put(tmp_path / "in" / "data.yaml", "names: [a]\n")
    convert(load(tmp_path / "in"), "yolo", tmp_path / "out", copy_images=True)
    assert by_split(load(tmp_path / "out")) == {"train": ["0.jpg"], "val": ["0.jpg"]}


# Where files lie.


def test_labels_go_with_the_images_of_the_mirrored_folder_at_any_depth(tmp_path):
    for site, row in (("siteA/cam1", "0"), ("siteB/cam1", "1")):
        pair(tmp_path, f"train/{site}/0", row + ROW[1:])
    put(tmp_path / "data.yaml", "train: images/train\nnames: [a, b]\n")
    dataset = load(tmp_path)
    pairs = {e.path.parts[-3]: dataset.classes[e.annotations.labels[0]] for e in dataset}
    assert pairs == {"siteA": "a", "siteB": "b"}
    assert kinds(dataset) == []


@pytest.mark.parametrize(
    "names",
    [("c", "train/a", "val/b"), ("a", "sub/deep/er/b"), ("train/a", "test/batch1/b")],
)
def test_no_layout_hides_another(names, tmp_path):
    for name in names:
        pair(tmp_path, name)
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert (len(dataset), kinds(dataset)) == (len(names), [])


def test_projects_side_by_side_are_all_read(tmp_path):
    pair(tmp_path / "a", "0")
    pair(tmp_path / "b" / "c", "0")
    put(tmp_path / "a" / "classes.txt", "x\n")
    put(tmp_path / "b" / "c" / "classes.txt", "x\n")
    assert len(load(tmp_path)) == 2


def test_label_files_of_one_image_in_two_places_are_listed(tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "labels" / "train" / "a.txt", "0 0.1 0.1 0.1 0.1\n")
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert (len(dataset), kinds(dataset)) == (1, ["image-claimed-twice"])
    assert "labels/a.txt" in dataset.problems[0].detail


def test_two_images_of_one_stem_are_listed(tmp_path):
    pair(tmp_path, "a")
    image(tmp_path / "images" / "a.png", 50)
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert dataset[0].path.name == "a.jpg"
    assert [p.detail for p in dataset.problems] == [
        "'a.jpg' is used, but 'a.png' has the same stem"
    ]


def test_images_from_outside_of_the_folder_are_a_guess(tmp_path):
    pair(tmp_path, "ours/labels/1", labels=".", images=".")
    shutil.move(tmp_path / "ours" / "labels" / "1.jpg", tmp_path / "1.jpg")
    put(tmp_path / "ours" / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path / "ours")
    assert "images-guessed" in kinds(dataset) or len(dataset) == 0


def test_stray_files_are_listed_and_the_others_are_read(tmp_path):
    pair(tmp_path, "a")
    pair(tmp_path, "b", "")
    put(tmp_path / "data.yaml", "names: [a]\n")
    put(tmp_path / "labels" / "._a.txt", "\x00\x05")
    put(tmp_path / "README.txt", "Read me.\n")
    put(tmp_path / "notes.txt", "call mum\n")
    (tmp_path / "labels" / "c.TXT").write_text(ROW)
    image(tmp_path / "images" / "c.JPG")
    dataset = load(tmp_path)
    assert len(dataset) == 3
    assert [(p.kind, p.file[-9:]) for p in dataset.problems if p.file.endswith("txt")] == [
        ("file-unread", "notes.txt")
    ]
    assert kinds(dataset) == ["file-unread", "file-unread"]


@pytest.mark.parametrize("first", ["\ufeff" + ROW, "cat 0.5 0.5 0.5 0.5\n", "", "# made by x\n"])
def test_the_first_file_does_not_decide_alone(first, tmp_path):
    for name in "abc":
        pair(tmp_path, name, labels=".", images=".")
    (tmp_path / "a.txt").write_text(first, encoding="utf-8")
    put(tmp_path / "classes.txt", "x\n")
    assert recognises(tmp_path)
    assert load(tmp_path).num_objects == 2 + first.startswith("\ufeff")


def test_text_files_that_are_no_labels_are_no_dataset(tmp_path):
    for name in "abc":
        put(tmp_path / f"{name}.txt", "some words\n")
    put(tmp_path / "d.txt")
    assert not recognises(tmp_path)


@pytest.mark.parametrize("data", [b"\x80\x81", b"0 \xe9\n"])
def test_a_label_file_that_is_no_text_costs_its_image_alone(data, tmp_path):
    pair(tmp_path, "a")
    pair(tmp_path, "b")
    (tmp_path / "labels" / "a.txt").write_bytes(data)
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert [e.path.name for e in dataset] == ["b.jpg"]  # a is no image without objects
    assert kinds(dataset) == ["annotation-invalid"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_folders_are_no_label_files(tmp_path):
    pair(tmp_path, "a")
    os.mkfifo(tmp_path / "labels" / "b.txt")
    (tmp_path / "labels" / "c.txt").mkdir()
    os.mkfifo(tmp_path / "images" / "b.jpg")
    put(tmp_path / "data.yaml", "names: [a]\n")
    assert len(load(tmp_path)) == 1


def test_links_in_a_circle_end(tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "data.yaml", "names: [a]\n")
    (tmp_path / "labels" / "again").symlink_to(tmp_path)
    assert len(load(tmp_path)) == 1


# Names.


def test_a_names_file_is_of_its_own_folder(tmp_path):
    for folder, names in (("a", "alfa\nbeta\ngamma\n"), ("b", "gamma\nalfa\nbeta\n")):
        pair(tmp_path, f"{folder}/{folder}", labels=".", images=".")
        put(tmp_path / folder / "classes.txt", names)
    dataset = load(tmp_path)
    assert taught(dataset) == {"a.jpg": ["alfa"], "b.jpg": ["gamma"]}
    assert kinds(dataset) == ["class-names-differ"]
    assert dataset.class_ids == (0, 1, 2)


def test_names_files_that_agree_as_far_as_they_go_keep_their_numbers(tmp_path):
    for folder, names in (("a", "x\ny\n"), ("b", "x\ny\nz\n")):
        pair(tmp_path, f"{folder}/{folder}", "1" + ROW[1:], labels=".", images=".")
        put(tmp_path / folder / "classes.txt", names)
    dataset = load(tmp_path)
    assert (dataset.classes, kinds(dataset)) == (("x", "y", "z"), [])
    assert taught(dataset) == {"a.jpg": ["y"], "b.jpg": ["y"]}


def test_names_of_data_yaml_count_and_others_that_differ_are_listed(tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "labels" / "classes.txt", "y\nx\n")
    put(tmp_path / "data.yaml", "names: [x, y]\n")
    dataset = load(tmp_path)
    assert (taught(dataset), kinds(dataset)) == ({"a.jpg": ["x"]}, ["class-names-differ"])
    assert "class 0 is 'x' here and 'y' in" in dataset.problems[0].detail


NO_DATA_YAML = [
    "task: detect\nmodel: names.pt\n",  # the word, not the key
    "comment: |\n  names: [wrong]\n",  # below the top
    "nc: 3\nbackbone: []\nhead: []\n",  # a model
    "- names\n",
    "names: wrong\n",
    "a: [\nnames: [wrong]\n",  # broken, and not called data.yaml
    "path: ../other\ntrain: images\nnames: [wrong]\n",  # another dataset's
]


@pytest.mark.parametrize("text", NO_DATA_YAML)
def test_a_yaml_that_is_no_data_yaml_of_this_dataset_names_nothing(text, tmp_path):
    folder = tmp_path / "set"
    pair(folder, "a")
    put(folder / "classes.txt", "right\n")
    image(tmp_path / "other" / "images" / "x.jpg")
    put(folder / "args.yaml", text)
    assert load(folder).classes == ("right",)


def test_two_data_yaml_that_differ_are_listed(tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "data.yaml", "names: [x]\n")
    put(tmp_path / "a.yaml", "names: [y]\n")
    dataset = load(tmp_path)
    assert (dataset.classes, kinds(dataset)) == (("x",), ["class-names-differ"])


@pytest.mark.parametrize("source", ["labels", "labels/train"])
def test_a_folder_of_labels_has_the_names_of_its_dataset(source, tmp_path):
    pair(tmp_path, "train/a")
    put(tmp_path / "data.yaml", "train: images/train\nnames: [x]\n")
    assert load(tmp_path / source).classes == ("x",)


@pytest.mark.parametrize(("nc", "listed"), [(2, []), (3, ["class-count"]), ("x", ["class-count"])])
def test_nc_is_held_against_names(nc, listed, tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "data.yaml", f"nc: {nc}\nnames: [x, y]\n")
    assert kinds(load(tmp_path)) == listed


def test_names_stay_as_they_are_written(tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "data.yaml", "names: [no, 007, 2024-13-45, '1e3']\nexported: 2024-13-45\n")
    assert load(tmp_path).classes == ("no", "007", "2024-13-45", "1e3")


# Rows.


@pytest.mark.parametrize("row", ["2147483648", "-1", "0.5", "nan", "1e999", "9" * 400])
def test_a_class_that_no_dataset_has_costs_its_row(row, tmp_path):
    pair(tmp_path, "a", ROW + row + ROW[1:])
    dataset = load(tmp_path, format="yolo")
    assert dataset.num_objects == 1
    assert "annotation-invalid" in kinds(dataset)


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "9" * 400, "-1e308"])
def test_a_number_without_bounds_costs_its_row(number, tmp_path):
    pair(tmp_path, "a", f"0 {number} 0.5 0.5 0.5\n{ROW}0 0.1 0.1 {number} 0.9 0.9 0.9\n")
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[10, 15, 30, 45]])


POSES = [  # kpt_shape, numbers after the box, kept
    ("[2, 3]", "0.5 0.5 2 0.5 0.5 2", True),
    ("[2, 3]", "0.5 0.5 0.5 0.5", False),
    ("[2, 2]", "0.5 0.5 0.5 0.5", True),
    ("[2, 2]", "0.5 0.5 2 0.5 0.5 2", False),
    ("[17, 3]", " ".join(["0.5 0.5"] * 17), False),
]


@pytest.mark.parametrize(("shape", "numbers", "kept"), POSES)
def test_rows_of_a_pose_dataset_are_poses_or_listed(shape, numbers, kept, tmp_path):
    pair(tmp_path, "a", ROW.strip() + f" {numbers}\n")
    put(tmp_path / "data.yaml", f"names: [a]\nkpt_shape: {shape}\n")
    dataset = load(tmp_path)
    assert dataset.num_objects == kept
    assert dataset.outlines["polygon"] == 0
    assert kinds(dataset) == ([] if kept else ["annotation-invalid"])


def test_a_box_in_a_pose_dataset_is_kept_without_keypoints_and_listed(tmp_path):
    pair(tmp_path, "a", ROW.strip() + " 0.5 0.5 2\n0 0.5 0.5 0.25 0.5\n")
    put(tmp_path / "data.yaml", "names: [a]\nkpt_shape: [1, 3]\n")
    dataset = load(tmp_path)
    assert [(p.kind, p.action, p.annotation_id) for p in dataset.problems] == [
        ("keypoints-invalid", "kept", "a#2")
    ]
    np.testing.assert_array_equal(dataset[0].annotations.keypoints[:, 0, 2], [2, 0])


@pytest.mark.parametrize(
    ("point", "visible"),
    [("0 0", 0), ("0 0.5", 2), ("0.5 0", 2), ("0.5 0.5", 2), ("-1 0.5", 0), ("0.5 -1", 0)],
)
def test_a_keypoint_of_two_numbers_is_unlabelled_at_the_origin_alone(point, visible, tmp_path):
    pair(tmp_path, "a", f"{ROW.strip()} {point}\n")
    put(tmp_path / "data.yaml", "names: [a]\nkpt_shape: [1, 2]\n")
    assert load(tmp_path)[0].annotations.keypoints[0, 0, 2] == visible


@pytest.mark.parametrize(
    "points", ["0.5 nan 2", "nan nan nan", "0.5 0.5 7", "0.5 0.5 1.5", "0.5 inf 2", "0.5 0.5 -1"]
)
def test_keypoints_that_cannot_be_meant_cost_the_keypoints(points, tmp_path):
    pair(tmp_path, "a", f"{ROW.strip()} {points}\n{ROW.strip()} 0.5 0.25 1\n")
    put(tmp_path / "data.yaml", "names: [a]\nkpt_shape: [1, 3]\n")
    dataset = load(tmp_path)
    assert [
        (p.kind, p.annotation_id) for p in dataset.problems if p.kind != "duplicate-object"
    ] == [("keypoints-invalid", "a#1")]
    np.testing.assert_array_equal(dataset[0].annotations.keypoints, [[[0, 0, 0]], [[10, 30, 1]]])


@pytest.mark.parametrize(
    ("numbers", "count"),
    [("0.5 0.5 2", 1), ("0.4 0.5 1", 1), ("0.4 0.5 2 0.5 0.4 0", 2), ("0.4 0.5 1 " * 3, 3)],
)
def test_rows_that_can_only_be_poses_are_asked_about(numbers, count, tmp_path):
    pair(tmp_path, "a", f"{ROW.strip()} {numbers}\n{ROW}")
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert dataset.num_objects == 1
    assert f"say kpt_shape: [{count}, 3] in data.yaml" in dataset.problems[0].detail


def test_rows_that_may_be_outlines_stay_outlines(tmp_path):
    square = "0 0 0 1 0 1 1 0 1 0 0.5\n"  # 0 and 1 where a pose has its visibilities
    pair(tmp_path, "a", square)
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert (dataset.outlines["polygon"], kinds(dataset)) == (1, [])


def test_outlines_that_look_like_poses_are_listed(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        points = " ".join(f"{v:.4f}" for v in rng.uniform(0.36, 0.64, 34))
        pair(tmp_path, name, f"0 0.5 0.5 0.3 0.3 {points}\n")
    put(tmp_path / "data.yaml", "names: [a]\n")
    dataset = load(tmp_path)
    assert kinds(dataset) == ["rows-look-like-poses"]
    assert "say kpt_shape: [17, 2]" in dataset.problems[0].detail


# data.yaml.

ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = [
    (ALIASES + "names: *i\n", "the name of class 0 is no text"),
    ("names: " + "[" * 1500 + "]" * 1500, "nested too deeply"),
    ("names: {.inf: a}", "names has keys that are no numbers, such as .inf"),
    ("names: {-1: a}", "names has keys that are no numbers, such as -1"),
    ("names: {1: [a]}", "the name of class 1 is no text"),
    ("names: [a, ]\nnames: [a, '']", "the name of class 1 is no text"),
    ("names: [a]\nkpt_shape: [1000000000, 3]", "kpt_shape is \\[1000000000, 3\\]"),
    ("names: [a]\nkpt_shape: [0, 3]", "kpt_shape is \\[0, 3\\]"),
    ("names: [a]\nkpt_shape: {a: 1}", "kpt_shape is a mapping"),
    ("names: [a]\nkpt_shape: [2, 3]\nflip_idx: [1]", "flip_idx is \\[1\\]"),
    ("names: [a]\ntrain: {a: 1}", "train is a mapping; expected folders or lists"),
    ("names: [a]\ntrain: [[a]]", "train is \\[...\\]; expected folders or lists"),
    ("names: [a]\n\tb: c", "not valid YAML"),
    ('names: ["\\UFFFFFFFF"]', "not valid YAML"),
    ("names: &a [*a]", "not valid YAML|the name of class 0 is no text"),
    ("[1]", "the YAML holds no keys"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_a_data_yaml_that_says_nonsense_is_refused_by_name(text, message, tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "data.yaml", text)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "data.yaml")
    assert "data.yaml" in str(caught.value)
    assert len(str(caught.value)) < 600


HARMLESS = [
    "!!float abc",
    "!!int ''",
    "!!timestamp x",
    "!!bool x",
    "2024-13-45",
    "!!python/name:os.system x",
]


@pytest.mark.parametrize("value", HARMLESS)
def test_values_that_nobody_needs_are_not_built(value, tmp_path):
    pair(tmp_path, "a")
    put(tmp_path / "data.yaml", f"names: [a]\nx: {value}\n")
    assert load(tmp_path).classes == ("a",)


@pytest.mark.parametrize("path", ["a\\0b", "x" * 5000, "/", "~"])
def test_a_path_that_is_none_is_not_followed(path, tmp_path):
    file = put(tmp_path / "data.yaml", f'names: [a]\ntrain: "{path}x"\nval: "{path}"\n')
    facts = read_facts(file)
    assert facts.places()[0].get("train") is None


def test_keypoint_names_and_unknown_sides_are_read_and_written(tmp_path):
    pair(tmp_path / "in", "a", f"{ROW.strip()} 0.5 0.5 2 0.25 0.5 2\n")
    text = "names: [a]\nkpt_shape: [2, 3]\nkpt_names: {0: [nose, tail]}\n"
    put(tmp_path / "in" / "data.yaml", text)
    dataset = load(tmp_path / "in")
    assert dataset.keypoint_names == ("nose", "tail")
    assert dataset.keypoint_flips is None
    convert(dataset, "yolo", tmp_path / "out", copy_images=True)
    assert "flip_idx" not in (tmp_path / "out" / "data.yaml").read_text()
    assert load(tmp_path / "out").keypoint_names == ("nose", "tail")
    convert(load(tmp_path / "in", keypoint_flips=[]), "yolo", tmp_path / "none")
    assert read_facts(tmp_path / "none" / "data.yaml").flips == []
