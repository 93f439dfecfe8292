"""FCOSEncoder: its twin, its laws, its edges, itself as a value."""

import json
import os
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ytrue
from laws import assert_config_is_the_encoder, assert_passes_with, assert_survives_the_config
from reference import fcos as reference
from strategies import Places, annotations, fcos_encoders, scattered
from ytrue import Annotations, viz
from ytrue.boxes import clip
from ytrue.contract import LOST
from ytrue.encoders import FCOSEncoder

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
laws = settings(
    deadline=None,
    suppress_health_check=_SLOW,
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "150")),
    derandomize=True,
)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def crowded(data, encoder, **options):
    return data.draw(annotations(Places(encoder), points=True, **options))


@laws
@given(st.data())
def test_the_kernel_equals_its_twin(data):
    encoder = data.draw(fcos_encoders())
    objects = crowded(data, encoder)
    expected, outcome, asked = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected)
    explained = encoder.explain(objects)
    assert list(explained.outcome) == outcome
    np.testing.assert_array_equal(explained.state, expected["state"])
    np.testing.assert_array_equal(explained.object, expected["object"])
    np.testing.assert_array_equal(explained.positives + explained.stolen, asked.sum(axis=1))


@pytest.mark.parametrize("center_radius", [1.5, 0.6, None])
@pytest.mark.parametrize("size", [512, (500, 777), (1024, 640)])
def test_a_full_image_equals_the_twin(size, center_radius):
    encoder = FCOSEncoder(size, 5, center_radius=center_radius)
    objects = scattered(np.random.default_rng(0), 60, 700, largest=0.9)
    expected, outcome, _ = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected)
    assert list(encoder.explain(objects).outcome) == outcome
    assert len(np.unique(encoder.point_level[expected["state"] == 1])) >= 4


@laws
@given(st.data())
def test_points_are_the_centres_of_cells(data):
    encoder = data.draw(fcos_encoders())
    points, level = reference.points_of(encoder)
    np.testing.assert_array_equal(encoder.points, points)
    np.testing.assert_array_equal(encoder.point_stride, np.float32(encoder.stride)[level])
    boxes = encoder.boxes
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, points, atol=1e-4)


@laws
@given(st.data())
def test_decoding_returns_every_object_that_is_not_lost_cut_to_the_frame(data):
    encoder = data.draw(fcos_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    decoded = encoder.decode(encoder.encode(objects))
    held = [i for i, outcome in enumerate(explained.outcome) if outcome == "matched"]
    np.testing.assert_array_equal(decoded.labels, objects.labels[held])
    height, width = encoder.image_size
    inside = clip(objects.boxes[held], height, width)
    # Two roundings of a distance and one of a coordinate in the frame, of a 2^24th each.
    np.testing.assert_allclose(decoded.boxes, inside, rtol=0, atol=2e-7 * max(height, width))


@laws
@given(st.data())
def test_the_order_of_objects_decides_between_equal_areas_only(data):
    encoder = data.draw(fcos_encoders())
    objects = crowded(data, encoder)
    finite = np.nan_to_num(objects.boxes, posinf=0, neginf=0)
    inside = clip(finite, *encoder.image_size)
    areas = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    objects = objects.select(np.sort(np.unique(areas, return_index=True)[1]).tolist())
    order = data.draw(st.permutations(range(len(objects))))
    target, permuted = encoder.encode(objects), encoder.encode(objects.select(order))
    for name in ("state", "label", "box", "centerness"):
        np.testing.assert_array_equal(permuted[name], target[name], err_msg=name)
    renamed = np.array([*np.argsort(order), -1], np.int32)[target["object"]]
    np.testing.assert_array_equal(permuted["object"], renamed)


@laws
@given(st.data())
def test_a_batch_is_its_examples(data):
    encoder = data.draw(fcos_encoders())
    batch = [crowded(data, encoder) for _ in range(data.draw(st.integers(1, 4)))]
    target = encoder.encode_batch(batch)
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


def test_many_threads_and_few_give_one_answer():
    rng = np.random.default_rng(3)
    encoder = FCOSEncoder(512, 5, center_radius=None)
    batch = [scattered(rng, n, 512, largest=0.9) for n in rng.integers(0, 30, 40)]
    target = encoder.encode_batch(batch)  # 40 x 158 kB: shared out
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


@laws
@given(st.data())
def test_every_object_is_accounted_for_once(data):
    encoder = data.draw(fcos_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    assert len(explained) == len(objects)
    owned = np.bincount(explained.object[explained.state == 1], minlength=len(objects))
    np.testing.assert_array_equal(owned, explained.positives)
    assert (explained.object[explained.state != 1] == -1).all()
    for i, outcome in enumerate(explained.outcome):
        assert (explained.positives[i] > 0) == (outcome == "matched")
        assert (i in explained.lost) == (outcome in LOST)
        asked = explained.positives[i] + explained.stolen[i] > 0
        assert asked == (explained.best_position[i] >= 0) == (explained.level[i] >= 0)
        assert asked == (outcome in ("matched", "taken"))
        assert explained.why(i)


@laws
@given(st.data())
def test_the_best_position_is_the_nearest_that_it_asked_for(data):
    encoder = data.draw(fcos_encoders())
    objects = crowded(data, encoder, degenerate=False)
    *_, asked = reference.encode(encoder, objects)
    explained = encoder.explain(objects)
    boxes = clip(objects.boxes, *encoder.image_size)
    centre = boxes[:, :2] * np.float32(0.5) + boxes[:, 2:] * np.float32(0.5)
    off = abs(encoder.points[None] - centre[:, None]).max(axis=2)
    nearest = np.where(asked, off, np.inf)
    expected = np.where(asked.any(axis=1), nearest.argmin(axis=1), -1)
    np.testing.assert_array_equal(explained.best_position, expected)


def test_the_target_by_example():
    """Points at 4, 12, 20, 28 along each axis, and at 8, 24 on the level of stride 16."""
    encoder = FCOSEncoder(32, 3, stride=(8, 16), ranges=(12,), center_radius=None)
    target = encoder.encode(Annotations([(0, 2, 16, 21), (2, 18, 10, 30)], [2, 1]))
    fine = np.full((4, 4), -1)
    # Object 0: t 4 and 12, b 12 and 4, l 10, r 9 at (4 or 12, 12); l 2, r 17 at x = 4 are too far.
    fine[:2, 1] = 0
    fine[0, 2:] = 1  # object 1: t 2, b 6 at y = 4; l 2, r 10 at x = 20; l 10, r 2 at x = 28
    np.testing.assert_array_equal(target["object"][:16].reshape(4, 4), fine)
    # On the coarse level l 6, r 13 at (8, 8): above 12. Object 1 would have 6 at most.
    np.testing.assert_array_equal(target["object"][16:], [0, -1, -1, -1])
    np.testing.assert_array_equal(target["label"][[1, 2, 3, 5, 16]], [2, 1, 1, 2, 2])
    np.testing.assert_array_equal(target["box"][1], np.float32([4, 10, 12, 9]) / 8)
    np.testing.assert_array_equal(target["box"][3], np.float32([2, 10, 6, 2]) / 8)
    np.testing.assert_array_equal(target["box"][16], np.float32([8, 6, 8, 13]) / 16)
    np.testing.assert_allclose(target["centerness"][1], np.sqrt(9 / 10 * 4 / 12), rtol=1e-6)
    np.testing.assert_allclose(target["centerness"][16], np.sqrt(6 / 13), rtol=1e-6)
    masks = encoder.masks(target)
    assert masks["box"].sum() == masks["centerness"].sum() == 5
    assert masks["class"].all()
    assert all(mask.dtype == bool for mask in masks.values())


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize(("level", "bound"), [*enumerate((64, 128, 256, 512))])
def test_a_distance_of_a_bound_is_of_the_finer_level_and_of_no_other(level, bound, above):
    """A box whose right border is `bound` from a point of each level, the other borders nearer."""
    encoder = FCOSEncoder(1024, 1, center_radius=None)
    first = encoder.cells.offsets
    for one in (level, level + 1):
        stride = encoder.stride[one]
        y, x = encoder.points[first[one] + 1 + encoder.cells.grid[one][1]].tolist()
        assert (y, x) == (1.5 * stride, 1.5 * stride)
        far = np.nextafter(np.float32(x + bound), np.float32(np.inf)) if above else x + bound
        box = (y - 0.25 * stride, x - 0.25 * stride, y + 0.25 * stride, far)
        owner = encoder.encode(Annotations([box], [0]))["object"]
        held = owner[first[one] + 1 + encoder.cells.grid[one][1]] == 0
        assert held == ((one == level) != above)


def test_a_point_on_a_border_is_outside():
    encoder = FCOSEncoder(32, 1, stride=(8, 16), center_radius=None)
    low, high = np.nextafter(np.float32(12), [np.float32(0), np.float32(99)])
    for box, inside in (
        ((12, 8, 20, 16), False), ((low, 8, 20, 16), True), ((4, 8, 12, 16), False),
        ((4, 8, high, 16), True), ((8, 12, 16, 20), False), ((8, low, 16, 20), True),
        ((8, 4, 16, 12), False), ((8, 4, 16, high), True),
    ):  # fmt: skip
        target = encoder.encode(Annotations([box], [0]))
        assert (target["state"][5] == 1) == inside, box  # the point (12, 12)
        assert ((target["centerness"] > 0) == (target["state"] == 1)).all()


def test_centre_sampling_is_strict():
    """The centre is (32, 32); points of stride 8 are 4, 12, ... away from it."""
    objects = Annotations([(2, 2, 62, 62)], [0])
    for radius, first in {0.5: 4, 0.51: 3, 1.5: 3, 1.51: 2, None: 0}.items():
        encoder = FCOSEncoder(64, 1, stride=8, center_radius=radius)
        expected = np.zeros((8, 8))
        expected[first : 8 - first, first : 8 - first] = 1
        state = encoder.encode(objects)["state"].reshape(8, 8)
        np.testing.assert_array_equal(state, expected)


def test_the_smallest_wins_and_of_equals_the_first():
    encoder = FCOSEncoder(64, 3, stride=(16,), center_radius=None)
    objects = Annotations(
        [(0, 0, 64, 64), (0, 0, 32, 32), (0, 0, 32, 32), (4, 4, 20, 12)], [0, 1, 2, 0]
    )
    explained = encoder.explain(objects)
    owner = explained.object.reshape(4, 4)
    np.testing.assert_array_equal(owner[:2, :2], [[3, 1], [1, 1]])
    assert (owner == 0).sum() == 12
    assert explained.outcome == ("matched", "matched", "taken", "matched")
    assert explained.stolen.tolist() == [4, 1, 4, 0]
    assert explained.why(1) == "owns 3 positions on P4"
    assert explained.why(2) == "lost: every position it could have had (on P4) went to another"
    both = FCOSEncoder(64, 1, stride=(8, 16), ranges=(20,)).explain(
        Annotations([(8, 8, 44, 44)], [0])
    )
    assert both.why(0) == "owns 4 positions on P3 and P4"
    backwards = encoder.explain(objects.select([3, 2, 1, 0]))
    assert backwards.outcome == ("matched", "matched", "taken", "matched")


def test_areas_that_differ_by_one_unit_in_the_last_place_are_told_apart():
    """A rank by float32(1e8 - area), as torchvision and detectron2 have it, sees a tie."""
    encoder = FCOSEncoder(64, 2, stride=(16,))
    larger = np.nextafter(np.float32(42), np.float32(99))
    objects = Annotations([(10, 10, larger, 42), (10, 10, 42, 42)], [0, 1])
    target = encoder.encode(objects)
    assert set(target["object"].tolist()) == {-1, 1}


def test_an_object_between_points_is_said_to_hold_none():
    encoder = FCOSEncoder(512, 1)
    explained = encoder.explain(Annotations([(5, 5, 11, 11), (18, 100, 30, 400)], [0, 0]))
    assert explained.outcome == ("no-point", "no-point")
    assert explained.lost == (0, 1)
    assert explained.why(0) == "lost: no point lies in it, near its centre, on a level of its size"
    assert explained.best_position.tolist() == explained.level.tolist() == [-1, -1]


def test_points_in_crowds_are_ignored_by_box_or_mask():
    encoder = FCOSEncoder(32, 1, stride=(8, 16))
    crowd = Annotations([(4, 4, 20, 20.5), (0, 0, 8, 8)], [0, 0], [True, False])
    state = encoder.encode(crowd)["state"]
    # Minima are inside, maxima are not: 4 and 12 of y, 4, 12 and 20 of x.
    expected = [[1, -1, -1, 0], [-1, -1, -1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(state[:16].reshape(4, 4), expected)
    np.testing.assert_array_equal(state[16:], [-1, 0, 0, 0])
    assert encoder.explain(crowd).outcome == ("crowd", "matched")
    mask = np.zeros((32, 32), np.uint8)
    mask[20, 12] = mask[31, 31] = mask[4, 4] = 1
    masked = crowd.replace(masks=[mask, None])
    state = encoder.encode(masked)["state"]
    assert np.flatnonzero(state == -1).tolist() == [2 * 4 + 1]  # (4, 4) is positive
    assert not (replace(encoder, crowd="negative").encode(masked)["state"] == -1).any()


def test_crowds_alone_leave_nothing_positive():
    encoder = FCOSEncoder(128, 1)
    objects = Annotations([(0, 0, 128, 128)] * 2, [0, 0], [True, True])
    target = encoder.encode(objects)
    assert (target["state"] == -1).all()
    assert not encoder.masks(target)["class"].any()
    assert len(encoder.decode(target)) == 0


def test_padding_is_ignored_where_asked_unless_positive():
    objects = Annotations([(0, 0, 16, 8)], [0], content=(0, 0, 12, 20))
    encoder = FCOSEncoder(32, 1, stride=(8,), padding="ignore", center_radius=None)
    state = encoder.encode(objects)["state"].reshape(4, 4)
    # Points at 12 along y, 20 along x are on the far border: outside.
    np.testing.assert_array_equal(state, [[1, 0, -1, -1], [1, -1, -1, -1]] + [[-1] * 4] * 2)
    taught = replace(encoder, padding="negative").encode(objects)["state"]
    assert not (taught == -1).any()


OUTCOMES = [
    ((np.nan, 0, 4, 4), "not-finite"), ((0, 0, np.inf, 4), "not-finite"), ((4, 4, 4, 9), "no-area"),
    ((9, 4, 4, 9), "no-area"), ((16, 0, 20, 4), "outside"), ((-9, 0, 0, 4), "outside"),
    ((-9, -9, 3, 3), "matched"), ((-1e9, -1e9, 1e9, 1e9), "matched"), ((0, 0, 1e-30, 1e-30), "no-point"),
]  # fmt: skip


@pytest.mark.parametrize(("box", "outcome"), OUTCOMES)
def test_what_becomes_of_odd_boxes(box, outcome):
    encoder = FCOSEncoder(16, 1, stride=(4, 8))
    objects = Annotations([box], [0])
    assert encoder.explain(objects).outcome == (outcome,)
    target = encoder.encode(objects)
    assert (target["state"] == 1).any() == (outcome == "matched")
    assert np.isfinite(target["box"]).all()
    assert len(encoder.decode(target)) == (outcome == "matched")


def test_without_objects_everything_is_negative():
    encoder = FCOSEncoder(128, 3)
    target = encoder.encode(Annotations())
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec
    assert encoder.spec["state"][0] == (256 + 64 + 16 + 4 + 1,)
    assert not target["state"].any()
    assert not target["box"].any()
    assert not target["centerness"].any()
    assert (target["object"] == -1).all()
    assert (target["label"] == -1).all()
    assert len(encoder.decode(target)) == 0


def test_packed_layout_holds_box_centerness_class_and_state():
    encoder = FCOSEncoder((64, 96), 4, stride=(8, 16))
    objects = scattered(np.random.default_rng(1), 9, 60, classes=4, largest=0.9)
    target, first = encoder.encode(objects), 0
    packed = encoder.pack(target)
    assert list(packed) == ["8x12", "4x6"]
    for (rows, columns), array in zip(encoder.cells.grid, packed.values(), strict=True):
        assert array.shape == (rows, columns, 4 + 1 + 4 + 1)
        assert array.dtype == np.float32
        points = slice(first, first + rows * columns)
        flat = array.reshape(-1, 10)
        np.testing.assert_array_equal(flat[:, :4], target["box"][points])
        np.testing.assert_array_equal(flat[:, 4], target["centerness"][points])
        np.testing.assert_array_equal(flat[:, 9], target["state"][points])
        label = target["label"][points]
        np.testing.assert_array_equal(flat[:, 5:9].sum(axis=-1), label >= 0)
        np.testing.assert_array_equal(flat[:, 5:9].argmax(axis=-1), label.clip(0))
        first += rows * columns
    batch = encoder.pack(encoder.encode_batch([objects, objects]))
    for name, array in packed.items():
        np.testing.assert_array_equal(batch[name], np.stack([array, array]))


def predicted(encoder, target, strength=6.0):
    """A prediction that says what the target says, and how central each point is."""
    positive = target["state"] == 1
    classes = target["label"][:, None] == np.arange(encoder.num_classes)
    share = np.where(positive, target["centerness"], 1e-4).clip(1e-4, 1 - 1e-4)
    return {
        "class": np.where(classes, strength, -9.0).astype(np.float32),
        "centerness": np.log(share / (1 - share)).astype(np.float32),
        "box": np.log(np.where(positive[:, None], target["box"], 1.0)).astype(np.float32),
    }


def test_predictions_decode_to_scored_boxes():
    encoder = FCOSEncoder(256, 3, center_radius=None)
    objects = Annotations([(8, 9, 40, 45), (60, 70, 200, 190), (90, 5, 99, 30)], [2, 0, 1])
    target = encoder.encode(objects)
    found = encoder.decode(predicted(encoder, target))
    order = np.argsort(found.boxes[:, 0])
    np.testing.assert_array_equal(found.labels[order], objects.labels)
    np.testing.assert_allclose(found.boxes[order], objects.boxes, atol=1e-3)
    # Of each object's points the most central one remains.
    best = [target["centerness"][target["object"] == k].max() for k in range(3)]
    expected = np.sqrt(np.clip(best, 0, 1 - 1e-4) / (1 + np.exp(-6.0)))
    np.testing.assert_allclose(found.scores[order], expected, rtol=1e-5)
    assert len(encoder.decode(predicted(encoder, target), max_detections=1)) == 1
    assert len(encoder.decode(predicted(encoder, target), score_threshold=1)) == 0


def test_wild_predictions_decode_to_finite_boxes():
    encoder = FCOSEncoder(64, 1, stride=(8, 16))
    arrays = {
        "class": np.full((80, 1), np.inf, np.float32),
        "centerness": np.full(80, np.inf, np.float32),
        "box": np.full((80, 4), np.inf, np.float32),
    }
    found = encoder.decode(arrays)
    assert np.isfinite(found.boxes).all()
    np.testing.assert_array_equal(found.scores, 1)
    np.testing.assert_allclose((found.boxes[:, 2] - found.boxes[:, 0]).max(), 16 * 2 * 62.5)


def test_a_dataset_is_audited_and_drawn(tmp_path):
    ytrue.datasets.write_shapes(tmp_path, num_images=6, image_size=(96, 128))
    dataset = ytrue.datasets.load(tmp_path)
    encoder = FCOSEncoder(96, dataset.num_classes, stride=(8, 16, 32))
    report = ytrue.audit(dataset, encoder)
    assert report.outcomes()["matched"] > 0
    assert sum(report.outcomes().values()) == sum(
        len(dataset[i].annotations) for i in range(len(dataset))
    )
    assert set(report.by_level()) <= {"P3", "P4", "P5"}
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {row["best_iou_median"] for row in told["by_level"].values()} == {None}
    assert not report.by_overlap
    titles = [axes.get_title() for axes in viz.show_audit(report).axes]
    assert "objects by size" in titles
    assert not any("IoU" in title for title in titles)
    assignment = encoder.explain(Annotations([(8, 8, 60, 70), (5, 5, 6, 6)], [0, 1]))
    black = np.zeros((96, 96, 3), np.uint8)
    figure = viz.show_assignment(black, assignment, classes=dataset.classes)
    words = {text.get_text() for text in figure.axes[0].texts}
    assert words == {"#0 square: 9", "#1 disc: lost, no-point"}


def test_objects_without_a_point_are_advised_on():
    class Listed:
        classes = ("cat",)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            boxes = Annotations([(5, 5, 11, 11), (8, 8, 90, 90)], [0, 0])
            return ytrue.Example(0, "none.jpg", 128, 128, boxes)

    advice = ytrue.audit(Listed(), FCOSEncoder(128, 1)).advice()
    assert advice[:2] == [
        "1 of 2 objects own no position and teach nothing (1 no-point).",
        "1 of them hold no point on a level of their size: a larger input, tiles or a finer stride "
        "would give them some.",
    ]
    assert not any("aspect_ratios" in line or "min_level" in line for line in advice)


BASE = FCOSEncoder((64, 48), 5, stride=(4, 8, 16))
OTHER_VALUES = {
    "image_size": (80, 48), "num_classes": 6, "stride": (4, 8, 20), "ranges": (32, 63.5),
    "center_radius": None, "crowd": "negative", "padding": "ignore",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(FCOSEncoder)])
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    assert_survives_the_config(BASE, name, OTHER_VALUES[name])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_config_is_json_and_builds_an_equal_encoder(data):
    assert_config_is_the_encoder(data.draw(fcos_encoders()))


def test_ranges_are_eight_strides_unless_given():
    assert FCOSEncoder(512, 1).ranges == (64, 128, 256, 512)
    assert BASE.ranges == (32, 64)
    assert FCOSEncoder(64, 1, stride=8) == FCOSEncoder(64, 1, stride=(8,), ranges=())


def make(size=32, num_classes=2, **options):
    return FCOSEncoder(size, num_classes, **({"stride": (8, 16)} | options))


BAD = [
    (lambda: make(stride=(16, 8)), r"stride=\(16, 8\): expected rising numbers, fine to coarse"),
    (lambda: make(stride=(8, 0)), r"stride=\(8, 0\): expected whole pixels of at least 1"),
    (lambda: make(size=8), r"an input of 8x8 has the same grid of cells for two of them"),
    (lambda: make(ranges=()), r"ranges=\(\): expected 1 rising numbers of pixels above 0"),
    (lambda: make(ranges=(0,)), r"ranges=\(0.0,\): expected 1 rising"),
    (lambda: make(ranges=(np.inf,)), r"ranges=\(inf,\): expected 1 rising"),
    (lambda: make(stride=(4, 8, 16), ranges=(9, 9)), r"ranges=\(9.0, 9.0\): expected 2 rising"),
    (lambda: make(center_radius=0), "center_radius=0.0: expected strides above 0, or None"),
    (lambda: make(center_radius=np.nan), "center_radius=nan: expected a finite number"),
    (lambda: make(num_classes=0), "num_classes=0: expected a whole number above 0"),
    (lambda: make(crowd="x"), "crowd='x': expected one of ignore, negative"),
    (lambda: make(padding="x"), "padding='x': expected one of negative, ignore"),
    (lambda: FCOSEncoder.from_config({"encoder": "anchor"}), "config of a 'anchor' encoder"),
    (
        lambda: make().encode_batch([Annotations([(0, 0, 4, 4)] * 2, [1, 2]), Annotations()]),
        "example 0 of the batch: object 1 has label 2, expected 0 to 1",
    ),
    (lambda: make().decode({"xy": np.zeros(1)}), r"decode got arrays named \['xy'\]: expected a target"),
    (
        lambda: make().encode(
            Annotations([(0, 0, 4, 4)], [0], [True], masks=[np.ones((4, 4), np.uint8)])
        ),
        "the mask of crowd object 0 is 4x4, the network input is 32x32",
    ),
]  # fmt: skip


def test_a_prediction_may_reach_across_the_input():
    encoder = FCOSEncoder(1280, 1, stride=8)
    target = encoder.encode(Annotations([(0, 0, 1280, 1280)], [0]))
    with np.errstate(divide="ignore"):
        box = np.log(target["box"])
    logits = np.where(target["state"] == 1, 20.0, -20.0).astype(np.float32)
    outputs = {"class": logits[:, None], "box": box, "centerness": logits}
    found = encoder.decode(outputs, score_threshold=0.5)
    np.testing.assert_allclose(found.boxes[0], (0, 0, 1280, 1280), atol=0.01)


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_named_with_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_kernels_pass_with_bounds_checked_and_without_compilation(variable, tmp_path):
    """A read past an array's end is silent in compiled code; here it is an IndexError."""
    assert_passes_with(
        variable, __file__, "equals_its_twin or batch or example or decode or odd", tmp_path
    )
