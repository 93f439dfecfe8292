"""The presets reproduce the official implementations' own outputs, case by case."""

from pathlib import Path

import numpy as np
import pytest

from ytrue import Annotations
from ytrue.encoders import AnchorGrid, preset

GOLDEN = Path(__file__).parent / "golden"

# preset, file, key of the boxes, of the classes, of the encoded boxes, their order in ours
FILES = [
    ("efficientdet", "automl", "gt_boxes", "gt_classes", "pos_box", [0, 1, 2, 3]),
    ("retinanet", "retinanet", "gt_boxes_yxyx", "gt_classes_1based", "pos_reg_x1y1x2y2", [1, 0, 3, 2]),
    ("keras_hub", "kerashub", "gt_boxes_yxyx", "gt_classes_1based", "pos_box_tytxthtw", [0, 1, 2, 3]),
]  # fmt: skip


def _rows(data, name, case):
    key = f"{name}_offsets" if f"{name}_offsets" in data else "pos_offsets"
    return slice(*data[key][case : case + 2])


@pytest.mark.parametrize("case", range(36))
@pytest.mark.parametrize("row", FILES, ids=[row[0] for row in FILES])
def test_preset_equals_the_official_assignment(row, case):
    name, file, boxes_key, classes_key, encoded_key, order = row
    data = dict(np.load(GOLDEN / f"assignments_{file}.npz"))
    ground_truth = slice(*data["gt_offsets"][case : case + 2])
    content = None
    if "image_hw" in data and data["image_hw"].ndim == 2:
        content = (0, 0, *data["image_hw"][case])
    objects = Annotations(
        data[boxes_key][ground_truth], data[classes_key][ground_truth] - 1, content=content
    )
    target = preset(name, (512, 512), 90).encode(objects)

    what = str(data["case_category"][case])
    positive = np.flatnonzero(target["state"] == 1)
    rows = _rows(data, "pos_anchor", case)
    np.testing.assert_array_equal(positive, data["pos_anchor"][rows], err_msg=what)
    np.testing.assert_array_equal(target["label"][positive], data["pos_cls"][rows], err_msg=what)
    np.testing.assert_array_equal(target["object"][positive], data["pos_gt"][rows], err_msg=what)
    encoded = data[encoded_key][rows][:, order]
    np.testing.assert_allclose(target["box"][positive], encoded, rtol=1e-6, atol=1e-9, err_msg=what)
    ignored = np.zeros(0, int)
    if "ignore_anchor" in data:
        ignored = data["ignore_anchor"][_rows(data, "ignore_anchor", case)]
    np.testing.assert_array_equal(np.flatnonzero(target["state"] == -1), ignored, err_msg=what)


ANCHORS = {
    "automl_d0_512": AnchorGrid(512),
    "automl_d0_H640_W512": AnchorGrid((640, 512)),
    "automl_d0_256x384_string": AnchorGrid((384, 256)),
    "automl_d0_512_pairs_1.4_0.7": AnchorGrid(512, aspect_ratios=[(1, 1), (1.4, 0.7), (0.7, 1.4)]),
    "automl_d0_H600_W400": AnchorGrid((600, 400)),
    "retinanet_512": preset("retinanet", 512, 90).grid,
    "retinanet_H256_W320": preset("retinanet", (256, 320), 90).grid,
    "kerashub_512": preset("keras_hub", 512, 90).grid,
}


@pytest.mark.parametrize("key", ANCHORS)
def test_anchors_equal_the_official_ones(key):
    data = np.load(GOLDEN / "anchors.npz")
    expected = data[f"{key}_boxes"]
    if key.startswith("retinanet"):
        expected = expected[:, [1, 0, 3, 2]]
    grid = ANCHORS[key]
    assert len(grid) == data[f"{key}_count"]
    np.testing.assert_allclose(grid.boxes[data[f"{key}_index"]], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("key", ANCHORS)
def test_all_anchors_equal_the_shared_ones(key, shared_golden):
    expected = np.load(shared_golden / "anchors_shared.npz")[key]
    if key.startswith("retinanet"):
        expected = expected[:, [1, 0, 3, 2]]
    np.testing.assert_allclose(ANCHORS[key].boxes, expected, rtol=0, atol=1e-5)
