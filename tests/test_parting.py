"""What of a dataset with splits is learnt and validated on, and what is said of it."""

from dataclasses import replace

import pytest

from ytrue.datasets import load, write_shapes
from ytrue.datasets.parting import learnt_part, validation_part


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return load(write_shapes(tmp_path_factory.mktemp("shapes"), num_images=6, image_size=(32, 48)))


def tagged(whole, *splits):
    return replace(whole, images=replace(whole.images, splits=[tuple(s.split()) for s in splits]))


def ids(dataset):
    return None if dataset is None else list(dataset.images.ids)


CASES = [
    # splits of the six images; those learnt; those validated on; what is said
    (["train"] * 3 + ["val"] * 2 + ["test"], [0, 1, 2], [3, 4], "3 of 6 images", "2 of 6 images"),
    (["train"] * 3 + ["test"] * 3, [0, 1, 2], None, "learns its split train, 3 of 6", ""),
    (["train"] * 6, [0, 1, 2, 3, 4, 5], None, "", ""),
    (["val"] * 6, [0, 1, 2, 3, 4, 5], None, "", ""),
    (
        ["val"] * 3 + ["test"] * 3,
        [0, 1, 2, 3, 4, 5],
        None,
        "learns all of its splits val, test",
        "",
    ),
    (["train"] * 3 + ["train val"] + ["val"] * 2, [0, 1, 2, 3], [3, 4, 5], "4 of 6", "3 of 6"),
]


@pytest.mark.parametrize(("splits", "learnt", "held", "said", "on"), CASES)
def test_train_is_learnt_and_val_validated_on(whole, splits, learnt, held, said, on):
    dataset = tagged(whole, *splits)
    all_ids = ids(dataset)
    part, words = learnt_part(dataset)
    assert ids(part) == [all_ids[row] for row in learnt]
    assert (said in words) if said else words == ""
    other, words = validation_part(dataset, None)
    assert ids(other) == (None if held is None else [all_ids[row] for row in held])
    assert (on in words) if on else words == ""


def test_a_dataset_without_splits_is_learnt_whole(whole):
    assert learnt_part(whole) == (whole, "")
    assert validation_part(whole, None) == (None, "")


def test_given_data_wins_and_of_several_splits_it_is_val(whole):
    dataset = tagged(whole, *["train"] * 3, *["val"] * 3)
    assert validation_part(dataset, whole) == (whole, "")
    other, words = validation_part(whole, tagged(whole, "train", "train", *["val"] * 4))
    assert ids(other) == ids(whole)[2:]
    assert "validates on its split val, 4 of 6 images" in words


def test_parts_are_parted_no_further(whole):
    dataset = tagged(whole, *["train"] * 3, *["val"] * 3)
    part, _ = learnt_part(dataset)
    assert learnt_part(part)[1] == ""
    assert ids(learnt_part(part)[0]) == ids(part)
    assert validation_part(part, None) == (None, "")
