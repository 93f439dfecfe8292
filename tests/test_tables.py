"""What `ytrue inspect` says of a dataset."""

import io
from dataclasses import replace

import numpy as np
import pytest
from datafiles import image, voc
from rich.console import Console

from ytrue import viz
from ytrue.datasets import load, write_shapes
from ytrue.errors import Problem


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(write_shapes(tmp_path_factory.mktemp("shapes"), num_images=4, image_size=(48, 64)))


def said(dataset):
    console = Console(file=io.StringIO(), width=200)
    viz.print_dataset(dataset, console)
    viz.print_problems(dataset, console)
    return console.file.getvalue()


def test_splits_are_counted_and_reading_them_as_one_is_said(dataset):
    assert "split" not in said(dataset)
    of = [("train",), ("train", "val"), ("train",), ("val",)]
    several = replace(dataset, images=replace(dataset.images, splits=of))
    assert (
        "splits: train (3 images), val (2 images); read as one dataset: --split reads one of them"
        in said(several)
    )
    one = replace(dataset, images=replace(dataset.images, splits=[("val",)] * 4))
    assert "split: val (4 images)\n" in said(one)


@pytest.mark.parametrize(
    ("flips", "words"),
    [
        (None, "left and right: not known, so nothing is mirrored; --flip-pairs says it"),
        ((), "left and right: no keypoint has a side"),
        (((0, 2), (1, 3)), "left and right: a flip swaps left and right, top and bottom"),
    ],
)
def test_who_knows_left_and_right(flips, words, dataset):
    assert words in said(replace(dataset, keypoint_flips=flips))
    unnamed = replace(dataset, keypoint_flips=((0, 2),), keypoint_names=())
    assert "a flip swaps 0 and 2" in said(unnamed)


def test_a_dataset_of_crowds_only_teaches_nothing(dataset):
    crowd = np.ones(len(dataset.objects), bool)
    only = replace(dataset, objects=replace(dataset.objects, crowd=crowd))
    assert f"{len(crowd)} objects: all of them crowds, which teach nothing" in said(only)
    crowd = crowd.copy()
    crowd[0] = False
    most = replace(dataset, objects=replace(dataset.objects, crowd=crowd))
    assert f"{len(crowd)} objects ({len(crowd) - 1} crowd)" in said(most)


def test_what_corners_count_from_is_said(tmp_path):
    voc(tmp_path / "a.xml", [("cat", (1, 1, 20, 20), 0)])
    image(tmp_path / "a.jpg")
    assert "pixel corners count from" in said(load(tmp_path))


def test_one_is_no_plural(tmp_path):
    voc(tmp_path / "a.xml", [("cat", (2, 2, 20, 20), 0)])
    image(tmp_path / "a.jpg")
    assert "1 image, 1 object, 1 class\n" in said(load(tmp_path))


def test_what_a_conversion_leaves_out_is_told_once_each_with_its_count():
    lost = [
        Problem("field-lost", "X holds no [b]outline", "dropped", "a.json", 1, k) for k in range(9)
    ]
    lost += [Problem("field-lost", "X holds no crowd flag", "dropped", "a.json", 1, 4)]
    console = Console(file=io.StringIO(), width=200)
    viz.print_losses(lost, console)
    assert console.file.getvalue().splitlines() == [
        "not written, or not as it was: 10 problems",
        "  9 x such as a.json, image 1, annotation 0: X holds no [b]outline",
        "  a.json, image 1, annotation 4: X holds no crowd flag",
    ]
    many = [Problem("field-lost", f"X holds no {k}", "dropped", "a") for k in range(21)]
    for count, rest in ((20, []), (21, ["  ... and 1 more (--json lists all)"])):
        console = Console(file=io.StringIO(), width=200)
        viz.print_losses(many[:count], console)
        assert console.file.getvalue().splitlines()[21:] == rest
