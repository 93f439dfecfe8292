"""YoloEncoder: its twin, its laws, its edges, itself as a value."""

import os
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ytrue
from laws import assert_config_is_the_encoder, assert_passes_with, assert_survives_the_config
from reference import yolo as reference
from strategies import Places, annotations, scattered, yolo_encoders
from ytrue import Annotations
from ytrue.boxes import clip
from ytrue.contract import LOST
from ytrue.encoders import YoloEncoder

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
laws = settings(
    deadline=None,
    suppress_health_check=_SLOW,
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "150")),
    derandomize=True,
)
V3 = [
    [(13, 10), (30, 16), (23, 33)],
    [(61, 30), (45, 62), (119, 59)],
    [(90, 116), (198, 156), (326, 373)],
]


FLAT = [sides for level in V3 for sides in level]


def assert_same(got, expected, ulp=0):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        if name == "box" and ulp:
            np.testing.assert_array_max_ulp(got[name], array, maxulp=ulp)
        else:
            np.testing.assert_array_equal(got[name], array, err_msg=name)


def crowded(data, encoder, **options):
    return data.draw(annotations(Places(encoder), **options))


@laws
@given(st.data())
def test_the_kernel_equals_its_twin(data):
    encoder = data.draw(yolo_encoders())
    objects = crowded(data, encoder)
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected, ulp=2)  # of the logarithm
    explained = encoder.explain(objects)
    assert list(explained.outcome) == outcome
    np.testing.assert_array_equal(explained.state, expected["state"].ravel())
    np.testing.assert_array_equal(explained.object, expected["object"].ravel())
    np.testing.assert_array_equal(explained.boxes, reference.anchor_boxes(encoder))


@pytest.mark.parametrize("match", ["best", "ratio"])
@pytest.mark.parametrize("neighbours", [0, 1, 2])
@pytest.mark.parametrize(("anchors", "stride"), [(V3, (8, 16, 32)), (FLAT, 4), (FLAT, 50)])
def test_a_full_image_equals_the_twin(anchors, stride, neighbours, match):
    encoder = YoloEncoder(
        256, anchors, stride=stride, num_classes=5, match=match, neighbours=neighbours
    )
    objects = scattered(np.random.default_rng(0), 60, 256)
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected, ulp=2)
    assert list(encoder.explain(objects).outcome) == outcome


@laws
@given(st.data())
def test_decoding_returns_every_object_that_is_not_lost_cut_to_the_frame(data):
    encoder = data.draw(yolo_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    decoded = encoder.decode(encoder.encode(objects))
    held = [i for i, outcome in enumerate(explained.outcome) if outcome in ("matched", "forced")]
    np.testing.assert_array_equal(decoded.labels, objects.labels[held])
    height, width = encoder.image_size
    inside = clip(objects.boxes[held], height, width)
    # Three roundings of a coordinate in the frame, and of a logarithm of at most 120.
    np.testing.assert_allclose(decoded.boxes, inside, rtol=0, atol=1e-5 * max(height, width))


@laws
@given(st.data())
def test_the_order_of_objects_changes_nothing_but_their_indices(data):
    encoder = data.draw(yolo_encoders())
    objects = crowded(data, encoder)
    order = data.draw(st.permutations(range(len(objects))))
    target, permuted = encoder.encode(objects), encoder.encode(objects.select(order))
    for name in ("state", "label", "box"):
        np.testing.assert_array_equal(permuted[name], target[name], err_msg=name)
    height, width = encoder.image_size
    inside = clip(objects.boxes, height, width)
    # Where no two objects are one and the same, the indices follow the objects.
    if len(np.unique(np.column_stack((inside, objects.labels)), axis=0)) == len(objects):
        renamed = np.array([*np.argsort(order), -1], np.int32)[target["object"]]
        np.testing.assert_array_equal(permuted["object"], renamed)


@laws
@given(st.data())
def test_a_batch_is_its_examples(data):
    encoder = data.draw(yolo_encoders())
    batch = [crowded(data, encoder) for _ in range(data.draw(st.integers(1, 4)))]
    target = encoder.encode_batch(batch)
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


def test_many_threads_and_few_give_one_answer():
    rng = np.random.default_rng(3)
    encoder = YoloEncoder(256, V3, stride=(8, 16, 32), num_classes=5, neighbours=2)
    batch = [scattered(rng, n, 256) for n in rng.integers(0, 30, 40)]
    target = encoder.encode_batch(batch)  # 40 x 100 kB: shared out
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


@laws
@given(st.data())
def test_every_object_is_accounted_for_once(data):
    encoder = data.draw(yolo_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    assert len(explained) == len(objects)
    owned = np.bincount(explained.object[explained.state == 1], minlength=len(objects))
    np.testing.assert_array_equal(owned, explained.positives)
    assert (explained.object[explained.state != 1] == -1).all()
    for i, outcome in enumerate(explained.outcome):
        assert (explained.positives[i] > 0) == (outcome in ("matched", "forced"))
        assert (explained.forced[i] > 0) == (outcome == "forced")
        assert (i in explained.lost) == (outcome in LOST)
        assert explained.why(i)
    second = explained.object[explained.forced_positions]
    np.testing.assert_array_equal(np.bincount(second, minlength=len(objects)), explained.forced)


@laws
@given(st.data())
def test_an_object_is_lost_only_where_its_cells_are_full(data):
    encoder = data.draw(yolo_encoders(neighbours=0))
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    for i in explained.lost:
        if explained.outcome[i] == "taken":
            one = reference.Object(encoder, i, objects.boxes[i], objects.labels[i])
            assert all(explained.state[place] == 1 for *_, place in one.candidates(encoder))


def test_the_target_by_example():
    """Cells of 10 x 20 pixels, one anchor of 10 x 20."""
    encoder = YoloEncoder((40, 80), [(10, 20)], grid=(4, 4), num_classes=3, ignore_iou=1)
    objects = Annotations(
        [(0, 0, 2, 4), (10, 30, 20, 50), (15, 65, 25, 75), (30, 20, 50, 50), (36, 72, 44, 88)],
        [0, 1, 2, 0, 1],
    )
    target = encoder.encode(objects)
    found = {
        tuple(cell[:2]): target["box"][tuple(cell)].tolist()
        for cell in np.argwhere(target["state"] == 1).tolist()
    }
    log = {x: np.float32(np.log(x)) for x in (0.2, 0.4, 0.5, 1.5)}
    assert found == {
        (0, 0): [np.float32(0.1), np.float32(0.1), log[0.2], log[0.2]],
        (1, 2): [0.5, 0.0, 0.0, 0.0],  # a centre on a border: the right cell, offset 0
        (2, 3): [0.0, 0.5, 0.0, log[0.5]],
        (3, 1): [0.5, 0.75, 0.0, log[1.5]],  # cut to (30, 20, 40, 50)
        (3, 3): [np.float32(3.8) - 3, np.float32(3.8) - 3, log[0.4], log[0.4]],
    }
    masks = encoder.masks(target)
    assert masks["box"].sum() == masks["class"].sum() == 5
    assert masks["objectness"].all()
    assert all(mask.dtype == bool for mask in masks.values())


@pytest.mark.parametrize("side", [1, 7, 100, 511, 4107, 8191])
def test_a_centre_on_the_far_border_is_in_the_last_cell(side):
    for count in (1, 3, 13, 1000):
        encoder = YoloEncoder((side, side), [(8, 8)], grid=(count, 1), num_classes=1)
        last = np.nextafter(np.float32(side), np.float32(0))
        target = encoder.encode(Annotations([(last, 0, side + 9, side)], [0]))
        assert target["state"][-1, 0, 0] == 1
        assert 0 <= target["box"][-1, 0, 0, 0] <= 1


def test_the_larger_wins_and_the_loser_takes_its_next_best_anchor():
    anchors = [[(16, 16), (16, 32)], [(64, 64), (8, 8)]]
    encoder = YoloEncoder((64, 64), anchors, grid=[(4, 4), (2, 2)], num_classes=2)
    # All in the cells (1, 1) and (0, 0), all closest to 16 x 16: 256, 240 and 225 square pixels.
    objects = Annotations(
        [(16.5, 16.5, 31.5, 31.5), (16, 16, 32, 32), (16.5, 16, 31.5, 32)], [0, 1, 0]
    )
    explained = encoder.explain(objects)
    assert explained.outcome == ("forced", "matched", "forced")
    owner = encoder.encode(objects)["object"]
    # 240 takes 16 x 32 (IoU 240 / 512), 225 what is best of 8 x 8 (64 / 225) and 64 x 64.
    assert owner[5].tolist() == [1, 2]
    assert owner[16].tolist() == [-1, 0]
    assert explained.stolen.tolist() == [1, 0, 1]
    assert explained.why(0).startswith("owns 1 forced position: the anchors it asked for")
    assert explained.level.tolist() == [4, 4, 4]
    other = replace(encoder, collision="smaller").explain(objects)
    assert other.outcome == ("matched", "forced", "forced")
    full = replace(encoder, anchors=[[(16, 16)], [(64, 64)]]).explain(objects)
    assert full.outcome == ("taken", "matched", "forced")
    assert full.why(0) == (
        "lost: every position it could have had (best IoU 0.88 on P4) went to another"
    )


def test_a_loser_does_not_take_what_another_asks_for():
    encoder = YoloEncoder((32, 32), [(16, 16), (12, 12), (2, 2)], grid=(1, 1), num_classes=1)
    objects = Annotations([(8, 8, 24, 24), (8, 8, 23, 23), (10, 10, 22, 22)], [0] * 3)
    assert encoder.encode(objects)["object"].ravel().tolist() == [0, 2, 1]


def test_by_ratio_an_object_takes_every_anchor_it_fits():
    encoder = YoloEncoder(
        (64, 64), [(16, 16), (64, 64), (15, 32), (16, 4)], grid=(2, 2), num_classes=1, match="ratio"
    )
    explained = encoder.explain(Annotations([(8, 8, 24, 24)], [0]))
    # 64 / 16 and 16 / 4 are not below 4.
    assert explained.object.reshape(4, 4)[0].tolist() == [0, -1, 0, -1]
    misfit = encoder.explain(Annotations([(10, 0, 11, 64)], [0]))
    assert misfit.outcome == ("forced",)
    assert misfit.positives.tolist() == [1]
    assert misfit.forced_positions.tolist() == np.flatnonzero(misfit.state == 1).tolist()


def test_neighbours_share_an_object():
    """Cells of 16: the centre (20, 29) lies above the middle and right of it in cell (1, 1)."""
    encoder = YoloEncoder(
        (64, 64), [(8, 8)], grid=(4, 4), num_classes=1, neighbours=2, ignore_iou=1
    )
    objects = Annotations([(16, 25, 24, 33)], [0])
    target = encoder.encode(objects)
    found = {
        tuple(c[:2]): target["box"][tuple(c)][:2].tolist() for c in np.argwhere(target["state"])
    }
    assert found == {(1, 1): [0.25, 0.8125], (0, 1): [1.25, 0.8125], (1, 2): [0.25, -0.1875]}
    assert encoder.offset_range == (-0.5, 1.5)
    one = replace(encoder, neighbours=1).encode(objects)
    assert np.argwhere(one["state"][..., 0]).tolist() == [[1, 1], [1, 2]]  # 3 pixels to the border
    decoded = encoder.decode(target)
    np.testing.assert_array_equal(decoded.boxes, objects.boxes)
    middle = encoder.encode(Annotations([(20, 20, 28, 28)], [0]))
    assert (middle["state"] == 1).sum() == 1  # as far from all
    corner = encoder.encode(Annotations([(0, 0, 8, 8)], [0]))
    assert (corner["state"] == 1).sum() == 1  # the grid ends there


def test_a_neighbour_never_takes_a_cell_from_its_own_object():
    encoder = YoloEncoder((32, 32), [(8, 8)], grid=(2, 2), num_classes=1, neighbours=2)
    objects = Annotations([(0, 0, 30, 30), (20, 4, 21, 5)], [0, 0])
    explained = encoder.explain(objects)
    assert explained.object.tolist() == [0, 0, 1, -1]
    assert explained.stolen.tolist() == [1, 1]
    assert explained.outcome == ("matched", "matched")


def test_similar_anchors_are_ignored_strictly_above_the_threshold():
    """One anchor of 8 x 8 in cells of 4: moved by 4 along one axis it has IoU 1/3."""
    encoder = YoloEncoder((16, 16), [(8, 8)], grid=(4, 4), num_classes=1, ignore_iou=0.33)
    objects = Annotations([(2, 2, 10, 10)], [0])  # the anchor of cell (1, 1)
    state = encoder.encode(objects)["state"][..., 0]
    expected = [[0, -1, 0, 0], [-1, 1, -1, 0], [0, -1, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(state, expected)
    third = float(np.float32(32) / np.float32(96))
    assert (replace(encoder, ignore_iou=third).encode(objects)["state"] == -1).sum() == 0
    assert (replace(encoder, ignore_iou=1).encode(objects)["state"] == -1).sum() == 0


def test_crowds_are_ignored_by_box_or_mask():
    encoder = YoloEncoder((16, 16), [(4, 4)], grid=(4, 4), num_classes=1)
    crowd = Annotations([(0, 0, 8, 8), (0, 0, 4, 4)], [0, 0], [True, False])
    state = encoder.encode(crowd)["state"][..., 0]
    np.testing.assert_array_equal(state[:2, :2], [[1, -1], [-1, -1]])
    assert (state == -1).sum() == 3
    assert encoder.explain(crowd).outcome == ("crowd", "matched")
    mask = np.zeros((16, 16), np.uint8)
    mask[8:, 8:] = 1
    masked = crowd.replace(masks=[mask, None])
    np.testing.assert_array_equal(encoder.encode(masked)["state"][2:, 2:, 0], -1)
    taught = replace(encoder, crowd="negative").encode(masked)["state"]
    assert (taught == -1).sum() == 0


OUTCOMES = [
    ((np.nan, 0, 4, 4), "not-finite"), ((0, 0, np.inf, 4), "not-finite"), ((4, 4, 4, 9), "no-area"),
    ((9, 4, 4, 9), "no-area"), ((16, 0, 20, 4), "outside"), ((-9, 0, 0, 4), "outside"),
    ((-9, -9, 1, 1), "matched"), ((-1e9, -1e9, 1e9, 1e9), "matched"), ((0, 0, 1e-30, 1e-30), "matched"),
]  # fmt: skip


@pytest.mark.parametrize(("box", "outcome"), OUTCOMES)
def test_what_becomes_of_odd_boxes(box, outcome):
    encoder = YoloEncoder((16, 16), [(4, 4)], grid=(4, 4), num_classes=1)
    objects = Annotations([box], [0])
    explained = encoder.explain(objects)
    assert explained.outcome == (outcome,)
    target = encoder.encode(objects)
    assert (target["state"] == 1).sum() == (outcome == "matched")
    assert np.isfinite(target["box"]).all()
    assert len(encoder.decode(target)) == (outcome == "matched")


def test_without_objects_everything_is_negative():
    encoder = YoloEncoder((64, 64), V3, stride=(8, 16, 32), num_classes=3)
    target = encoder.encode(Annotations())
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec
    assert encoder.spec["state"][0] == (64 + 16 + 4, 3)
    assert not target["state"].any()
    assert (target["object"] == -1).all()
    assert (target["label"] == -1).all()
    assert len(encoder.decode(target)) == 0


@pytest.mark.parametrize("stride", [8, (8, 16)])
def test_packed_layout_holds_box_class_and_state(stride):
    levels = 1 if stride == 8 else 2
    encoder = YoloEncoder((32, 48), V3[:levels], stride=stride, num_classes=4)
    objects = scattered(np.random.default_rng(1), 9, 40, classes=4)
    target, packed, first = encoder.encode(objects), None, 0
    packed = encoder.pack(target)
    assert list(packed) == ["4x6", "2x3"][:levels]
    for (rows, columns), array in zip(encoder.grid, packed.values(), strict=True):
        assert array.shape == (rows, columns, 3, 4 + 4 + 1)
        assert array.dtype == np.float32
        cells = slice(first, first + rows * columns)
        flat = array.reshape(-1, 3, 9)
        np.testing.assert_array_equal(flat[..., :4], target["box"].reshape(-1, 3, 4)[cells])
        np.testing.assert_array_equal(flat[..., 8], target["state"].reshape(-1, 3)[cells])
        label = target["label"].reshape(-1, 3)[cells]
        np.testing.assert_array_equal(flat[..., 4:8].sum(axis=-1), label >= 0)
        np.testing.assert_array_equal(flat[..., 4:8].argmax(axis=-1), label.clip(0))
        first += rows * columns
    batch = encoder.pack(encoder.encode_batch([objects, objects]))
    for name, array in packed.items():
        np.testing.assert_array_equal(batch[name], np.stack([array, array]))


def predicted(encoder, target, strength=6.0):
    """A prediction that says what the target says."""
    low, high = encoder.offset_range
    share = ((target["box"][..., :2].astype(np.float64) - low) / (high - low)).clip(1e-6, 1 - 1e-6)
    classes = target["label"][..., None] == np.arange(encoder.num_classes)
    return {
        "class": np.where(classes, strength, -9.0).astype(np.float32),
        "objectness": np.where(target["state"] == 1, strength, -9.0).astype(np.float32),
        "box": np.concatenate((np.log(share / (1 - share)), target["box"][..., 2:]), axis=-1),
    }


@pytest.mark.parametrize("neighbours", [0, 2])
@pytest.mark.parametrize("levels", [1, 3])
def test_predictions_decode_to_scored_boxes(levels, neighbours):
    encoder = YoloEncoder(
        128, V3[:levels], stride=(8, 16, 32)[:levels], num_classes=3, neighbours=neighbours
    )
    objects = Annotations([(8, 9, 40, 45), (60, 70, 100, 90), (90, 5, 99, 30)], [2, 0, 1])
    found = encoder.decode(predicted(encoder, encoder.encode(objects)), iou_threshold=0.9)
    order = np.argsort(found.boxes[:, 0])
    np.testing.assert_array_equal(found.labels[order], objects.labels)
    np.testing.assert_allclose(found.boxes[order], objects.boxes, atol=1e-3)
    sigmoid = 1 / (1 + np.exp(-6.0))
    np.testing.assert_allclose(found.scores, sigmoid**2, rtol=1e-6)
    assert len(encoder.decode(predicted(encoder, encoder.encode(objects)), max_detections=1)) == 1


def test_wild_predictions_decode_to_finite_boxes():
    encoder = YoloEncoder((64, 64), [(8, 8)], grid=(2, 2), num_classes=1)
    arrays = {
        "class": np.full((2, 2, 1, 1), np.inf, np.float32),
        "objectness": np.full((2, 2, 1), np.inf, np.float32),
        "box": np.full((2, 2, 1, 4), np.inf, np.float32),
    }
    found = encoder.decode(arrays)
    assert np.isfinite(found.boxes).all()
    np.testing.assert_array_equal(found.scores, 1)


def test_a_dataset_is_audited(tmp_path):
    ytrue.datasets.write_shapes(tmp_path, num_images=6, image_size=(96, 128))
    dataset = ytrue.datasets.load(tmp_path)
    encoder = YoloEncoder(96, V3, stride=(8, 16, 32), num_classes=dataset.num_classes)
    report = ytrue.audit(dataset, encoder)
    assert report.outcomes()["matched"] > 0
    assert sum(report.outcomes().values()) == sum(
        len(dataset[i].annotations) for i in range(len(dataset))
    )
    assert set(report.by_level()) <= {"P3", "P4", "P5"}


BASE = YoloEncoder((64, 48), [(8, 8), (16, 16)], grid=(4, 3), num_classes=5)
OTHER_VALUES = {
    "image_size": (80, 48), "anchors": [(8, 8), (16, 17)], "grid": (8, 6), "num_classes": 6,
    "match": "ratio", "ratio": 3.0, "neighbours": 2, "collision": "smaller", "ignore_iou": 0.6,
    "crowd": "negative", "crowd_ioa": 0.7,
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(YoloEncoder)])
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    assert_survives_the_config(BASE, name, OTHER_VALUES[name])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_config_is_json_and_builds_an_equal_encoder(data):
    assert_config_is_the_encoder(data.draw(yolo_encoders()))


def make(anchors=((8, 8),), **options):
    return YoloEncoder((16, 16), anchors, **({"grid": (2, 2), "num_classes": 2} | options))


BAD = [
    (lambda: make(anchors=[]), r"anchors=\[\]: expected \(height, width\) pixels above 0, as many"),
    (lambda: make(anchors=[(8, 0)]), r"anchors=\[\(8, 0\)\]: expected \(height, width\) pixels"),
    (lambda: make(anchors=[(8, np.nan)]), r"anchors=\[\(8, nan\)\]: expected"),
    (lambda: make(anchors=[8, 8]), r"anchors=\[8, 8\]: expected"),
    (lambda: make(anchors=[[(8, 8)], [(8, 8)]]), r"for each of the 1 level, at least one"),
    (lambda: make(anchors=[(8, 8)], grid=[(2, 2), (1, 1)]), r"for each of the 2 levels"),
    (lambda: make(anchors=[[(8, 8)], [(8, 8), (4, 4)]], grid=[(2, 2), (1, 1)]), "as many for each"),
    (lambda: make(grid=None), "grid=None, stride=None: expected one of the two"),
    (lambda: make(num_classes=0), "num_classes=0: expected a whole number above 0"),
    (lambda: make(match="x"), "match='x': expected one of best, ratio"),
    (lambda: make(neighbours=3), "neighbours=3: expected 0, 1 or 2"),
    (lambda: make(collision="x"), "collision='x': expected one of larger, smaller"),
    (lambda: make(crowd="x"), "crowd='x': expected one of ignore, negative"),
    (lambda: make(ratio=1), "ratio=1.0: expected a number above 1"),
    (lambda: make(ignore_iou=0), r"ignore_iou=0.0: expected a number in \(0, 1\]"),
    (lambda: make(crowd_ioa=1.1), r"crowd_ioa=1.1: expected a number in \(0, 1\]"),
    (lambda: YoloEncoder.from_config({"encoder": "anchor"}), "config of a 'anchor' encoder"),
    (
        lambda: make().encode_batch([Annotations([(0, 0, 4, 4)] * 2, [1, 2]), Annotations()]),
        "example 0 of the batch: object 1 has label 2, expected 0 to 1",
    ),
    (lambda: make().decode({"xy": np.zeros(1)}), r"decode got arrays named \['xy'\]: expected a target"),
    (
        lambda: make().encode(
            Annotations([(0, 0, 4, 4)], [0], [True], masks=[np.ones((4, 4), np.uint8)])
        ),
        "the mask of crowd object 0 is 4x4, the network input is 16x16",
    ),
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
        variable, __file__, "equals_its_twin or batch or example or decode or odd", tmp_path
    )
