"""KeypointGridEncoder: its twin, its laws, its edges, itself as a value."""

import os
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laws import assert_config_is_the_encoder, assert_passes_with, assert_survives_the_config
from reference import keypoints as reference
from strategies import keypoint_encoders, posed
from ytrue import Annotations
from ytrue.contract import POINT_LOST
from ytrue.encoders import CellGrid, KeypointGridEncoder

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
laws = settings(
    deadline=None,
    suppress_health_check=_SLOW,
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "150")),
    derandomize=True,
)


def at(*points, labels=None, crowd=None, content=None):
    """One object for each point, or for each list of points; (y, x) is visible."""
    lists = [point if isinstance(point, list) else [point] for point in points]
    keypoints = [[(*point, 2)[:3] for point in one] for one in lists]
    n = len(points)
    return Annotations(
        np.zeros((n, 4)), labels or [0] * n, crowd, keypoints=np.reshape(keypoints, (n, -1, 3)),
        content=content,
    )  # fmt: skip


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@laws
@given(st.data())
def test_the_kernel_equals_its_twin_to_the_last_bit(data):
    encoder = data.draw(keypoint_encoders())
    objects = data.draw(posed(encoder))
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected)
    explained = encoder.explain(objects)
    assert list(explained.outcome) == outcome
    np.testing.assert_array_equal(explained.state, expected["state"].ravel())
    np.testing.assert_array_equal(explained.owner, expected["object"].ravel())


@pytest.mark.parametrize("slots", ["any", "fixed"])
@pytest.mark.parametrize("stride", [8, (8, 16, 32), 50])
def test_a_full_image_equals_the_twin(stride, slots):
    rng = np.random.default_rng(0)
    points = np.concatenate(
        (rng.uniform(-20, 270, (20, 17, 2)), rng.integers(0, 3, (20, 17, 1))), axis=2
    )
    encoder = KeypointGridEncoder(
        256,
        stride=stride,
        num_classes=17,
        points_per_cell=17 if slots == "fixed" else 2,
        slots=slots,
    )
    objects = Annotations(np.zeros((20, 4)), [0] * 20, keypoints=points)
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected)
    assert list(encoder.explain(objects).outcome) == outcome
    assert {"matched", "unlabelled", "outside"} <= set(outcome)


@laws
@given(st.data())
def test_decoding_returns_every_point_that_is_not_reported_lost(data):
    encoder = data.draw(keypoint_encoders())
    objects = data.draw(posed(encoder))
    explained = encoder.explain(objects)
    decoded = encoder.decode(encoder.encode(objects))
    held = [i for i, outcome in enumerate(explained.outcome) if outcome == "matched"]
    owners = sorted({int(explained.object[i]) for i in held})
    assert len(decoded) == len(owners)
    assert int((decoded.keypoints[..., 2] > 0).sum()) == len(held)
    for row, k in enumerate(owners):
        mine = [i for i in held if explained.object[i] == k]
        expected = objects.keypoints[k, explained.landmark[mine], :2]
        if encoder.slots == "any" and encoder.classes == "object":
            got = decoded.keypoints[row, : len(mine), :2]
            nearest = np.abs(got[None] - expected[:, None]).max(axis=-1)
            assert sorted(nearest.argmin(axis=1)) == list(range(len(mine))) or len(
                np.unique(expected, axis=0)
            ) < len(mine)
            expected = expected[nearest.argmin(axis=0)]
        else:
            got = decoded.keypoints[row, explained.landmark[mine], :2]
        # Two roundings relative to the pixel, and one of numbers too small to have an exponent.
        np.testing.assert_allclose(got, expected, rtol=4 * 2.0**-24, atol=1e-40)
    if encoder.classes == "object":
        np.testing.assert_array_equal(decoded.labels, objects.labels[owners])


@laws
@given(st.data())
def test_the_order_of_objects_changes_nothing_but_their_indices(data):
    encoder = data.draw(keypoint_encoders())
    objects = data.draw(posed(encoder))
    order = data.draw(st.permutations(range(len(objects))))
    target, permuted = encoder.encode(objects), encoder.encode(objects.select(order))
    for name in ("state", "offset", "label"):
        np.testing.assert_array_equal(permuted[name], target[name], err_msg=name)
    # Where no two points are one and the same, the indices follow the objects.
    points = objects.keypoints if objects.keypoints is not None else np.zeros((0, 0, 3))
    flat = points.reshape(-1, 3)
    if len(np.unique(flat, axis=0)) == len(flat):
        renamed = np.array([*np.argsort(order), -1], np.int32)[target["object"]]
        np.testing.assert_array_equal(permuted["object"], renamed)


@laws
@given(st.data())
def test_a_batch_is_its_examples(data):
    encoder = data.draw(keypoint_encoders())
    batch = [data.draw(posed(encoder)) for _ in range(data.draw(st.integers(1, 4)))]
    target = encoder.encode_batch(batch)
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


def test_many_threads_and_few_give_one_answer():
    rng = np.random.default_rng(3)
    encoder = KeypointGridEncoder(128, stride=4, num_classes=17, points_per_cell=2)
    batch = [
        Annotations(
            np.zeros((n, 4)), [0] * n,
            keypoints=np.concatenate((rng.uniform(0, 128, (n, 17, 2)), np.full((n, 17, 1), 2)), 2),
        )
        for n in rng.integers(0, 9, 40)
    ]  # fmt: skip
    target = encoder.encode_batch(batch)  # 40 x 150 kB: shared out
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


@laws
@given(st.data())
def test_every_point_is_accounted_for_once(data):
    encoder = data.draw(keypoint_encoders())
    objects = data.draw(posed(encoder))
    explained = encoder.explain(objects)
    assert len(explained) == (0 if objects.keypoints is None else objects.keypoints[..., 0].size)
    held = explained.slot[explained.slot >= 0]
    assert len(set(held.tolist())) == len(held) == (explained.state == 1).sum()
    np.testing.assert_array_equal(np.sort(held), np.flatnonzero(explained.state == 1))
    for i, outcome in enumerate(explained.outcome):
        assert (explained.positives[i] > 0) == (outcome == "matched")
        assert (i in explained.lost) == (outcome in POINT_LOST)
        assert explained.why(i)


def test_offsets_by_example():
    """Cells of 10 x 20 pixels; offset = (place in the cell) / side."""
    encoder = KeypointGridEncoder((40, 80), (4, 4), num_classes=1)
    target = encoder.encode(at((0, 0), (15, 70), (10, 20), (40, 80), (40, 30)))
    found = {
        tuple(cell): tuple(target["offset"][tuple(cell)].tolist())
        for cell in np.argwhere(target["state"] == 1).tolist()
    }
    assert found == {
        (0, 0, 0): (0.0, 0.0),  # a point at 0 holds its slot: the mask, not the offset, says so
        (1, 3, 0): (0.5, 0.5),
        (1, 1, 0): (0.0, 0.0),  # a border between cells belongs to the lower right one
        (3, 3, 0): (1.0, 1.0),  # the far corner to the last
        (3, 1, 0): (1.0, 0.5),
    }
    masks = encoder.masks(target)
    assert masks["xy"].sum() == 5
    assert masks["class"].all()
    assert masks["xy"].dtype == masks["class"].dtype == bool
    assert masks["xy"][0, 0, 0]


@pytest.mark.parametrize("side", [1, 7, 100, 511, 4107, 4191, 8191])
def test_the_far_border_has_offset_1_whatever_the_size(side):
    almost = np.nextafter(np.float32(side), np.float32(0))
    # In float32, 4107 * 4087 / 4107 is below 4087 and 4191 * 4005 / 4191 above 4005.
    for count in (1, 2, 3, 7, 13, 1000, 4005, 4087):
        encoder = KeypointGridEncoder((side, side), (count, 1), num_classes=1)
        far, near = (encoder.encode(at((y, 0)))["offset"][-1, 0, 0, 0] for y in (side, almost))
        assert far == 1
        assert 0.999 < near <= 1


def test_visible_points_come_first_then_those_near_the_centre():
    encoder = KeypointGridEncoder((10, 10), "global", num_classes=3, points_per_cell=1)
    explained = encoder.explain(at((5, 5, 1), (1, 1), (6, 5), (4, 5)))
    assert explained.outcome == ("taken", "taken", "taken", "matched")  # of equals the lower y
    two = replace(encoder, points_per_cell=2).explain(at((5, 5, 1), (1, 1), (6, 5)))
    assert two.outcome == ("taken", "matched", "matched")
    assert two.why(0) == "lost: every slot it could have had went to a point served before it"
    assert two.why(1) == "owns slot 0 of the cell in row 0, column 0 of 1x1"
    assert two.lost == (0,)


def test_any_slots_stand_by_class_then_y_then_x():
    encoder = KeypointGridEncoder(
        (10, 10), "global", num_classes=3, points_per_cell=4, classes="object"
    )
    target = encoder.encode(at((9, 9), (2, 3), (2, 1), (7, 0), labels=[0, 1, 1, 1]))
    np.testing.assert_array_equal(target["object"].ravel(), [0, 2, 1, 3])
    np.testing.assert_array_equal(target["label"][0, 0].argmax(axis=-1), [0, 1, 1, 1])


def test_fixed_slots_hold_their_landmark():
    encoder = KeypointGridEncoder(
        (10, 10), "global", num_classes=3, points_per_cell=3, slots="fixed"
    )
    target = encoder.encode(at([(1, 1), (0, 0, 0), (9, 9)], [(5, 6), (2, 2), (8, 8)]))
    np.testing.assert_array_equal(target["object"].ravel(), [1, 1, 1])
    explained = encoder.explain(at([(1, 1), (0, 0, 0), (9, 9)], [(5, 6), (2, 2), (8, 8)]))
    assert explained.outcome == ("taken", "unlabelled", "taken", "matched", "matched", "matched")
    one = encoder.encode(at([(1, 1), (0, 0, 0), (9, 9)]))
    np.testing.assert_array_equal(one["state"].ravel(), [1, 0, 1])
    np.testing.assert_array_equal(one["label"][0, 0], [[1, 0, 0], [0, 0, 0], [0, 0, 1]])


OUTCOMES = [
    ((np.nan, 1), {}, "not-finite"), ((1, -np.inf), {}, "not-finite"), ((-0.01, 1), {}, "outside"),
    ((1, 10.01), {}, "outside"), ((1, 9), {"content": (0, 0, 10, 8)}, "padding"),
    ((10, 8), {"content": (0, 0, 10, 8)}, "matched"), ((1, 1, 0), {}, "unlabelled"),
    ((np.nan, 1, 0), {}, "unlabelled"), ((1, 1), {"crowd": [True]}, "crowd"), ((1, 1, 1), {}, "matched"),
]  # fmt: skip


@pytest.mark.parametrize(("point", "options", "outcome"), OUTCOMES)
def test_what_becomes_of_odd_points(point, options, outcome):
    encoder = KeypointGridEncoder((10, 10), (2, 2), num_classes=1)
    explained = encoder.explain(at(point, **options))
    assert explained.outcome == (outcome,)
    assert (explained.lost == (0,)) == (outcome in POINT_LOST)
    assert encoder.encode(at(point, **options))["state"].sum() == (outcome == "matched")


def test_hidden_points_are_skipped_where_asked():
    encoder = KeypointGridEncoder((10, 10), (2, 2), num_classes=1, hidden="skip")
    explained = encoder.explain(at((1, 1, 1), (9, 9)))
    assert explained.outcome == ("hidden", "matched")
    assert explained.lost == ()
    assert "hidden='skip'" in explained.why(0)


@pytest.mark.parametrize("objects", [Annotations(), Annotations([(1, 1, 5, 5)], [2])])
def test_without_keypoints_there_are_no_points(objects):
    encoder = KeypointGridEncoder((10, 10), stride=(2, 5), num_classes=1)
    target = encoder.encode(objects)
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec
    assert not target["state"].any()
    assert (target["object"] == -1).all()
    assert len(encoder.decode(target)) == len(encoder.explain(objects)) == 0
    assert repr(encoder.explain(objects)).startswith("PointAssignment(no points; 0 of 29 slots")


def test_several_grids_each_take_every_point():
    encoder = KeypointGridEncoder((64, 64), stride=(8, 16, 32), num_classes=2)
    assert encoder.spec["state"][0] == (64 + 16 + 4, 1)
    explained = encoder.explain(at((1, 1), (63, 63), (30, 30)))
    np.testing.assert_array_equal(explained.positives, [2, 3, 3])  # (30, 30) is nearer (16, 16)
    np.testing.assert_array_equal(explained.slot[:, 1], [63, 64 + 15, 64 + 16 + 3])
    assert explained.outcome == ("matched",) * 3
    assert explained.why(0) == (
        "owns slot 0 of the cell in row 0, column 0 of 8x8, "
        "slot 0 of the cell in row 0, column 0 of 4x4"
    )


@pytest.mark.parametrize("points_per_cell", [1, 3])
@pytest.mark.parametrize("stride", [8, (8, 16)])
def test_packed_layout_holds_offsets_then_classes(stride, points_per_cell):
    encoder = KeypointGridEncoder(
        (32, 48), stride=stride, num_classes=4, points_per_cell=points_per_cell
    )
    rng = np.random.default_rng(1)
    objects = at(*[list(map(tuple, rng.uniform(0, 32, (4, 2)))) for _ in range(9)])
    target = encoder.encode(objects)
    packed = encoder.pack(target)
    P, first = points_per_cell, 0
    assert list(packed) == ["4x6", "2x3"][: len(packed)]
    for (rows, columns), array in zip(encoder.grid, packed.values(), strict=True):
        assert array.shape == (rows, columns, (2 + 4) * P)
        cells = slice(first, first + rows * columns)
        offset = target["offset"].reshape(-1, P * 2)[cells]
        label = target["label"].reshape(-1, P * 4)[cells]
        np.testing.assert_array_equal(array.reshape(-1, 6 * P)[:, : 2 * P], offset)
        np.testing.assert_array_equal(array.reshape(-1, 6 * P)[:, 2 * P :], label)
        first += rows * columns
    batch = encoder.pack(encoder.encode_batch([objects, objects]))
    for name, array in packed.items():
        np.testing.assert_array_equal(batch[name], np.stack([array, array]))


def predicted(target, strength=4.0):
    offset = target["offset"].astype(np.float64).clip(1e-6, 1 - 1e-6)
    return {
        "class": np.where(target["label"] > 0, strength, -9.0).astype(np.float32),
        "xy": np.log(offset / (1 - offset)).astype(np.float32),
    }


def test_predictions_decode_to_scored_points():
    encoder = KeypointGridEncoder((64, 64), (8, 8), num_classes=2, points_per_cell=2)
    objects = at([(5, 6), (20, 31)], [(50, 50), (60, 3)])
    found = encoder.decode(predicted(encoder.encode(objects)))
    assert len(found) == 4
    assert found.keypoints.shape == (4, 2, 3)
    rows, columns = np.nonzero(found.keypoints[..., 2] > 0)
    np.testing.assert_array_equal(rows, range(4))
    np.testing.assert_array_equal(columns, found.labels)
    points = found.keypoints[rows, columns, :2]
    expected = objects.keypoints[..., :2].reshape(-1, 2)
    order, wanted = np.lexsort(points.T), np.lexsort(expected.T)
    np.testing.assert_allclose(points[order], expected[wanted], atol=1e-3)
    np.testing.assert_array_equal(found.boxes, np.tile(points, 2))
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-4)), rtol=1e-6)
    assert len(encoder.decode(predicted(encoder.encode(objects)), max_detections=3)) == 3
    assert len(encoder.decode(predicted(encoder.encode(objects)), score_threshold=0.99)) == 0


def test_a_neighbouring_cells_duplicate_is_suppressed():
    encoder = KeypointGridEncoder((64, 64), (8, 8), num_classes=2)
    arrays = predicted(encoder.encode(at((20, 15.9))))  # the right border of column 1
    arrays["class"][2, 2, 0, 0] = 3.0
    arrays["xy"][2, 2, 0] = arrays["xy"][2, 1, 0] * (1, -1)  # the same point, seen from column 2
    found = encoder.decode(arrays)
    np.testing.assert_allclose(found.keypoints[0, 0, :2], (20, 15.9), atol=1e-3)
    assert len(found) == 1
    assert len(encoder.decode(arrays, duplicate_radius=-1)) == 2
    arrays["class"][2, 2, 0] = -9, 3  # another class is another point
    assert len(encoder.decode(arrays)) == 2


def test_grids_do_not_repeat_each_other_in_predictions():
    encoder = KeypointGridEncoder((64, 64), stride=(8, 16, 32), num_classes=2, points_per_cell=2)
    objects = at([(5, 6), (20, 31)], [(50, 50), (60, 3)])
    assert len(encoder.decode(predicted(encoder.encode(objects)))) == 4


def test_fixed_slots_are_read_as_their_landmark():
    encoder = KeypointGridEncoder(
        (64, 64), "global", num_classes=3, points_per_cell=3, slots="fixed"
    )
    objects = at([(5, 6), (20, 31), (9, 9)])
    found = encoder.decode(predicted(encoder.encode(objects)))
    np.testing.assert_array_equal(np.sort(found.labels), [0, 1, 2])
    face = replace(encoder, classes="object", num_classes=1)
    found = face.decode(predicted(face.encode(objects)))
    assert found.keypoints.shape == (3, 3, 3)
    np.testing.assert_array_equal(found.labels, 0)
    np.testing.assert_allclose(found.keypoints[..., :2].sum(axis=1)[:, 0], (5, 20, 9), atol=1e-3)


def test_infinite_logits_decode():
    encoder = KeypointGridEncoder((64, 64), (2, 2), num_classes=1)
    arrays = {
        "class": np.array([np.inf, -np.inf, -np.inf, 0], np.float32).reshape(2, 2, 1, 1),
        "xy": np.full((2, 2, 1, 2), np.inf, np.float32),
    }
    found = encoder.decode(arrays)
    np.testing.assert_array_equal(found.scores, [1.0, 0.5])
    np.testing.assert_array_equal(found.boxes[0], (32, 32, 32, 32))


BASE = KeypointGridEncoder((64, 48), (4, 3), num_classes=5, points_per_cell=5)
OTHER_VALUES = {
    "image_size": (80, 48), "grid": ((8, 6), (1, 1)), "num_classes": 6, "points_per_cell": 4,
    "slots": "fixed", "classes": "object", "hidden": "skip",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(KeypointGridEncoder)])
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    assert_survives_the_config(BASE, name, OTHER_VALUES[name])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_config_is_json_and_builds_an_equal_encoder(data):
    assert_config_is_the_encoder(data.draw(keypoint_encoders()))


def test_grids_have_several_names():
    assert CellGrid(64, "global").grid == ((1, 1),)
    assert CellGrid(64, stride=32).grid == CellGrid(64, (2, 2)).grid == CellGrid(64, [(2, 2)]).grid
    assert CellGrid((65, 64), stride=[32, 64]).grid == ((3, 2), (2, 1))
    assert len(CellGrid((65, 64), stride=[32, 64])) == 8


def make(**options):
    return KeypointGridEncoder((10, 10), **({"grid": (2, 2), "num_classes": 2} | options))


BAD = [
    (lambda: make(grid=(0, 5)), r"grid=\(0, 5\): expected \(rows, columns\) of at least 1"),
    (lambda: make(grid=(2, 2, 2)), r"grid=\(2, 2, 2\): expected \(rows, columns\)"),
    (lambda: make(grid="globe"), "grid='globe': expected"),
    (lambda: make(grid=[]), r"grid=\[\]: expected"),
    (lambda: make(grid=[(2, 2), (2, 2)]), "the same grid twice"),
    (lambda: make(grid=None), "grid=None, stride=None: expected one of the two"),
    (lambda: make(stride=8), r"grid=\(2, 2\), stride=8: expected one of the two"),
    (lambda: make(grid=None, stride=0), "stride=0: expected whole pixels"),
    (lambda: make(grid=None, stride=[]), r"stride=\[\]: expected whole pixels"),
    (lambda: make(num_classes=0), "num_classes=0: expected a whole number above 0"),
    (lambda: make(points_per_cell=1.5), "points_per_cell=1.5: expected a whole number above 0"),
    (lambda: make(slots="x"), "slots='x': expected one of any, fixed"),
    (lambda: make(classes="x"), "classes='x': expected one of landmark, object"),
    (lambda: make(hidden="x"), "hidden='x': expected one of teach, skip"),
    (lambda: make(slots="fixed"), "points_per_cell=1, num_classes=2 with slots=\"fixed\""),
    (lambda: KeypointGridEncoder.from_config({"encoder": "anchor"}), "config of a 'anchor' encoder"),
    (lambda: make().encode(at([(1, 1)] * 3)), "objects have 3 keypoints, expected at most num_classes=2"),
    (
        lambda: make(slots="fixed", classes="object").encode(at([(1, 1)] * 2)),
        "objects have 2 keypoints, expected at most points_per_cell=1",
    ),
    (
        lambda: make(classes="object").encode_batch([at((1, 1)), at((1, 1), (2, 2), labels=[0, 2])]),
        "example 1 of the batch: object 1 has label 2, expected 0 to 1",
    ),
    (lambda: make().decode({"xy": np.zeros(1)}), r"decode got arrays named \['xy'\]: expected a target"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_named_with_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_kernels_pass_with_bounds_checked_and_without_compilation(variable, tmp_path):
    """A read past an array's end is silent in compiled code; here it is an IndexError."""
    assert_passes_with(
        variable, __file__, "twin or batch or example or decode or centre or landmark", tmp_path
    )
