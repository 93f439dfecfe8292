"""CenterNetEncoder: its twin, its laws, its edges, its peaks, itself as a value."""

import io
import json
import os
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

import ytrue
from laws import assert_config_is_the_encoder, assert_passes_with, assert_survives_the_config
from reference import centernet as reference
from strategies import Places, annotations, centernet_encoders, scattered
from ytrue import Annotations, viz
from ytrue.boxes import clip
from ytrue.contract import LOST
from ytrue.encoders import CenterNetEncoder
from ytrue.encoders.kernels.centernet import gaussian_radius
from ytrue.encoders.kernels.peaks import find_peaks

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
laws = settings(
    deadline=None,
    suppress_health_check=_SLOW,
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "150")),
    derandomize=True,
)


def assert_same(got, expected, ulp=0):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        if name == "heatmap" and ulp:
            np.testing.assert_array_max_ulp(got[name], array, maxulp=ulp)
            np.testing.assert_array_equal(got[name] == 1, array == 1)
            np.testing.assert_array_equal(got[name] == 0, array == 0)
        else:
            np.testing.assert_array_equal(got[name], array, err_msg=name)


def crowded(data, encoder, **options):
    return data.draw(annotations(Places(encoder), **options))


@laws
@given(st.data())
def test_the_kernel_equals_its_twin(data):
    encoder = data.draw(centernet_encoders())
    objects = crowded(data, encoder)
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected, ulp=1)  # of the exponential
    explained = encoder.explain(objects)
    assert list(explained.outcome) == outcome
    np.testing.assert_array_equal(explained.state, expected["state"].ravel())
    np.testing.assert_array_equal(explained.object, expected["object"].ravel())


@pytest.mark.parametrize("radius", ["correct", "published"])
@pytest.mark.parametrize("stride", [1, 4, 50])
def test_a_full_image_equals_the_twin(stride, radius):
    encoder = CenterNetEncoder(256, 5, stride=stride, radius=radius)
    objects = scattered(np.random.default_rng(0), 60, 256)
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected, ulp=1)
    assert list(encoder.explain(objects).outcome) == outcome


RADII = [  # of boxes in cells, at 0.7: correct and published
    ((10, 10), 0.82, 2.73),
    ((40, 60), 3.90, 13.16),
]


@pytest.mark.parametrize(("sides", "correct", "published"), RADII)
def test_radii_by_example(sides, correct, published):
    for radius, is_correct in ((correct, True), (published, False)):
        found = gaussian_radius(float(sides[0]), float(sides[1]), 0.7, is_correct)
        assert round(found, 2) == radius
        assert reference.gaussian_radius(sides, 0.7, is_correct) == found


@laws
@given(st.integers(1, 600), st.integers(1, 600), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_within_the_correct_radius_a_box_keeps_its_overlap(height, width, overlap):
    r = gaussian_radius(float(height), float(width), overlap, True)
    area, outer = height * width, (height + 2 * r) * (width + 2 * r)
    shifted = (height - r) * (width - r)
    inner = (height - 2 * r) * (width - 2 * r)
    ious = (shifted / (2 * area - shifted), inner / area, area / outer)
    assert min(ious) == pytest.approx(overlap, rel=1e-6)  # the least of three cases is met exactly
    for correct in (True, False):
        found = gaussian_radius(float(height), float(width), overlap, correct)
        assert found == reference.gaussian_radius((height, width), overlap, correct)


@laws
@given(st.data())
def test_decoding_returns_every_object_that_is_not_lost_cut_to_the_frame(data):
    encoder = data.draw(centernet_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    decoded = encoder.decode(encoder.encode(objects))
    held = [i for i, outcome in enumerate(explained.outcome) if outcome == "matched"]
    np.testing.assert_array_equal(decoded.labels, objects.labels[held])
    inside = clip(objects.boxes[held], *encoder.image_size)
    # Six roundings of a number in the frame, each half of its last place.
    side = max(encoder.image_size)
    np.testing.assert_allclose(decoded.boxes, inside, rtol=0, atol=6 * side * 2.0**-24)


@laws
@given(st.data())
def test_the_order_of_objects_changes_nothing_but_their_indices(data):
    encoder = data.draw(centernet_encoders())
    objects = crowded(data, encoder)
    order = data.draw(st.permutations(range(len(objects))))
    target, permuted = encoder.encode(objects), encoder.encode(objects.select(order))
    for name in set(target) - {"object"}:
        np.testing.assert_array_equal(permuted[name], target[name], err_msg=name)
    inside = clip(objects.boxes, *encoder.image_size)
    # Where no two objects are one and the same, the indices follow the objects.
    if len(np.unique(np.column_stack((inside, objects.labels)), axis=0)) == len(objects):
        renamed = np.array([*np.argsort(order), -1], np.int32)[target["object"]]
        np.testing.assert_array_equal(permuted["object"], renamed)


@laws
@given(st.data())
def test_a_batch_is_its_examples(data):
    encoder = data.draw(centernet_encoders())
    batch = [crowded(data, encoder) for _ in range(data.draw(st.integers(1, 4)))]
    target = encoder.encode_batch(batch)
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


def test_many_threads_and_few_give_one_answer():
    rng = np.random.default_rng(3)
    encoder = CenterNetEncoder(256, 5)
    batch = [scattered(rng, n, 256) for n in rng.integers(0, 30, 40)]
    target = encoder.encode_batch(batch)  # 40 x 200 kB: shared out
    for i, one in enumerate(batch):
        assert_same({name: array[i] for name, array in target.items()}, encoder.encode(one))


@laws
@given(st.data())
def test_every_object_is_accounted_for_once(data):
    encoder = data.draw(centernet_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    assert len(explained) == len(objects)
    owned = np.bincount(explained.object[explained.state == 1], minlength=len(objects))
    np.testing.assert_array_equal(owned, explained.positives)
    assert (explained.object[explained.state != 1] == -1).all()
    for i, outcome in enumerate(explained.outcome):
        assert explained.positives[i] == (outcome == "matched")
        assert explained.stolen[i] == (outcome == "taken")
        assert (explained.best_position[i] >= 0) == (outcome in ("matched", "taken"))
        assert (i in explained.lost) == (outcome in LOST)
        if outcome == "taken":  # by another, which is in its cell
            assert explained.state[explained.best_position[i]] == 1
        assert "IoU" not in explained.why(i)


@laws
@given(st.data())
def test_every_object_that_takes_part_is_a_peak_of_its_class(data):
    encoder = data.draw(centernet_encoders())
    objects = crowded(data, encoder)
    explained = encoder.explain(objects)
    heat = encoder.encode(objects)["heatmap"].reshape(-1, 5)
    taught = [i for i, o in enumerate(explained.outcome) if o in ("matched", "taken")]
    ones = {(explained.best_position[i], objects.labels[i]) for i in taught}
    assert set(zip(*np.nonzero(heat == 1), strict=True)) == ones
    assert ((heat >= 0) & (heat <= 1)).all()
    # A cell says 1 for a class only where some object has the cell.
    assert (explained.state[(heat == 1).any(axis=1)] == 1).all()


def test_the_target_by_example():
    """Cells of 4 pixels. A box of 40 x 24 has 10 x 6 cells: r = 0 as is right, 2 as published."""
    encoder = CenterNetEncoder((64, 48), 2, radius="published")
    objects = Annotations([(10, 13, 50, 37)], [1])
    target = encoder.encode(objects)
    assert np.argwhere(target["state"]).tolist() == [[7, 6]]  # the centre is (30, 25)
    assert target["size"][7, 6].tolist() == [10, 6]
    assert target["offset"][7, 6].tolist() == [0.5, 0.25]
    assert target["label"][7, 6] == 1
    assert target["object"][7, 6] == 0
    heat = target["heatmap"][..., 1]
    sigma = 5 / 6
    along = np.exp(-np.array([4, 1, 0, 1, 4]) / (2 * sigma**2))
    np.testing.assert_allclose(heat[5:10, 4:9], np.outer(along, along), rtol=1e-6)
    assert np.count_nonzero(heat) == 25
    assert not target["heatmap"][..., 0].any()
    masks = encoder.masks(target)
    assert masks["heatmap"].all()
    assert masks["size"].sum() == masks["offset"].sum() == 1
    assert all(mask.dtype == bool for mask in masks.values())
    only = replace(encoder, radius="correct").encode(objects)["heatmap"]
    assert np.argwhere(only).tolist() == [[7, 6, 1]]


@pytest.mark.parametrize("side", [1, 7, 100, 511, 4107])
def test_a_centre_on_the_far_border_is_in_the_last_cell(side):
    last = np.nextafter(np.float32(side), np.float32(0))
    for stride in (1, 4, 9):
        encoder = CenterNetEncoder((side, 4), 1, stride=stride)
        target = encoder.encode(Annotations([(last, 0, side + 9, 4)], [0]))
        assert target["state"][-1].any()
        assert target["heatmap"][-1].max() == 1
        offsets = target["offset"][-1, :, 0]
        assert 0 <= offsets.min() <= offsets.max() <= 1


def test_a_centre_exactly_on_the_right_and_lower_border_has_offset_1():
    # (y_min + y_max) / 2 rounds up to the border of the frame.
    encoder = CenterNetEncoder((8, 8), 1)
    edge = np.nextafter(np.float32(8), np.float32(0))
    target = encoder.encode(Annotations([(edge, edge, 9, 9)], [0]))
    assert target["state"].tolist() == [[0, 0], [0, 1]]
    assert target["offset"][1, 1].tolist() == [1, 1]
    centre = encoder.decode(target).boxes.reshape(2, 2).mean(axis=0)
    np.testing.assert_allclose(centre, 8, rtol=1e-6)


def test_of_two_in_a_cell_the_larger_has_it_and_both_are_peaks():
    encoder = CenterNetEncoder((32, 32), 3)
    objects = Annotations([(8, 8, 20, 20), (4, 4, 24, 24), (9, 9, 18.5, 18.5)], [0, 1, 0])
    explained = encoder.explain(objects)
    assert explained.outcome == ("taken", "matched", "taken")
    assert explained.lost == (0, 2)
    assert explained.why(0) == "lost: every position it could have had (on P2) went to another"
    assert explained.why(1) == "owns 1 position on P2"
    target = encoder.encode(objects)
    assert target["heatmap"][3, 3].tolist() == [1, 1, 0]
    assert target["label"][3, 3] == 1
    assert target["size"][3, 3].tolist() == [5, 5]
    smaller = replace(encoder, collision="smaller")
    assert smaller.explain(objects).outcome == ("taken", "taken", "matched")
    np.testing.assert_array_equal(smaller.encode(objects)["heatmap"], target["heatmap"])
    assert smaller.decode(smaller.encode(objects)).labels.tolist() == [0]


def test_neighbours_of_one_class_keep_their_peaks():
    encoder = CenterNetEncoder((256, 256), 1, radius="published")
    objects = Annotations([(10, 10, 200, 200), (100, 100, 118, 118)], [0, 0])
    target = encoder.encode(objects)
    cells = np.argwhere(target["state"] == 1)
    np.testing.assert_array_equal(target["heatmap"][tuple(cells.T)], 1)
    assert len(cells) == 2


def test_crowds_are_ignored_by_box_or_mask():
    """Cells of 4: their centres are at 2, 6, 10, 14."""
    encoder = CenterNetEncoder((16, 16), 1)
    crowd = Annotations([(2, 0, 6, 16), (0, 0, 8, 8)], [0, 0], [True, False])
    expected = [[-1, -1, -1, -1], [0, 1, 0, 0], [0] * 4, [0] * 4]  # from 2 on, up to 6
    np.testing.assert_array_equal(encoder.encode(crowd)["state"], expected)
    assert encoder.explain(crowd).outcome == ("crowd", "matched")
    mask = np.zeros((16, 16), np.uint8)
    mask[2, 2] = mask[6, 6] = mask[14, 10] = mask[13, 14] = 1  # the pixels of three centres
    masked = crowd.replace(masks=[mask, None])
    expected = [[-1, 0, 0, 0], [0, 1, 0, 0], [0] * 4, [0, 0, -1, 0]]
    target = encoder.encode(masked)
    np.testing.assert_array_equal(target["state"], expected)
    np.testing.assert_array_equal(encoder.masks(target)["heatmap"], np.array(expected) != -1)
    taught = replace(encoder, crowd="negative").encode(masked)["state"]
    assert (taught == -1).sum() == 0


def test_only_a_crowd_teaches_no_class():
    encoder = CenterNetEncoder((16, 16), 1)
    target = encoder.encode(Annotations([(-9, -9, 1e30, 1e30)], [0], [True]))
    assert (target["state"] == -1).all()
    assert not target["heatmap"].any()
    assert len(encoder.decode(target)) == 0


def test_padding_is_ignored_where_asked_but_where_a_centre_is():
    encoder = CenterNetEncoder((16, 16), 1, padding="ignore")
    objects = Annotations([(0, 8, 8, 16)], [0], content=(0.0, 0.0, 16.0, 10.0))
    state = encoder.encode(objects)["state"]
    np.testing.assert_array_equal(state[0], [0, 0, -1, -1])
    np.testing.assert_array_equal(state[1], [0, 0, -1, 1])
    assert not (replace(encoder, padding="negative").encode(objects)["state"] < 0).any()
    assert not (encoder.encode(objects.replace(content=None))["state"] < 0).any()


OUTCOMES = [
    ((np.nan, 0, 4, 4), "not-finite"), ((0, 0, np.inf, 4), "not-finite"), ((4, 4, 4, 9), "no-area"),
    ((9, 4, 4, 9), "no-area"), ((16, 0, 20, 4), "outside"), ((-9, 0, 0, 4), "outside"),
    ((-9, -9, 1, 1), "matched"), ((-1e9, -1e9, 1e9, 1e9), "matched"), ((0, 0, 1e-30, 1e-30), "matched"),
]  # fmt: skip


@pytest.mark.parametrize(("box", "outcome"), OUTCOMES)
def test_what_becomes_of_odd_boxes(box, outcome):
    encoder = CenterNetEncoder((16, 16), 1)
    objects = Annotations([box], [0])
    assert encoder.explain(objects).outcome == (outcome,)
    target = encoder.encode(objects)
    held = int(outcome == "matched")
    assert (target["state"] == 1).sum() == (target["heatmap"] == 1).sum() == held
    assert all(np.isfinite(array).all() for array in target.values())
    assert len(encoder.decode(target)) == held


def test_without_objects_everything_is_negative():
    encoder = CenterNetEncoder((64, 30), 3)
    target = encoder.encode(Annotations())
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec
    assert encoder.spec["heatmap"][0] == (16, 8, 3)
    for name, array in target.items():
        assert (array == (-1 if name in ("object", "label") else 0)).all(), name
    assert len(encoder.decode(target)) == 0
    assert len(encoder.explain(Annotations())) == 0


def test_packed_layout_holds_heatmap_size_offset_and_state():
    encoder = CenterNetEncoder((32, 48), 4)
    objects = scattered(np.random.default_rng(1), 9, 40, classes=4)
    target = encoder.encode(objects)
    packed = encoder.pack(target)["8x12"]
    assert packed.shape == (8, 12, 4 + 2 + 2 + 1)
    assert packed.dtype == np.float32
    np.testing.assert_array_equal(packed[..., :4], target["heatmap"])
    np.testing.assert_array_equal(packed[..., 4:6], target["size"])
    np.testing.assert_array_equal(packed[..., 6:8], target["offset"])
    np.testing.assert_array_equal(packed[..., 8], target["state"])
    batch = encoder.pack(encoder.encode_batch([objects, objects]))["8x12"]
    np.testing.assert_array_equal(batch, np.stack([packed, packed]))


# Peaks.

levels = st.sampled_from([-np.inf, -3.0, -1.0, 0.0, 0.5, 0.5, 20.0])
maps = arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)), elements=levels
)


def found_peaks(values, lowest):
    most = values.size
    cells, labels, best = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most)
    count = find_peaks(values, np.float32(lowest), cells, labels, best)
    columns = values.shape[1]
    return [
        (cell // columns, cell % columns, label)
        for cell, label in zip(cells[:count].tolist(), labels[:count].tolist(), strict=True)
    ], best[:count]


@laws
@given(maps, st.sampled_from([-np.inf, -1.0, 0.5]))
def test_peaks_equal_their_twin(values, lowest):
    found, best = found_peaks(values, lowest)
    assert found == reference.peaks(values, lowest)
    np.testing.assert_array_equal(best, [values[peak] for peak in found])
    rows, columns, classes = values.shape
    assert len(found) <= -(-rows // 2) * -(-columns // 2) * classes


def test_a_plateau_is_the_peak_of_its_first_cell():
    values = np.zeros((4, 5, 1), np.float32)
    values[1:3, 1:4] = 1
    assert found_peaks(values, 0.5)[0] == [(1, 1, 0)]
    assert found_peaks(np.full((3, 3, 2), 7, np.float32), 0)[0] == [(0, 0, 0), (0, 0, 1)]
    assert found_peaks(np.full((3, 3, 1), np.nan, np.float32), -np.inf)[0] == []


def predicted(target, strength=9.0):
    """A prediction that says what the target says."""
    with np.errstate(divide="ignore"):
        logits = np.log(target["heatmap"]) - np.log(1 - target["heatmap"])
    return {
        "heatmap": logits.clip(-strength, strength),
        "size": target["size"],
        "offset": target["offset"],
    }


@pytest.mark.parametrize("radius", ["correct", "published"])
def test_predictions_decode_to_scored_boxes(radius):
    encoder = CenterNetEncoder(128, 3, radius=radius)
    objects = Annotations([(8, 9, 40, 45), (60, 70, 100, 90), (90, 5, 99, 30)], [2, 0, 1])
    arrays = predicted(encoder.encode(objects))
    found = encoder.decode(arrays)
    order = np.argsort(found.boxes[:, 0])
    np.testing.assert_array_equal(found.labels[order], objects.labels)
    np.testing.assert_allclose(found.boxes[order], objects.boxes, atol=1e-4)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-9.0)), rtol=1e-6)
    assert len(encoder.decode(arrays, max_detections=1)) == 1
    assert len(encoder.decode(arrays, score_threshold=1.0)) == 0


def test_detections_come_by_falling_score_and_are_suppressed_only_where_asked():
    encoder = CenterNetEncoder((16, 40), 2)
    logits = np.full((4, 10, 2), -9, np.float32)
    logits[1, 1, 0], logits[1, 3, 0], logits[1, 3, 1], logits[1, 8, 1] = 1.0, 2.0, 0.5, 2.0
    arrays = {
        "heatmap": logits,
        "size": np.full((4, 10, 2), 12, np.float32),
        "offset": np.full((4, 10, 2), 0.5, np.float32),
    }
    found = encoder.decode(arrays)
    assert found.labels.tolist() == [0, 1, 0, 1]  # of equal scores the lower cell
    assert found.boxes[:, 1].tolist() == [14 - 24, 34 - 24, 6 - 24, 14 - 24]
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-np.array([2, 2, 1, 0.5]))), rtol=1e-6)
    kept = encoder.decode(arrays, iou_threshold=0.5)  # IoU 10 / 14 within class 0, 7 / 17 in 1
    assert kept.labels.tolist() == [0, 1, 1]
    assert encoder.decode(arrays, score_threshold=0.7).labels.tolist() == [0, 1, 0]


def test_saturated_logits_are_still_told_apart():
    encoder = CenterNetEncoder((8, 16), 1)
    logits = np.array([[[20], [40], [30], [20]], [[0], [0], [0], [0]]], np.float32)
    zeros = np.zeros((2, 4, 2), np.float32)
    found = encoder.decode({"heatmap": logits, "size": zeros - 3, "offset": zeros})
    assert found.boxes.tolist() == [[0, 4, 0, 4]]
    np.testing.assert_array_equal(found.scores, 1)


# Audit and pictures.


def shapes(folder):
    ytrue.datasets.write_shapes(folder, num_images=6, image_size=(96, 128), bad=True)
    return ytrue.datasets.load(folder)


def test_a_dataset_is_audited(tmp_path):
    dataset = shapes(tmp_path)
    encoder = CenterNetEncoder(96, dataset.num_classes)
    report = ytrue.audit(dataset, encoder)
    assert report.outcomes()["matched"] > 0
    assert sum(report.outcomes().values()) == sum(
        len(dataset[i].annotations) for i in range(len(dataset))
    )
    assert set(report.by_level()) == {"P2"}
    assert not any("aspect_ratios" in sentence for sentence in report.advice())
    assert json.loads(json.dumps(report.to_json()))["by_level"]["P2"]["best_iou_median"] is None
    console = Console(width=100, record=True, file=io.StringIO())
    viz.print_audit(report, console)
    page = viz.report_html(report, tmp_path / "page.html").read_text()
    for said in (console.export_text(), page):
        assert "best iou" not in said.lower()
    assert "By level of the cell" in page
    assert viz.png_bytes(viz.show_audit(report))


def test_of_one_class_the_headline_counts_its_objects():
    encoder = CenterNetEncoder((64, 96), 2)
    objects = Annotations(
        [(8, 8, 20, 20), (40, 8, 60, 20), (40, 40, 60, 90), (0, 50, 30, 90)],
        [0, 1, 1, 0], [False, False, False, True],
    )  # fmt: skip
    figure = viz.show_heatmap(
        np.zeros((64, 96, 3), np.uint8), encoder.encode(objects)["heatmap"],
        encoder.explain(objects), label=0, classes=("cat", "dog"),
    )  # fmt: skip
    said = " ".join(text.get_text() for text in figure.texts)
    assert "heat map of cat: 1 of 1 objects have a cell, no object is lost, 1 crowd; " in said


def test_every_centre_is_drawn_on_the_heat_map():
    encoder = CenterNetEncoder((64, 96), 3)
    objects = Annotations(
        [(8, 8, 20, 20), (4, 4, 24, 24), (40, 40, 60, 90), (0, 60, 30, 90), (5, 5, 5, 9)],
        [0, 1, 2, 0, 1], [False, False, False, True, False],
    )  # fmt: skip
    assignment, target = encoder.explain(objects), encoder.encode(objects)
    pixels = np.zeros((64, 96, 3), np.uint8)
    figure = viz.show_heatmap(pixels, target["heatmap"], assignment, classes=("a", "b", "c"))
    axes = figure.axes[0]
    shade, heat = (np.asarray(image.get_array())[..., 3] for image in axes.images[1:])
    np.testing.assert_array_equal(shade > 0, target["state"] == -1)
    np.testing.assert_array_equal(heat > 0, target["heatmap"].any(axis=-1))
    assert (heat[target["state"] == 1] == heat.max()).all()
    matched, lost = axes.collections
    assert matched.get_offsets().tolist() == [[14, 14], [65, 50]]
    assert lost.get_offsets().tolist() == [[14, 14]]
    said = [text.get_text() for text in (*axes.texts, *figure.texts)]
    assert "#0 a: lost, taken" in said
    assert any("2 objects are lost" in text for text in said)
    one = viz.show_heatmap(pixels, target["heatmap"], assignment, label=2)
    assert one.axes[0].collections[0].get_offsets().tolist() == [[65, 50]]
    assert not np.asarray(one.axes[0].images[2].get_array())[:5, :5, 3].any()
    assert viz.png_bytes(viz.show_assignment(pixels, assignment))
    for wrong, message in (
        ({"heatmap": target["heatmap"][:3]}, r"the heat map has shape \(3, 24, 3\)"),
        ({"label": 3}, "label=3: the heat map has 3 classes, from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            viz.show_heatmap(
                pixels, **({"heatmap": target["heatmap"], "assignment": assignment} | wrong)
            )


# As a value.

BASE = CenterNetEncoder((64, 48), 5)
OTHER_VALUES = {
    "image_size": (80, 48), "num_classes": 6, "stride": 8, "radius": "published",
    "min_overlap": 0.3, "collision": "smaller", "crowd": "negative", "padding": "ignore",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(CenterNetEncoder)])
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    assert_survives_the_config(BASE, name, OTHER_VALUES[name])


def test_whole_numbers_of_any_type_are_ints():
    encoder = CenterNetEncoder((16, 16), np.int64(2), stride=4.0)
    assert encoder == make(stride=4)
    assert encoder.digest == make(stride=4).digest
    assert encoder.encode(Annotations())["heatmap"].shape == (4, 4, 2)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_config_is_json_and_builds_an_equal_encoder(data):
    assert_config_is_the_encoder(data.draw(centernet_encoders()))


def make(num_classes=2, **options):
    return CenterNetEncoder((16, 16), num_classes, **options)


def decode(rows=4, **options):
    zeros = np.zeros((rows, 4, 2), np.float32)
    return make().decode({"heatmap": zeros, "size": zeros, "offset": zeros}, **options)


BAD = [
    (lambda: CenterNetEncoder((16, 0), 2), r"image_size=\(16, 0\): expected \(height, width\)"),
    (lambda: make(0), "num_classes=0: expected a whole number above 0"),
    (lambda: make(stride=0), "stride=0: expected a whole number above 0"),
    (lambda: make(stride=(4, 8)), r"stride=\(4, 8\): expected a whole number above 0"),
    (lambda: make(radius="x"), "radius='x': expected one of correct, published"),
    (lambda: make(collision="x"), "collision='x': expected one of larger, smaller"),
    (lambda: make(crowd="x"), "crowd='x': expected one of ignore, negative"),
    (lambda: make(padding="x"), "padding='x': expected one of negative, ignore"),
    (lambda: make(min_overlap=0), r"min_overlap=0.0: expected a number in \(0, 1\]"),
    (lambda: make(min_overlap=np.nan), "min_overlap=nan: expected a finite number"),
    (lambda: CenterNetEncoder.from_config({"encoder": "yolo"}), "config of a 'yolo' encoder, not"),
    (
        lambda: make().encode_batch([Annotations([(0, 0, 4, 4)] * 2, [1, 2]), Annotations()]),
        "example 0 of the batch: object 1 has label 2, expected 0 to 1",
    ),
    (lambda: make().encode(Annotations([(0, 0, 4, 4)], [-1])), "object 0 has label -1, expected 0"),
    (lambda: make().decode({"xy": np.zeros(1)}), r"decode got arrays named \['xy'\]: expected a target"),
    (lambda: decode(rows=8), "the heat map has 8x4 cells, the encoder 4x4: are network and encoder"),
    (lambda: decode(score_threshold=2), r"score_threshold=2: expected a number in \[0, 1\]"),
    (lambda: decode(iou_threshold=-1), r"iou_threshold=-1: expected a number in \[0, 1\], or None"),
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
        variable, __file__, "twin or batch or example or decode or odd or border", tmp_path
    )
