"""Encoders' arguments: NumPy's numbers and arrays as Python's, and what is no number by its name."""

import json

import numpy as np
import pytest

from ytrue.encoders import (
    AnchorEncoder,
    AnchorGrid,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    preset,
)
from ytrue.encoders.cellgrid import CellGrid
from ytrue.encoders.presets import ENCODER_ARGUMENTS, GRID_ARGUMENTS, PRESETS

SIZE = (48, 96)
GRID = {"image_size": SIZE, "min_level": 3, "max_level": 5, "num_scales": 2,
        "aspect_ratios": (0.5, 1.0, 2.0), "anchor_scale": 3.0, "cell_offset": 0.25}  # fmt: skip
AS_NUMPY = {
    "image_size": np.array(SIZE),
    "min_level": np.int8(3),
    "max_level": np.float64(5.0),
    "num_scales": np.uint8(2),
    "aspect_ratios": np.array([0.5, 1, 2], np.float32),
    "anchor_scale": np.float32(3),
    "cell_offset": np.array(0.25),
}


@pytest.mark.parametrize("name", AS_NUMPY)
def test_a_grid_takes_numpys_numbers(name):
    plain, other = AnchorGrid(**GRID), AnchorGrid(**GRID | {name: AS_NUMPY[name]})
    assert other == plain
    assert json.dumps(other.config()) == json.dumps(plain.config())


def test_a_grid_takes_arrays_of_shapes_pairs_and_scales():
    shapes = np.array([[[20, 40]], [[40, 80]]], np.float32)
    plain = [[(20.0, 40.0)], [(40.0, 80.0)]]
    assert AnchorGrid(SIZE, 3, 4, shapes=shapes) == AnchorGrid(SIZE, 3, 4, shapes=plain)
    pairs = np.array([(1, 1), (1.4, 0.7)])
    assert AnchorGrid(SIZE, aspect_ratios=pairs).aspect_ratios == ((1.0, 1.0), (1.4, 0.7))
    scales = np.arange(1, 4)
    assert AnchorGrid(SIZE, 3, 5, anchor_scale=scales).anchor_scale == (1.0, 2.0, 3.0)
    assert AnchorGrid(SIZE, aspect_ratios=1).aspect_ratios == (1.0,)
    assert AnchorGrid(np.int64(64)).image_size == AnchorGrid(64.0).image_size == (64, 64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 64.5), ("image_size", (64, 48.5)), ("image_size", (64,)), ("image_size", "64"),
        ("image_size", (1, 2, 3)), ("image_size", None), ("image_size", 0), ("image_size", np.nan),
        ("min_level", 2.5), ("min_level", -1), ("min_level", "3"), ("max_level", 4.5),
        ("max_level", None), ("max_level", (4, 5)), ("num_scales", 1.5), ("num_scales", 0),
        ("num_scales", np.array([1, 2])), ("aspect_ratios", "1,2"), ("aspect_ratios", (1, 0)),
        ("aspect_ratios", (1, np.inf)), ("aspect_ratios", None), ("aspect_ratios", ()),
        ("aspect_ratios", ((1, 2, 3),)), ("anchor_scale", "4"), ("anchor_scale", -1.0),
        ("anchor_scale", (1, None)), ("anchor_scale", ()), ("shapes", 3), ("shapes", [[(1, 0)]]),
        ("shapes", [[1, 2]]), ("shapes", [[]]), ("cell_offset", "a"), ("cell_offset", 1.5),
        ("cell_offset", None), ("stride", 8), ("stride", ["power"]), ("precision", np.float32),
    ],
)  # fmt: skip
def test_a_grids_argument_that_is_none_is_named(name, value):
    with pytest.raises(ValueError, match=f"^(min_level=3, )?{name}( holds |=| is empty| has )"):
        AnchorGrid(**GRID | {name: value})


def yolo(**arguments):
    own = {"anchors": [(8, 8), (16, 8)], "stride": 8, "num_classes": 2}
    return YoloEncoder(SIZE, **own | arguments)


def keypoints(**arguments):
    return KeypointGridEncoder(SIZE, **{"stride": 8, "num_classes": 2} | arguments)


def anchor(**arguments):
    return AnchorEncoder(AnchorGrid(SIZE), **{"num_classes": 2} | arguments)


def fcos(**arguments):
    return FCOSEncoder(SIZE, **{"num_classes": 2, "stride": (8, 16)} | arguments)


def centernet(**arguments):
    return CenterNetEncoder(SIZE, **{"num_classes": 2} | arguments)


def mask(**arguments):
    return MaskEncoder(anchor(), **arguments)


def polygon(**arguments):
    return PolygonEncoder(yolo(), **arguments)


def pose(**arguments):
    return PoseEncoder(anchor(), keypoints(), **arguments)


NUMBERS = [
    (anchor, "num_classes", 3), (anchor, "top_k", 5), (anchor, "positive_iou", 0.75),
    (anchor, "negative_iou", 0.25), (anchor, "min_force_iou", 0.25), (anchor, "crowd_ioa", 0.75),
    (anchor, "union_epsilon", 0.25), (fcos, "num_classes", 3), (fcos, "center_radius", 2.5),
    (fcos, "ranges", 32.0), (centernet, "stride", 8), (centernet, "min_overlap", 0.5),
    (keypoints, "points_per_cell", 2), (keypoints, "stride", 16), (yolo, "ratio", 2.5),
    (yolo, "neighbours", 2), (yolo, "ignore_iou", 0.75), (yolo, "crowd_ioa", 0.75),
    (yolo, "stride", 16), (polygon, "bins", 12), (mask, "stride", 8), (pose, "margin", 0.25),
    (pose, "rival_share", 0.25),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "value"), NUMBERS)
def test_every_number_of_an_encoder_may_be_numpys(make, name, value):
    kinds = (np.float32, np.float64) if isinstance(value, float) else (np.int64, np.uint8)
    plain = make(**{name: value})
    for kind in (*kinds, np.array):
        other = make(**{name: kind(value)})
        assert other == plain
        assert other.digest == plain.digest


@pytest.mark.parametrize(("make", "name", "value"), NUMBERS)
@pytest.mark.parametrize("wrong", ["a", (1.0, "b"), np.nan, -np.inf, [[]], 1j])
def test_every_number_of_an_encoder_that_is_none_is_named(make, name, value, wrong):
    with pytest.raises(ValueError, match=name):
        make(**{name: wrong})


@pytest.mark.parametrize("grid", [(3, 6), np.array((3, 6)), [np.int32(3), 6]])
def test_cells_take_one_grid_as_numbers_or_an_array(grid):
    assert CellGrid(SIZE, grid).grid == ((3, 6),)
    assert CellGrid(SIZE, np.array([(6, 12), (3, 6)])).grid == ((6, 12), (3, 6))
    assert CellGrid(SIZE, stride=np.array((8, 16))).grid == ((6, 12), (3, 6))


@pytest.mark.parametrize(
    "grid", [16, "all", (3,), (3, 6, 9), ((3, 6), 9), (3.5, 6), (0, 6), (), None]
)
def test_what_is_no_grid_is_named(grid):
    with pytest.raises(ValueError, match=r"^grid="):
        CellGrid(SIZE, grid)


def test_strides_of_one_grid_say_which_to_leave_out():
    words = r"input of 64x32 has the same grid .*\(stride=8,16,32,64\)"
    with pytest.raises(ValueError, match=words):
        FCOSEncoder((64, 32), 2)
    assert FCOSEncoder((64, 32), 2, stride=(8, 16, 32, 64)).cells.grid[-1] == (1, 1)
    assert FCOSEncoder((65, 32), 2).cells.grid[-2:] == ((2, 1), (1, 1))  # one pixel more tells them


# Presets.


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_every_argument_of_its_encoder(name):
    for key in ENCODER_ARGUMENTS:
        its = getattr(preset(name, SIZE, 2), key)
        assert preset(name, SIZE, 2, **{key: its}) == preset(name, SIZE, 2)
    assert preset(name, SIZE, 2, positive_iou=0.6).positive_iou == 0.6


@pytest.mark.parametrize("name", [name for name in PRESETS if not PRESETS[name].own_anchors])
def test_a_preset_takes_every_argument_of_its_grid(name):
    for key in GRID_ARGUMENTS:
        its = getattr(preset(name, SIZE, 2).grid, key)
        assert preset(name, SIZE, 2, **{key: its}) == preset(name, SIZE, 2)
    assert preset(name, SIZE, 2, num_scales=2).grid.num_scales == 2


def test_an_argument_that_a_preset_lacks_is_told_with_those_it_has():
    with pytest.raises(
        ValueError, match=r"'ytrue' takes min_level, .*positive_iou.*, no iou, shape$"
    ):
        preset("ytrue", SIZE, 2, iou=0.5, shape=1)
    with pytest.raises(ValueError, match=r"'retinanet' takes matcher, .*union_epsilon, no iou$"):
        preset("retinanet", SIZE, 2, iou=0.5)
    with pytest.raises(ValueError, match=r"anchors of its own, so anchor_scale cannot"):
        preset("retinanet", SIZE, 2, anchor_scale=3.0, positive_iou=0.6)
