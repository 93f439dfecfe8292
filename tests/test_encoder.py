"""AnchorEncoder and AnchorGrid as values: spec, config, pickling, layouts, errors, cold start."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laws import assert_passes_with
from strategies import encoders, grids
from ytrue import Annotations, Encoder
from ytrue.encoders import (
    PRESETS,
    AnchorEncoder,
    AnchorGrid,
    BoxCoder,
    from_config,
    preset,
)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_encoders_whose_spec_is_what_they_encode(name):
    encoder = preset(name, (96, 160), 4)
    assert isinstance(encoder, Encoder)
    assert (encoder.image_size, encoder.num_classes) == ((96, 160), 4)
    target = encoder.encode(Annotations([(10, 10, 60, 60)], [3]))
    assert {k: (v.shape, v.dtype) for k, v in target.items()} == encoder.spec


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_config_is_json_and_builds_an_equal_encoder(data):
    encoder = data.draw(encoders())
    config = json.loads(json.dumps(encoder.config()))
    again = from_config(config)
    assert again == encoder
    assert again.digest == encoder.digest
    assert pickle.loads(pickle.dumps(encoder)) == encoder
    np.testing.assert_array_equal(again.grid.boxes, encoder.grid.boxes)


OTHER_VALUES = {
    "grid": AnchorGrid(128, 3, 4), "num_classes": 7, "matcher": "atss", "top_k": 4, "positive_iou": 0.6, "negative_iou": 0.3,
    "force": "none", "min_force_iou": 0.2, "crowd": "negative", "crowd_ioa": 0.7,
    "padding": "ignore", "degenerate": "match", "coder": BoxCoder("corner"), "union_epsilon": 1e-6,
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(AnchorEncoder)])
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    encoder = AnchorEncoder(AnchorGrid(64, max_level=4), 3)
    other = replace(encoder, **{name: OTHER_VALUES[name]})
    assert AnchorEncoder.from_config(other.config()) == other != encoder
    assert other.digest != encoder.digest


GRID_VALUES = {
    "image_size": (80, 64), "min_level": 2, "max_level": 5, "num_scales": 2,
    "aspect_ratios": (1.0, (2.0, 1.0)), "anchor_scale": (1.0, 2.0),
    "shapes": (((8.0, 9.0),), ((20.0, 10.0), (30.0, 30.0))), "stride": "power",
    "cell_offset": 0.0, "precision": "float64",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(AnchorGrid)])
def test_every_grid_parameter_survives_the_config(name):
    grid = AnchorGrid(64, max_level=4)
    other = replace(grid, **{name: GRID_VALUES[name]})
    assert AnchorGrid(**other.config()) == other != grid
    assert pickle.loads(pickle.dumps(other)) == other


def test_anchors_are_read_only():
    encoder = preset("ytrue", 64, 3)
    with pytest.raises(ValueError, match="read-only"):
        encoder.grid.boxes[0] = 0


def test_explicit_shapes_may_differ_in_number_from_level_to_level():
    grid = AnchorGrid((32, 16), 3, 4, shapes=[[(8, 8), (8, 16)], [(30, 10)]])
    assert grid.cells == ((4, 2), (2, 1))
    assert grid.level_offsets == (0, 16, 18)
    np.testing.assert_array_equal(grid.boxes[1], [0, -4, 8, 12])  # centre (4, 4), 8 high, 16 wide
    np.testing.assert_array_equal(grid.boxes[17], [24 - 15, 8 - 5, 24 + 15, 8 + 5])
    np.testing.assert_array_equal(grid.anchor_level, [3] * 16 + [4] * 2)


@settings(max_examples=30, deadline=None)
@given(grids())
def test_packed_layout_holds_box_one_hot_and_state(grid):
    encoder = AnchorEncoder(grid, 3)
    height, width = grid.image_size
    objects = Annotations([(0, 0, height / 2, width / 2), (0, 0, height, width)], [2, 0])
    target = encoder.encode(objects)
    packed = encoder.pack(target)
    assert list(packed) == [f"P{level}" for level in grid.levels]
    for array, cells in zip(packed.values(), grid.cells, strict=True):
        assert array.shape[:2] == cells
        assert array.shape[3] == 4 + 3 + 1
    flat = np.concatenate([array.reshape(-1, 8) for array in packed.values()])
    np.testing.assert_array_equal(flat[:, :4], target["box"])
    np.testing.assert_array_equal(flat[:, 7], target["state"])
    positive = target["state"] == 1
    np.testing.assert_array_equal(flat[positive, 4:7].argmax(axis=1), target["label"][positive])
    np.testing.assert_array_equal(flat[:, 4:7].sum(axis=1), positive)
    batch = encoder.pack(encoder.encode_batch([objects, objects]))
    for name, array in packed.items():
        np.testing.assert_array_equal(batch[name], np.stack([array, array]))


def test_predictions_decode_to_scored_detections():
    encoder = preset("efficientdet", 128, 3)
    objects = Annotations([(8, 8, 60, 60), (50, 40, 120, 110)], [2, 0])
    target = encoder.encode(objects)
    logits = np.full((len(encoder.grid), 3), -9, np.float32)
    positive = np.flatnonzero(target["state"] == 1)
    logits[positive, target["label"][positive]] = 2.0 + np.arange(len(positive)) * 1e-3
    found = encoder.decode({"class": logits, "box": target["box"]})
    assert len(found) == 2  # the many anchors of an object are suppressed to one
    order = np.argsort(found.labels)
    np.testing.assert_allclose(found.boxes[order], objects.boxes[[1, 0]], atol=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores > 0.88).all()  # sigmoid(2) = 0.8808
    assert len(encoder.decode({"class": logits, "box": target["box"]}, max_detections=1)) == 1
    assert len(encoder.decode({"class": logits, "box": target["box"]}, score_threshold=0.99)) == 0
    with pytest.raises(ValueError, match=r"decode got arrays named \['class'\]: expected a target"):
        encoder.decode({"class": logits})


BAD = [
    (lambda: AnchorGrid((0, 5)), r"image_size=\(0, 5\): expected \(height, width\)"),
    (lambda: AnchorGrid(64, 5, 4), "min_level=5, max_level=4: expected 0 <= min_level"),
    (lambda: AnchorGrid(64, num_scales=0), "num_scales=0: expected a whole number of at least 1"),
    (lambda: AnchorGrid(64, aspect_ratios=[-1]), "aspect_ratios holds -1: expected width / height"),
    (lambda: AnchorGrid(64, aspect_ratios=[]), "aspect_ratios is empty"),
    (
        lambda: AnchorGrid(64, anchor_scale=[1, 2]),
        "anchor_scale has 2 entries, expected one for each",
    ),
    (
        lambda: AnchorGrid(64, shapes=[[(1, 1)]]),
        "shapes has 1 entries, expected one for each of the 5",
    ),
    (lambda: AnchorGrid(64, stride="x"), "stride='x': expected one of fractional, power, floor"),
    (lambda: preset("nope", 64, 3), "preset 'nope': expected one of ytrue, efficientdet"),
    (lambda: preset("ytrue", 64, 0), "num_classes=0: expected a whole number above 0"),
    (
        lambda: AnchorEncoder(AnchorGrid(64), 3, force="x"),
        "force='x': expected one of none, greedy",
    ),
    (
        lambda: AnchorEncoder(AnchorGrid(64), 3, negative_iou=0.6),
        "negative_iou=0.6, positive_iou=0.5",
    ),
    (
        lambda: AnchorEncoder(AnchorGrid(64), 3, min_force_iou=-1),
        "min_force_iou=-1.0 with force='greedy'",
    ),
    (lambda: AnchorEncoder(AnchorGrid(64), 3, crowd_ioa=0), "crowd_ioa=0.0: expected a number in"),
    (lambda: BoxCoder("x"), "kind='x': expected one of centre, corner"),
    (lambda: from_config({"encoder": "x"}), "config names the encoder 'x': expected one of anchor"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_arguments_are_named_with_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ENCODE = """
import sys, numba, numpy, time
start = time.perf_counter()
from ytrue import Annotations
from ytrue.encoders import preset
encoder = preset("ytrue", (512, 512), 3)
target = encoder.encode(Annotations([(8, 8, 60, 60), (100, 90, 300, 200)], [2, 0]))
print(int((target["state"] == 1).sum()), int(target["object"].sum()), time.perf_counter() - start)
"""


def _encode_in_a_process(cache):
    return subprocess.Popen(
        [sys.executable, "-P", "-c", ENCODE],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_compile_at_once_share_a_sound_cache(tmp_path):
    processes = [_encode_in_a_process(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0].split()[:2] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    again = _encode_in_a_process(tmp_path)
    assert again.communicate(timeout=600)[0].split()[:2] == outputs[0] == outputs[1]
    assert again.returncode == 0
    assert not list(tmp_path.rglob("tmp.*"))


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_kernels_pass_with_bounds_checked_and_without_compilation(variable, tmp_path):
    """A read past an array's end is silent in compiled code; here it is an IndexError."""
    assert_passes_with(
        variable,
        Path(__file__).with_name("test_matching.py"),
        "by_example or mask or padding or twin and 1 or batch or decode",
        tmp_path,
    )
