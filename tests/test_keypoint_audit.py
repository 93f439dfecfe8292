"""What becomes of a dataset's keypoints, and which grid of cells suits them."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import ytrue
from ytrue import Annotations, Example, viz
from ytrue.contract import POINT_OUTCOMES
from ytrue.encoders import KeypointGridEncoder, from_config
from ytrue.errors import DataError
from ytrue.viz.tuning import verdict


class People:
    """A dataset of given keypoints, (N, K, 3) for each image, in 100 x 200 images."""

    classes = ("person",)

    def __init__(self, *keypoints, names=("nose", "left $ eye"), crowd=None):
        self.keypoint_names = names
        self.parts = [
            Annotations(
                np.zeros((len(k), 4)), [0] * len(k), crowd if n == 0 else None,
                keypoints=np.reshape(k, (len(k), len(names) or 1, 3)),
            )
            for n, k in enumerate(keypoints)
        ]  # fmt: skip

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return Example(f"im{index}", f"{index}.jpg", 100, 200, self.parts[index])


def scattered(seed=0, images=5, count=2):
    rng = np.random.default_rng(seed)
    parts = []
    for n in rng.integers(0, 9, images):
        yx = rng.normal(0.5, 0.25, (n, count, 2)) * (100, 200)
        parts.append(np.concatenate((yx, rng.integers(0, 3, (n, count, 1))), axis=2))
    names = tuple(f"point {k}" for k in range(count))
    return People(*parts, names=names)


def test_every_point_is_counted_exactly_once():
    nan = np.nan
    dataset = People(
        [[(10, 10, 2), (10, 10, 2)], [(10, 10, 1), (nan, 3, 2)], [(-5, 5, 2), (0, 0, 0)], [(50, 50, 2)] * 2],
        [[(99, 199, 2), (20, 150, 2)]],
        np.zeros((0, 2, 3)),
        crowd=[False, False, False, True],
    )  # fmt: skip
    encoder = KeypointGridEncoder((100, 200), (2, 2), num_classes=2)
    report = ytrue.audit(dataset, encoder)
    assert report.outcomes() == {
        "matched": 3, "unlabelled": 1, "hidden": 0, "crowd": 2, "not-finite": 1, "outside": 1,
        "padding": 0, "taken": 2,
    }  # fmt: skip
    assert (report.num_images, report.num_points) == (3, 10)
    assert report.lost_share == 4 / 7
    assert report.occupied_share == 3 / 12
    assert report.by_class() == {
        "nose": {"points": 4, "lost": 2, "taken": 1},
        "left $ eye": {"points": 3, "lost": 2, "taken": 1},
    }
    assert report.by_grid() == {"2x2": {"points": 7, "lost": 4, "taken": 2}}
    assert report.worst_images() == [{"image_id": "im0", "points": 5, "lost": 4}]
    assert {row["reason"] for row in report.lost_points()} == {"not-finite", "outside", "taken"}
    assert report.lost_points()[0] == {
        "image_id": "im0", "object": 0, "landmark": 1, "class": "left $ eye", "reason": "taken"
    }  # fmt: skip
    assert re.match(
        r"4 of 7 points own no slot and teach nothing \(1 not-finite", report.advice()[0]
    )
    assert "Points lost to others in their cell: 2 on 2x2." in report.advice()[1]
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["outcomes"] == report.outcomes()
    assert from_config(plain["encoder"]) == encoder


def test_points_are_placed_as_the_pipeline_places_them():
    encoder = KeypointGridEncoder((100, 100), (4, 4), num_classes=1)
    dataset = People([[(100, 200, 2)]], [[(101, 200, 2)]], names=("nose",))
    letterboxed = ytrue.audit(dataset, encoder)  # a 50 x 100 image above padding
    assert letterboxed.outcomes()["matched"] == letterboxed.outcomes()["padding"] == 1
    assert ytrue.audit(dataset, encoder, resize="stretch").outcomes()["outside"] == 1


def test_several_grids_are_counted_apart():
    dataset = scattered()
    report = ytrue.audit(
        dataset, KeypointGridEncoder((100, 200), [(20, 40), (1, 1)], num_classes=2)
    )
    rows = report.by_grid()
    assert rows["20x40"]["points"] == rows["1x1"]["points"] == report.wanted.sum()
    assert rows["1x1"]["taken"] > rows["20x40"]["taken"]
    alone = ytrue.audit(dataset, KeypointGridEncoder((100, 200), "global", num_classes=2))
    assert alone.outcomes()["taken"] == rows["1x1"]["taken"]
    assert report.lost_share < alone.lost_share


def test_a_dataset_without_points_is_said_to_be_without():
    report = ytrue.audit(People(), KeypointGridEncoder(64, (2, 2), num_classes=2))
    assert report.advice() == [
        "No labelled keypoint in the dataset: a network would learn background only."
    ]
    assert json.loads(json.dumps(report.to_json()))["points"] == 0


def test_audits_of_points_print(capsys):
    report = ytrue.audit(scattered(), KeypointGridEncoder((100, 200), (2, 2), num_classes=2))
    console = Console(width=80, force_terminal=False)
    viz.print_audit(report, console)
    viz.print_audit(
        ytrue.audit(People(), KeypointGridEncoder(9, "global", num_classes=60)), console
    )
    said = capsys.readouterr().out
    assert f"{report.outcomes()['taken']} taken" in said
    assert "point 1" in said


@pytest.mark.parametrize("slots", ["any", "fixed"])
@pytest.mark.parametrize("hidden", ["teach", "skip"])
def test_tuning_counts_what_the_encoder_loses(slots, hidden):
    dataset = scattered(1, images=9, count=3)
    tuning = ytrue.tune_keypoints(
        dataset,
        (64, 80),
        strides=(4, 16, 48),
        points_per_cell=(1, 3, 2),
        slots=slots,
        hidden=hidden,
    )
    assert len(tuning.choices) == 4 * (3 if slots == "any" else 1)
    assert [c.output_size for c in tuning.choices] == sorted(c.output_size for c in tuning.choices)
    for choice in tuning.choices:
        encoder = tuning.encoder(choice)
        report = ytrue.audit(dataset, encoder)
        matched = report.outcomes()["matched"]
        assert choice.lost == report.outcomes()["taken"]
        assert tuning.points == matched + choice.lost
        assert choice.lost_share == choice.lost / tuning.points
        assert choice.occupied_slots == pytest.approx(report.occupied_share)
        packed = encoder.pack(encoder.encode(dataset[0].annotations))
        assert choice.output_size == next(iter(packed.values())).size
        state = np.stack(
            [
                encoder.explain(one).state.reshape(-1, encoder.points_per_cell)
                for one in placed(dataset, encoder)
            ]
        )
        assert choice.occupied_cells == pytest.approx(state.any(axis=-1).mean())
        assert sum(choice.offset_y) == sum(choice.offset_x) == tuning.points
    unwanted = sum(ytrue.audit(dataset, tuning.encoder(tuning.choices[0])).outcomes()[name]
                   for name in POINT_OUTCOMES if name not in ("matched", "taken", "unlabelled"))  # fmt: skip
    assert tuning.not_taught == unwanted


def placed(dataset, encoder):
    from ytrue.resizing import place

    for k in range(len(dataset)):
        example = dataset[k]
        yield place((example.height, example.width), encoder.image_size, "letterbox").apply(
            example.annotations
        )


def test_the_smallest_output_that_loses_little_enough_is_recommended():
    apart = [[(y, x, 2)] for y in (10, 30, 50, 70, 90) for x in (10, 110)]
    tuning = ytrue.tune_keypoints(
        People(apart, names=("nose",)), (100, 200), strides=(20, 50), points_per_cell=(1, 2, 5, 10)
    )
    chosen = tuning.recommended
    # 10 points: one cell of ten (30 numbers) holds all; 2 x 4 cells of 5 have 120, 5 x 10 of 1 150
    assert (chosen.grid, chosen.points_per_cell, chosen.output_size) == ((1, 1), 10, 30)
    some = ytrue.tune_keypoints(
        People(apart, names=("nose",)),
        (100, 200),
        strides=(20, 50),
        points_per_cell=(1, 2),
        max_lost=0.2,
    )
    assert (some.recommended.grid, some.recommended.lost) == ((2, 4), 2)
    none = ytrue.tune_keypoints(
        People(apart, names=("nose",)), (100, 200), strides=(100,), points_per_cell=(1,)
    )
    assert none.recommended is None
    with pytest.raises(ValueError, match=r"every candidate loses more than 1.00% of the points"):
        none.encoder()
    assert none.to_json()["recommended"] is None


def test_offsets_are_counted_in_tenths():
    tuning = ytrue.tune_keypoints(
        People([[(0, 5, 2)], [(100, 200, 2)]], names=("nose",)), (100, 200), strides=(50,)
    )
    fine = next(choice for choice in tuning.choices if choice.grid == (2, 4))
    assert fine.offset_y == (1, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert fine.offset_x == (0, 1, 0, 0, 0, 0, 0, 0, 0, 1)  # 5 of 50 pixels


def test_tuning_by_object_classes():
    tuning = ytrue.tune_keypoints(scattered(), 64, classes="object")
    assert tuning.num_classes == 1
    assert tuning.encoder(tuning.choices[0]).classes == "object"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ytrue.tune_keypoints(scattered(), 64, max_lost=1), "max_lost=1: expected a number"),
        (lambda: ytrue.tune_keypoints(scattered(), 64, points_per_cell=()), r"points_per_cell=\(\): expected"),
        (lambda: ytrue.tune_keypoints(scattered(), 64, slots="x"), "slots='x': expected one of any, fixed"),
        (lambda: ytrue.tune_keypoints(scattered(), 64, strides=(0,)), "stride=0: expected whole pixels"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "dataset", [People(), People([[(1, 1, 0)]], names=()), People([[(1, -1, 2)] * 2])]
)
def test_without_a_point_to_count_there_is_nothing_to_tune(dataset):
    with pytest.raises(DataError, match="no labelled keypoint inside an image"):
        ytrue.tune_keypoints(dataset, 64)


def test_tuning_shows_itself(capsys):
    console = Console(width=80, force_terminal=False)
    tuning = ytrue.tune_keypoints(scattered(2), (64, 128), max_lost=0.3)
    viz.print_tuning(tuning, console)
    said = capsys.readouterr().out
    chosen = tuning.recommended
    assert said.splitlines()[0].startswith(f"5 images, {tuning.points} points at 64x128")
    assert len(re.findall(r"^(?:global|\d+x\d+) ", said, re.MULTILINE)) == len(tuning.choices)
    assert "Recommended: " in said
    assert f"{chosen.lost_share:.2%}" in said
    figure = viz.show_tuning(tuning)
    assert len(figure.axes[0].lines) == len({c.grid for c in tuning.choices}) + 2
    assert viz.png_bytes(figure)
    strict = ytrue.tune_keypoints(
        scattered(2), (64, 128), strides=(64,), points_per_cell=(1,), max_lost=0
    )
    viz.print_tuning(strict, console)
    assert "No candidate loses at most 0.00%" in capsys.readouterr().out
    assert viz.png_bytes(viz.show_tuning(strict))


@pytest.mark.parametrize("stride", [4, 8])
def test_cells_that_the_network_lacks_are_not_just_recommended(stride):
    tuning = ytrue.tune_keypoints(
        scattered(2), (60, 128), strides=(stride,), points_per_cell=(8,), max_lost=0.3
    )
    tuning = replace(tuning, choices=tuple(c for c in tuning.choices if c.grid != (1, 1)))
    said = verdict(tuning)
    assert f"Recommended: {-(-60 // stride)}x{128 // stride} cells" in said
    assert ("tune with strides from 8 on" in said) == (stride == 4)


def test_coco_keypoints_are_landmarks(shared_data):
    from ytrue.datasets import load

    file = (
        shared_data / "coco_tiny50_ccby_train" / "annotations" / "person_keypoints_train2017.json"
    )
    dataset = load(file)
    encoder = KeypointGridEncoder(512, stride=8, num_classes=17, points_per_cell=17, slots="fixed")
    report = ytrue.audit(dataset, encoder)
    assert report.outcomes()["matched"] + report.outcomes()["taken"] == 62
    assert report.classes[:2] == ("nose", "left_eye")


def dots(axes):
    return [
        len(collection.get_offsets())
        for collection in axes.collections
        if hasattr(collection, "get_sizes")
    ]


def test_every_point_with_a_slot_and_every_lost_one_is_drawn():
    encoder = KeypointGridEncoder((100, 200), [(4, 8), (1, 1)], num_classes=2, points_per_cell=2)
    explained = encoder.explain(scattered(0, images=1)[0].annotations)
    figure = viz.show_points(np.zeros((100, 200, 3), np.uint8), explained)
    outcomes = np.array(explained.outcome)
    for level, axes in enumerate(figure.axes):
        visible, hidden, elsewhere, lost = dots(axes)
        assert visible + hidden == (explained.slot[level] >= 0).sum() > 0
        assert visible + hidden + elsewhere == (outcomes == "matched").sum()
        assert lost == len(explained.lost) > 0
        assert len(axes.patches) == len(
            np.unique(explained.slot[level][explained.slot[level] >= 0] // 2)
        )
    assert explained._repr_png_().startswith(b"\x89PNG")
    assert encoder.explain(Annotations())._repr_png_()
    with pytest.raises(ValueError, match="the frame is"):
        viz.show_points(np.zeros((9, 9, 3), np.uint8), explained)
