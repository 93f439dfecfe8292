"""What every encoder's `decode` makes of predictions of other dtypes, and of what is no number."""

import ml_dtypes
import numpy as np
import pytest

from ytrue.encoders import (
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    preset,
)
from ytrue.encoders.detections import detect_peaks

SIZE = (32, 64)
BOXES = preset("atss", SIZE, 2)
YOLO = YoloEncoder(SIZE, [(8, 8), (16, 8)], stride=8, num_classes=2)
POINTS = KeypointGridEncoder(SIZE, stride=8, num_classes=2)
ENCODERS = {
    "anchor": BOXES,
    "mask": MaskEncoder(BOXES),
    "fcos": FCOSEncoder(SIZE, 2, stride=(8, 16)),
    "centernet": CenterNetEncoder(SIZE, 2),
    "yolo": YOLO,
    "polygon": PolygonEncoder(YOLO, bins=5),
    "keypoint-grid": POINTS,
    "pose": PoseEncoder(BOXES, POINTS),
}
A, P = len(BOXES.grid), 4 * 8 + 2 * 4
ON_ANCHORS = {"class": (A, 2), "box": (A, 4)}
IN_CELLS = {"class": (4, 8, 2, 2), "objectness": (4, 8, 2), "box": (4, 8, 2, 4)}
ON_POINTS = {"class": (4, 8, 1, 2), "xy": (4, 8, 1, 2)}
SHAPES = {
    "anchor": ON_ANCHORS,
    "mask": ON_ANCHORS | {"coefficients": (A, 3), "prototypes": (8, 16, 3)},
    "fcos": {"class": (P, 2), "box": (P, 4), "centerness": (P,)},
    "centernet": {"heatmap": (8, 16, 2), "size": (8, 16, 2), "offset": (8, 16, 2)},
    "yolo": IN_CELLS,
    "polygon": IN_CELLS | {"polygon": (4, 8, 2, 5, 3)},
    "keypoint-grid": ON_POINTS,
    "pose": {f"box/{name}": shape for name, shape in ON_ANCHORS.items()}
    | {f"keypoints/{name}": shape for name, shape in ON_POINTS.items()},
}
SCORES = {"class", "objectness", "centerness", "heatmap"}
CUT = {
    ("fcos", "box"),
    ("yolo", "box"),
    ("polygon", "box"),
    ("keypoint-grid", "xy"),
    ("pose", "keypoints/xy"),
}
"""Places that the encoder cuts to what can be: logits of shares of a cell and of sizes."""


def outputs(name):
    """Numbers that bfloat16 holds exactly."""
    rng = np.random.default_rng(3)
    return {
        key: rng.integers(-8, 9, shape).astype(np.float32) / 4
        for key, shape in SHAPES[name].items()
    }


def assert_same(found, wanted):
    assert len(found) == len(wanted) > 0
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    if wanted.keypoints is not None:
        np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
    if wanted.masks is not None:
        for one, other in zip(found.masks, wanted.masks, strict=True):
            np.testing.assert_array_equal(one.decode(), other.decode())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_predictions_of_any_precision_are_decoded_alike(name, dtype):
    plain = outputs(name)
    wanted = ENCODERS[name].decode(plain)
    found = ENCODERS[name].decode({key: array.astype(dtype) for key, array in plain.items()})
    assert_same(found, wanted)


EACH = [(name, key) for name, shapes in SHAPES.items() for key in shapes]


@pytest.mark.parametrize(("name", "key"), EACH)
def test_one_nan_in_a_prediction_is_told_by_name(name, key):
    given = outputs(name)
    given[key].flat[5] = np.nan
    words = rf"{key.split('/')[-1]} holds nan in 1 of {given[key].size} places: the network has div"
    with pytest.raises(ValueError, match=words):
        ENCODERS[name].decode(given)


@pytest.mark.parametrize(("name", "key"), EACH)
@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinity_is_a_score_but_no_place(name, key, infinity):
    given = outputs(name)
    given[key].flat[5] = infinity
    if key.split("/")[-1] in SCORES or (name, key) in CUT:
        assert np.isfinite(ENCODERS[name].decode(given).boxes).all()
        return
    with pytest.raises(ValueError, match="holds infinity in 1 of"):
        ENCODERS[name].decode(given)


@pytest.mark.parametrize(
    "array", [np.zeros((A, 4), complex), np.full((A, 4), "a"), [[None] * 4] * A]
)
def test_what_is_no_array_of_numbers_is_told_by_name(array):
    with pytest.raises(ValueError, match="box is of dtype .*: expected floating numbers"):
        BOXES.decode(outputs("anchor") | {"box": array})


# Peaks: of equal neighbours the first by row, then column.


def portable_peaks(scores):
    from ytrue.model.exporting.decoder import Decoder

    found = Decoder.__new__(Decoder).detect_peaks(np.zeros((scores[..., 0].size, 4)), scores)
    return sorted(found["rows"].tolist())


def peaks(scores):
    boxes = np.arange(scores[..., 0].size, dtype=np.float32)[:, None] + (0, 0, 1, 1)
    found = detect_peaks(scores, lambda cells: np.float32(boxes[cells]), logits=False)
    return sorted(found.boxes[:, 0].astype(int).tolist())


@pytest.mark.parametrize("find", [peaks, portable_peaks])
@pytest.mark.parametrize("step", [(0, 1), (1, -1), (1, 0), (1, 1)])
def test_of_two_equal_neighbours_the_first_is_the_peak(find, step):
    rows, columns = 5, 7
    scores = np.zeros((rows, columns, 1), np.float32)
    first, second = (1, 3), (1 + step[0], 3 + step[1])
    scores[first] = scores[second] = 0.5
    assert find(scores) == [first[0] * columns + first[1]]
    scores[second] = np.nextafter(np.float32(0.5), np.float32(1))
    assert find(scores) == [second[0] * columns + second[1]]


@pytest.mark.parametrize("find", [peaks, portable_peaks])
def test_a_plateau_has_one_peak_and_a_cell_two_steps_away_its_own(find):
    scores = np.zeros((4, 9, 1), np.float32)
    scores[1:3, 2:5] = 0.5
    scores[2, 6] = 0.5
    assert find(scores) == [1 * 9 + 2, 2 * 9 + 6]


@pytest.mark.parametrize("find", [peaks, portable_peaks])
def test_a_peak_at_the_threshold_is_found_and_one_below_is_not(find):
    scores = np.zeros((3, 5, 1), np.float32)
    scores[0, 0] = np.float32(0.05)
    scores[2, 4] = np.nextafter(np.float32(0.05), np.float32(0))
    assert find(scores) == [0]
