"""Splits by name, and the subset of a dataset that is one of them."""

import pytest

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.loading import with_flips
from ytrue.datasets.splits import in_usual_order, is_split_name, split_name
from ytrue.errors import DataError


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("train", "train"),
        ("Train2017", "train"),
        ("valid", "val"),
        ("validation", "val"),
        ("val_2014", "val"),
        ("test-2015", "test"),
        ("trainval", "trainval"),
        ("fold3", "fold3"),
        ("train12", "train12"),  # no year
    ],
)
def test_usual_names_are_one_and_others_stay(name, called):
    assert split_name(name) == called


def test_only_usual_names_make_a_folder_a_split():
    assert is_split_name("valid")
    assert is_split_name("VAL2017")
    assert not is_split_name("training_data")
    assert not is_split_name("2017")


def test_the_usual_order():
    assert in_usual_order(["b", "test", "val", "a", "train", "val"]) == (
        "train", "val", "test", "a", "b",
    )  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    builder = DatasetBuilder(tmp_path, format="test", images=tmp_path)
    for k, splits in enumerate([("train",), ("val", "train"), ()]):
        row = builder.image(
            file="f", image_id=k, file_name=f"{k}.jpg", height=50, width=40, splits=splits
        )
        builder.object(row, label=0, box=(1, 2, 3 + k, 4), keypoints=[(1, 1, 2)] * 3)
        builder.problem("image-unlabelled", "test", "kept", image_id=k)
    builder.problem("class-unnamed", "test", "kept")
    return builder.finish(classes=["a"], class_ids=[1])


def test_a_split_has_its_images_objects_and_problems(dataset):
    assert dataset.splits == ("train", "val")
    val = dataset.split("valid")
    assert list(val.images.ids) == [1]
    assert val[0].annotations.boxes.tolist() == [[1, 2, 4, 4]]
    mine = [p for p in val.problems if p.kind != "images-missing"]
    assert [(p.kind, p.image_id) for p in mine] == [
        ("image-unlabelled", 1),
        ("class-unnamed", None),
    ]
    assert list(dataset.split("train").images.ids) == [0, 1]


def test_a_split_that_is_not_there_names_those_that_are(dataset):
    with pytest.raises(DataError, match=r"no split 'test': it has train, val; name one of them"):
        dataset.split("test")


@pytest.mark.parametrize("pairs", [[(0, 3)], [(0, 0)], [(0, 1), (1, 2)], [(0, 1, 2)], [(-1, 0)]])
def test_flips_that_are_no_pairs_are_refused(dataset, pairs):
    with pytest.raises(ValueError, match="expected pairs of different keypoints from 0 to 2"):
        with_flips(dataset, pairs)


def test_flips_are_taken(dataset):
    assert with_flips(dataset, [(2, 0)]).keypoint_flips == ((2, 0),)
    assert with_flips(dataset, []).keypoint_flips == ()
