"""tune_polygons: what it measures, by hand; what it recommends."""

import json
from pathlib import Path

import numpy as np
import pytest

import ytrue
from ytrue import Annotations, DataError, Example, tune_polygons
from ytrue.datasets import load, write_shapes
from ytrue.encoders import YoloEncoder


class Few:
    """A dataset of annotations alone."""

    classes = ("thing",)

    def __init__(self, *annotations, size=(64, 64)):
        self._examples = [
            Example(i, Path(f"unwritten-outline-{i}.png"), *size, one)
            for i, one in enumerate(annotations)
        ]

    def __len__(self):
        return len(self._examples)

    def __getitem__(self, index):
        return self._examples[index]


def outlined(*parts, **others):
    ring = np.concatenate([np.asarray(part, float) for part in parts])
    return Annotations([(*ring.min(axis=0), *ring.max(axis=0))], [0], polygons=[parts], **others)


SQUARE = [(8, 8), (8, 40), (40, 40), (40, 8)]


def test_a_square_comes_back_whole_whatever_the_bins():
    tuning = tune_polygons(Few(outlined(SQUARE)), 64, bins=(36, 8, 12, 8))
    assert [choice.bins for choice in tuning.choices] == [8, 12, 36]
    assert all(choice.mean_iou == choice.worst_iou == 1 for choice in tuning.choices)
    assert all(choice.kept_share == 1 for choice in tuning.choices)
    assert tuning.limit.mean_iou == 1
    assert tuning.recommended.bins == 8
    assert tuning.sizes == {"tiny": 0, "small": 0, "medium": 1, "large": 0}
    assert tuning.recommended.by_size == {"medium": 1.0}


def test_three_bins_keep_three_corners_of_a_square():
    """Bins of 120 degrees from the left: corners at 45, 135, 225, 315; 135 and 225 share one."""
    tuning = tune_polygons(Few(outlined(SQUARE)), 64, bins=(3,))
    (choice,) = tuning.choices
    assert choice.mean_iou == pytest.approx(0.5, abs=0.02)
    assert choice.kept_share == 0.75


def test_parts_holes_and_masks_are_compared_with_the_whole_object():
    other = [(50, 50), (50, 58), (58, 58), (58, 50)]  # a sixteenth of the square
    two = tune_polygons(Few(outlined(SQUARE, other)), 64, bins=(24,))
    assert two.several_parts == 1
    assert two.limit.mean_iou == pytest.approx(16 / 17)
    assert two.limit.mean_iou == two.choices[0].mean_iou
    ring = np.zeros((64, 64), np.uint8)
    ring[8:40, 8:40], ring[16:32, 16:32] = 1, 0
    mask = Annotations([(8, 8, 40, 40)], [0], masks=[ring])
    assert tune_polygons(Few(mask), 64, bins=(24,)).limit.mean_iou == pytest.approx(0.75)
    hull = tune_polygons(Few(outlined(SQUARE, other)), 64, bins=(24,), part_rule="hull")
    assert hull.several_parts == 0
    assert hull.limit.mean_iou < 16 / 17


def test_what_is_not_compared_is_counted():
    bare = Annotations([(8, 8, 40, 40)], [0])
    outside = outlined([(80, 80), (80, 90), (90, 90)])
    crowd = outlined(SQUARE, crowd=[True])
    flat = Annotations([(8, 8, 40, 40)], [0], polygons=[[[(8, 8), (40, 40)]]])
    tuning = tune_polygons(Few(bare, outside, crowd, outlined(SQUARE), Annotations()), 64)
    assert (tuning.images, tuning.objects, tuning.without_outline) == (5, 1, 1)
    # Two vertices enclose nothing, and are no outline.
    assert tune_polygons(Few(flat, outlined(SQUARE)), 64).without_outline == 1


def test_images_are_fitted_into_the_network_input():
    large = outlined(np.array(SQUARE) * 4)
    tuning = tune_polygons(Few(large, size=(256, 256)), 64)
    assert tuning.sizes["medium"] == 1
    assert tuning.limit.mean_iou == 1


def test_the_fewest_bins_within_the_loss_are_recommended(tmp_path):
    write_shapes(tmp_path, num_images=8, image_size=(128, 128))
    done = []
    dataset = load(tmp_path)
    tuning = tune_polygons(
        dataset, 128, bins=(4, 12, 48), max_loss=0.02, progress=lambda *n: done.append(n)
    )
    assert done == [(8, 8)]
    ious = {choice.bins: choice.mean_iou for choice in tuning.choices}
    good = [bins for bins, iou in ious.items() if iou >= max(ious.values()) - 0.02]
    assert tuning.recommended.bins == min(good) > 4
    assert sum(tuning.sizes.values()) == tuning.objects > 0
    for choice in tuning.choices:
        mean = sum(choice.by_size[name] * tuning.sizes[name] for name in choice.by_size)
        assert mean / tuning.objects == pytest.approx(choice.mean_iou)
        assert choice.mean_iou <= tuning.limit.mean_iou + 0.02
    encoder = tuning.encoder(YoloEncoder(128, [(32, 32)], stride=8, num_classes=4))
    assert encoder.bins == tuning.recommended.bins
    plain = json.loads(json.dumps(tuning.to_json()))
    assert plain["recommended"]["bins"] == tuning.recommended.bins
    assert [choice["bins"] for choice in plain["choices"]] == [4, 12, 48]
    assert "Tuning(" in repr(tuning)


def test_bad_arguments_are_named():
    with pytest.raises(DataError, match="no object with a polygon or a mask"):
        tune_polygons(Few(Annotations([(8, 8, 40, 40)], [0])), 64)
    with pytest.raises(ValueError, match="bins is empty"):
        tune_polygons(Few(outlined(SQUARE)), 64, bins=())
    with pytest.raises(ValueError, match="bins=2: expected a whole number of at least 3"):
        tune_polygons(Few(outlined(SQUARE)), 64, bins=(2,))
    with pytest.raises(ValueError, match=r"max_loss=1: expected a number in \[0, 1\)"):
        tune_polygons(Few(outlined(SQUARE)), 64, max_loss=1)


def test_it_is_a_public_name():
    assert ytrue.tune_polygons is tune_polygons
    assert type(tune_polygons(Few(outlined(SQUARE)), 64)) is ytrue.PolygonTuning
