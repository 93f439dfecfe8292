"""The window kernels equal the dense twin, and obey the laws of matching."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from reference import matching as reference
from strategies import annotations, crowds, encoders, grids
from ytrue import Annotations
from ytrue.contract import OUTCOMES
from ytrue.encoders import PRESETS, AnchorEncoder, AnchorGrid, preset
from ytrue.encoders.kernels import crowding
from ytrue.encoders.kernels.crowding import reserve_in_trees
from ytrue.encoders.kernels.integrals import integrate
from ytrue.rle import RLE

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
laws = settings(
    deadline=None,
    suppress_health_check=_SLOW,
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "100")),
    derandomize=True,
)


def assert_same_target(got, expected):
    for name in ("state", "label", "object"):
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
    assert got["box"].dtype == np.float32
    np.testing.assert_array_max_ulp(got["box"], expected["box"], maxulp=2)


@laws
@given(st.data())
def test_windows_equal_the_dense_twin(data):
    encoder = data.draw(encoders())
    objects = data.draw(annotations(encoder.grid))
    expected, counts = reference.encode(encoder, objects)
    assert_same_target(encoder.encode(objects), expected)
    explained = encoder.explain(objects)
    np.testing.assert_array_equal(explained.positives, counts["positives"])
    np.testing.assert_array_equal(explained.best_iou, counts["best_iou"].astype(np.float32))


@laws
@given(st.data())
def test_a_crowd_equals_the_dense_twin(data):
    encoder = data.draw(encoders())
    objects = data.draw(crowds(encoder.grid))
    expected, counts = reference.encode(encoder, objects)
    assert_same_target(encoder.encode(objects), expected)
    np.testing.assert_array_equal(encoder.explain(objects).positives, counts["positives"])


@laws
@given(st.data())
def test_reservations_in_trees_are_those_of_all_pairs_by_falling_iou(data):
    """Called as for a crowd, whatever the objects are."""
    floor = data.draw(st.sampled_from([0.0, 0.3]))
    encoder = data.draw(encoders(force="greedy", min_force_iou=floor))
    objects = data.draw(st.one_of(annotations(encoder.grid), crowds(encoder.grid)))
    grid, rules = encoder.grid, encoder._rules
    _, record = encoder._match((objects,))
    boxes, found = objects.boxes.astype(grid.precision), record.reserved.copy()
    record.reserved[:], record.reserved_iou[:] = -1, 0
    holder = np.full(len(grid), -1, np.int32)
    reserve_in_trees(0, len(objects), grid.boxes, rules, boxes, record, holder)
    iou = reference.iou_matrix(np.where(np.isfinite(boxes), boxes, 0), grid.boxes, rules.epsilon)
    iou[record.best_anchor < 0] = 0
    expected = reference.greedy_reservations(iou, rules.min_force_iou)
    reserved = {k: a for k, a in enumerate(record.reserved.tolist()) if a >= 0}
    assert reserved == expected == {k: a for k, a in enumerate(found.tolist()) if a >= 0}
    assert {h: a for a, h in enumerate(holder.tolist()) if h >= 0} == expected
    for k, a in expected.items():
        assert record.reserved_iou[k] == iou[k, a]


@pytest.mark.parametrize("name", ["ytrue", "efficientdet"])
def test_a_tree_of_anchors_has_few_nodes_of_several_sizes(name):
    """An object that encloses them is bounded by none of these, so that each search visits them all."""
    anchors = preset(name, (256, 128), 1, max_level=4).grid.boxes
    members = np.arange(len(anchors)).astype(np.int32)
    tree = crowding._plant(anchors, members, crowding.ALIKE)
    sizes = np.unique(np.round(np.log(np.prod(anchors[:, 2:] - anchors[:, :2], axis=1)), 3))
    least, most = tree.bounds[1:, crowding.LEAST], tree.bounds[1:, crowding.MOST]
    mixed = (most > 1.001 * least).sum()
    assert len(sizes) == 6
    # Each of the places where sizes change lies in one node of a generation.
    assert mixed <= (len(sizes) - 1) * np.log2(2 * len(least))
    assert len(least) > 10 * mixed


@pytest.mark.parametrize("count", [300, 1500])
@pytest.mark.parametrize("kind", ["equal", "nearly equal", "any", "one size"])
def test_more_objects_than_anchors_reserve_as_the_dense_twin_does(kind, count):
    """In one spot, most of them in vain; the second object of an image stands far off."""
    rng = np.random.default_rng(count)
    encoder = AnchorEncoder(AnchorGrid((96, 64), max_level=4, num_scales=1), 5, min_force_iou=0.01)
    low, size = np.full((count, 2), 30.0), np.full((count, 2), (14.0, 12.0))
    if kind == "nearly equal":
        low += rng.normal(0, 1e-3, low.shape)
    elif kind == "any":
        low, size = low + rng.uniform(0, 20, low.shape), size * rng.uniform(0.1, 1, size.shape)
    elif kind == "one size":
        low += rng.integers(0, 20, low.shape)
    low[1] = 70, 50
    objects = Annotations(np.hstack((low, low + size)), np.zeros(count))
    expected, counts = reference.encode(encoder, objects)
    assert_same_target(encoder.encode(objects), expected)
    np.testing.assert_array_equal(encoder.explain(objects).forced, counts["forced"])
    assert 0 < (counts["positives"] > 0).sum() < count


@pytest.mark.parametrize("count", [0, 1, 7, 100, 500])
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_crowded_images_equal_the_dense_twin(name, count):
    rng = np.random.default_rng(count)
    encoder = preset(name, (256, 320), 5)
    sides = np.exp(rng.uniform(np.log(2), np.log(300), (count, 2)))
    centres = rng.uniform(0, 320, (count, 2))
    boxes = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    boxes[: count // 3] = np.round(boxes[: count // 3])
    boxes[count // 3 : count // 2] = boxes[count // 3 : count // 3 + 1]  # many of one kind
    objects = Annotations(boxes, rng.integers(0, 5, count), rng.random(count) < 0.05)
    assert_same_target(encoder.encode(objects), reference.encode(encoder, objects)[0])


@laws
@given(st.data())
def test_every_object_that_overlaps_an_anchor_owns_one(data):
    encoder = data.draw(encoders(force="greedy", min_force_iou=0.0, padding="ignore"))
    objects = data.draw(annotations(encoder.grid, max_objects=8))
    explained = encoder.explain(objects)
    for k, outcome in enumerate(explained.outcome):
        if outcome in ("matched", "forced"):
            assert explained.positives[k] > 0
        elif outcome == "taken":
            overlapping = explained.best_iou[k] > 0
            assert overlapping  # only where every anchor it overlaps is reserved for another
            iou = reference.iou_matrix(objects.boxes[k : k + 1], encoder.grid.boxes)[0]
            assert (explained.state[iou > 0] == 1).all()


@laws
@given(st.data())
def test_a_crowd_never_removes_a_positive(data):
    encoder = data.draw(encoders(crowd="ignore"))
    objects = data.draw(annotations(encoder.grid))
    with_crowd = encoder.encode(objects)
    without = encoder.encode(objects.select(~objects.crowd))
    np.testing.assert_array_equal(with_crowd["state"] == 1, without["state"] == 1)
    np.testing.assert_array_equal(with_crowd["box"], without["box"])


@laws
@given(st.data())
def test_permuting_objects_permutes_the_answer_except_at_ties(data):
    encoder = data.draw(encoders(force="greedy", min_force_iou=0.0))
    objects = data.draw(annotations(encoder.grid, degenerate=False))
    iou = reference.iou_matrix(objects.boxes, encoder.grid.boxes, encoder.union_epsilon)
    ranked = np.sort(iou, axis=0)
    ties = (ranked[1:] == ranked[:-1]) & (ranked[1:] > 0)
    assume(not ties.any())
    order = np.array(data.draw(st.permutations(range(len(objects)))), int)
    one, other = encoder.encode(objects), encoder.encode(objects.select(order))
    np.testing.assert_array_equal(one["state"], other["state"])
    np.testing.assert_array_equal(one["label"], other["label"])
    np.testing.assert_array_equal(one["box"], other["box"])
    back = np.append(order, -1)
    np.testing.assert_array_equal(one["object"], back[other["object"]])


@laws
@given(st.data())
def test_decode_returns_every_object_that_was_assigned(data):
    encoder = data.draw(encoders(padding="negative"))
    objects = data.draw(annotations(encoder.grid, degenerate=False))
    explained = encoder.explain(objects)
    decoded = encoder.decode(encoder.encode(objects))
    kept = np.flatnonzero(explained.positives > 0)
    assert len(decoded) == len(kept)
    np.testing.assert_allclose(decoded.boxes, objects.boxes[kept], atol=1e-3)
    np.testing.assert_array_equal(decoded.labels, objects.labels[kept])


@laws
@given(st.data())
def test_explain_accounts_for_every_object_exactly_once(data):
    encoder = data.draw(encoders())
    objects = data.draw(annotations(encoder.grid))
    explained, target = encoder.explain(objects), encoder.encode(objects)
    assert len(explained.outcome) == len(objects)
    assert set(explained.outcome) <= set(OUTCOMES)
    assert explained.positives.sum() == (target["state"] == 1).sum()
    np.testing.assert_array_equal(
        explained.positives,
        np.bincount(target["object"][target["state"] == 1], minlength=len(objects)),
    )
    for k, outcome in enumerate(explained.outcome):
        assert (explained.positives[k] > 0) == (outcome in ("matched", "forced"))
        assert (k in explained.lost) == (outcome not in ("matched", "forced", "crowd"))
        assert explained.why(k)
    np.testing.assert_array_equal(explained.state, target["state"])
    np.testing.assert_array_equal(explained.object, target["object"])
    owned = explained.object[explained.forced_positions]
    np.testing.assert_array_equal(np.bincount(owned, minlength=len(objects)), explained.forced)


@laws
@given(st.data())
def test_a_batch_equals_its_examples(data):
    encoder = data.draw(encoders())
    batch = [
        data.draw(annotations(encoder.grid, max_objects=5))
        for _ in range(data.draw(st.integers(0, 5)))
    ]
    together = encoder.encode_batch(batch)
    for name, (shape, dtype) in encoder.spec.items():
        assert together[name].shape == (len(batch), *shape)
        assert together[name].dtype == dtype
        for i, one in enumerate(batch):
            np.testing.assert_array_equal(together[name][i], encoder.encode(one)[name])


def test_splitting_a_large_batch_over_threads_changes_nothing():
    rng = np.random.default_rng(0)
    encoder = preset("ytrue", 512, 5)
    batch = []
    for n in (0, 3, 50, 1, 9, 0, 20, 4):
        low = rng.uniform(0, 400, (n, 2))
        boxes = np.concatenate((low, low + rng.uniform(4, 200, (n, 2))), axis=1)
        batch.append(Annotations(boxes, rng.integers(0, 5, n)))
    together = encoder.encode_batch(batch)
    for i, one in enumerate(batch):
        for name, array in encoder.encode(one).items():
            np.testing.assert_array_equal(together[name][i], array)


@laws
@given(st.data())
def test_masks_come_from_state_alone(data):
    encoder = data.draw(encoders())
    target = encoder.encode(data.draw(annotations(encoder.grid)))
    masks = encoder.masks(target)
    np.testing.assert_array_equal(masks["class"], target["state"] != -1)
    np.testing.assert_array_equal(masks["box"], target["state"] == 1)


def test_a_true_target_of_exactly_zero_still_counts():
    encoder = preset("ytrue", 512, 5)
    anchor = 20_000
    target = encoder.encode(Annotations(encoder.grid.boxes[anchor : anchor + 1], [4]))
    assert (target["box"][anchor] == 0).all()
    assert encoder.masks(target)["box"][anchor]
    assert target["object"][anchor] == 0


# Each row: what, boxes, settings, expected (outcome, ...).
ANCHOR = (
    16.0,
    16.0,
    48.0,
    48.0,
)  # level 3, 32 px, centred at (32, 32)? no: cells centre at 4 + 8 i
RULES = [
    ("no area", [(10, 10, 10, 40)], {}, ["no-area"]),
    ("inverted", [(40, 10, 10, 40)], {}, ["no-area"]),
    ("not finite", [(10, 10, np.nan, 40)], {}, ["not-finite"]),
    ("outside", [(70, 70, 90, 90)], {}, ["outside"]),
    ("touching the frame from outside", [(64, 0, 90, 64)], {}, ["outside"]),
    ("an ordinary object", [(8, 8, 40, 40)], {}, ["matched"]),
    ("tiny, reserved", [(30, 30, 32, 32)], {}, ["forced"]),
    ("tiny, nothing reserved", [(30, 30, 32, 32)], {"force": "none"}, ["low-iou"]),
    ("tiny, floor too high", [(30, 30, 32, 32)], {"min_force_iou": 0.3}, ["low-iou"]),
    ("twins, one anchor each", [(30, 30, 32, 32)] * 2, {}, ["forced"] * 2),
    ("twins, automl's rule", [(30, 30, 32, 32)] * 2, {"force": "argmax"}, ["forced", "taken"]),
    ("atss, by merit", [(8, 8, 40, 40)], {"matcher": "atss", "force": "none"}, ["matched"]),
    (
        "atss, no centre inside",
        [(30, 30, 32, 32)],
        {"matcher": "atss", "force": "none"},
        ["no-point"],
    ),
    ("atss, none but reserved", [(30, 30, 32, 32)], {"matcher": "atss"}, ["forced"]),
    (
        "atss, equal objects",
        [(8, 8, 40, 40)] * 2,
        {"matcher": "atss", "force": "none"},
        ["matched", "taken"],
    ),
    (
        "centre prior, by merit",
        [(9, 9, 42, 42)],
        {"matcher": "center-prior", "force": "none"},
        ["matched"],
    ),
    (
        "centre prior, no centre inside",
        [(30, 30, 32, 32)],
        {"matcher": "center-prior", "force": "none"},
        ["no-point"],
    ),
    ("equal objects, first wins", [(8, 8, 40, 40)] * 2, {"force": "none"}, ["matched", "taken"]),
]


@pytest.mark.parametrize(("what", "boxes", "options", "expected"), RULES, ids=[r[0] for r in RULES])
def test_rules_by_example(what, boxes, options, expected):
    encoder = AnchorEncoder(AnchorGrid(64, max_level=4), 2, **options)
    explained = encoder.explain(Annotations(boxes, np.zeros(len(boxes))))
    assert list(explained.outcome) == expected


def test_reservations_go_by_falling_iou_not_by_order():
    """The better pair keeps the anchor, whoever comes first; the other gets its next best."""
    grid = AnchorGrid(64, max_level=3, num_scales=1, aspect_ratios=(1.0,))
    encoder = AnchorEncoder(grid, 1, positive_iou=0.95, negative_iou=0.95)
    anchor = grid.boxes[27]
    worse, better = anchor + np.float32([0, 0, -9, -9]), anchor + np.float32([0, 0, -8, -8])
    for boxes, owner in (([worse, better], 1), ([better, worse], 0)):
        target = encoder.encode(Annotations(boxes, [0, 0]))
        iou = reference.iou_matrix(np.array(boxes), grid.boxes)
        assert target["object"][iou[owner].argmax()] == owner
        assert sorted(target["object"][target["state"] == 1]) == [0, 1]


# ATSS by hand: one level of 8 x 8 cells of 8 px with an anchor of 32 px on each.
SQUARES = AnchorGrid(64, max_level=3, num_scales=1, aspect_ratios=(1.0,))


def test_atss_takes_candidates_above_their_own_mean_and_deviation():
    """An anchor itself, k = 5: it and its four neighbours, whose IoU is 24 / 40."""
    objects = Annotations(SQUARES.boxes[27:28], [0])
    encoder = AnchorEncoder(SQUARES, 1, matcher="atss", top_k=5, force="none")
    mean, deviation = (1 + 4 * 0.6) / 5, np.std([1, 0.6, 0.6, 0.6, 0.6], ddof=1)
    assert 0.6 < mean + deviation < 1
    assert np.flatnonzero(encoder.encode(objects)["state"]).tolist() == [27]
    # Of one candidate mean + 0 is its own IoU: it is taken whatever that is.
    one = AnchorEncoder(SQUARES, 1, matcher="atss", top_k=1, force="none")
    small = Annotations([(25, 25, 30, 30)], [0])
    assert np.flatnonzero(one.encode(small)["state"]).tolist() == [27]


def test_of_cells_as_near_the_lower_is_the_candidate():
    """The centre is a corner of cells, so four are as near; all have one IoU, so all pass."""
    for top_k, taken in ((1, [18]), (2, [18, 19]), (3, [18, 19, 26]), (4, [18, 19, 26, 27])):
        encoder = AnchorEncoder(SQUARES, 1, matcher="atss", top_k=top_k, force="none")
        state = encoder.encode(Annotations([(8, 8, 40, 40)], [0]))["state"]
        assert np.flatnonzero(state == 1).tolist() == taken


def test_a_centre_on_the_edge_is_not_inside():
    """Cells are centred at 4 + 8 i: of the box's four nearest none lies strictly inside."""
    for matcher in ("atss", "center-prior"):
        encoder = AnchorEncoder(SQUARES, 1, matcher=matcher, top_k=4, force="none")
        assert encoder.explain(Annotations([(20, 20, 28, 28)], [0])).outcome == ("no-point",)
        wider = Annotations([(19.9, 19.9, 28, 28)], [0])
        assert np.flatnonzero(encoder.encode(wider)["state"] == 1).tolist() == [18]


def test_the_centre_prior_takes_the_best_shape_and_ignores_middling_ones():
    grid = AnchorGrid(64, shapes=[[(16, 16), (32, 32), (36, 36)]], max_level=3)
    encoder = AnchorEncoder(
        grid, 1, matcher="center-prior", top_k=1, positive_iou=0.7, negative_iou=0.2
    )
    cells = encoder.encode(Annotations([(20, 20, 52, 52)], [0]))["state"].reshape(8, 8, 3)
    assert cells[4, 4].tolist() == [-1, 1, 1]  # 0.25, 1 and 0.79
    assert np.abs(cells).sum() == 3
    thin = encoder.encode(Annotations([(34, 10, 38, 62)], [0]))["state"].reshape(8, 8, 3)
    assert thin[4, 4].tolist() == [1, 0, 0]  # none is of its shape: 0.16 is the best


def test_padding_is_ignored_only_when_asked():
    grid = AnchorGrid(64, max_level=3, num_scales=1, aspect_ratios=(1.0,))
    objects = Annotations(content=(0, 0, 64, 33))
    expected_columns = {"negative": 0, "ignore": 4, "ignore-positive": 4}  # centres 36, 44, 52, 60
    for padding, columns in expected_columns.items():
        state = AnchorEncoder(grid, 1, padding=padding).encode(objects)["state"].reshape(8, 8)
        assert (state == -1).sum() == 8 * columns
        assert (state[:, 8 - columns :] == -1).all()


def test_a_crowd_mask_counts_pixels_not_its_box():
    grid = AnchorGrid(64, max_level=3, num_scales=1, aspect_ratios=(1.0,), anchor_scale=1.0)
    encoder = AnchorEncoder(grid, 1)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :12] = 1  # all of the first column of cells, half of the second
    box = [(0, 0, 64, 64)]
    by_mask = encoder.encode(Annotations(box, [0], crowd=[True], masks=[mask]))["state"]
    by_box = encoder.encode(Annotations(box, [0], crowd=[True]))["state"]
    assert (by_box == -1).all()
    np.testing.assert_array_equal((by_mask == -1).reshape(8, 8).sum(axis=0), [8, 8] + [0] * 6)


def test_a_crowd_whose_box_is_not_finite_is_told_as_that_with_and_without_a_mask():
    grid = AnchorGrid(64, max_level=3, num_scales=1, aspect_ratios=(1.0,), anchor_scale=1.0)
    encoder = AnchorEncoder(grid, 1)
    boxes, masks = [(np.nan, 0, 64, 64), (0, 0, 64, 64)], [np.ones((64, 64), np.uint8), None]
    for masks_given in (masks, None):
        crowds = Annotations(boxes, [0, 0], crowd=[True, True], masks=masks_given)
        assert encoder.explain(crowds).outcome == ("not-finite", "crowd")
    assert (encoder.encode(crowds.select([0]))["state"] == 0).all()
    assert (encoder.encode(crowds.replace(masks=masks).select([0]))["state"] == 0).all()


def test_an_object_whose_best_overlap_is_the_least_that_forces_is_not_refused_by_another():
    encoder = AnchorEncoder(
        AnchorGrid(64, 3, 3, 1, (1.0,), shapes=[[(32, 32)]]), 1, min_force_iou=0.25
    )
    told = encoder.explain(Annotations([(24, 24, 40, 40)], [0]))
    assert told.best_iou[0] == 0.25
    assert told.outcome == ("low-iou",)


def test_errors_name_the_object():
    encoder = preset("ytrue", 64, 3)
    with pytest.raises(ValueError, match=r"^object 1 has label 3, expected 0 to 2 \(labels count"):
        encoder.encode(Annotations([(0, 0, 9, 9)] * 2, [2, 3]))
    with pytest.raises(ValueError, match=r"^example 1 of the batch: object 0 has label -1"):
        encoder.encode_batch([Annotations(), Annotations([(0, 0, 9, 9)], [-1])])
    crowd = Annotations([(0, 0, 9, 9)], [0], crowd=[True], masks=[np.ones((5, 6), np.uint8)])
    with pytest.raises(
        ValueError, match="mask of crowd object 0 is 5x6, the network input is 64x64"
    ):
        encoder.encode(crowd)


@laws
@given(grids())
@example(AnchorGrid(512))
@example(AnchorGrid((600, 1333)))
def test_anchors_equal_their_formula(grid):
    expected = []
    for (rows, columns), (sy, sx), shapes in zip(
        grid.cells, grid.strides, grid.anchor_shapes, strict=True
    ):
        y = (np.arange(rows) + grid.cell_offset) * sy
        x = (np.arange(columns) + grid.cell_offset) * sx
        y, x = (axis[..., None] for axis in np.meshgrid(y, x, indexing="ij"))
        half = np.array(shapes) / 2
        edges = (y - half[:, 0], x - half[:, 1], y + half[:, 0], x + half[:, 1])
        expected.append(np.stack(edges, axis=-1).reshape(-1, 4))
    expected = np.concatenate(expected).astype(grid.precision)
    assert len(grid) == len(expected) == len(grid.anchor_level)
    np.testing.assert_array_equal(grid.boxes, expected)


@laws
@given(st.data())
def test_an_integral_counts_the_pixels_above_and_left(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits, np.uint8).reshape(height, width)
    integral = np.full((width + 1, height + 1), -7, np.int32)
    box = np.full(4, np.nan, np.float32)
    integrate(RLE.from_mask(mask).counts, integral, box)
    expected = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    np.testing.assert_array_equal(integral.T, expected)
    rows, columns = np.nonzero(mask)
    edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] if rows.size else [0] * 4
    assert box.tolist() == edges
