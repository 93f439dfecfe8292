"""PolygonEncoder: its twin, its laws, the traps of Poly-YOLO, itself as a value."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

import ytrue
from laws import assert_passes_with, assert_survives_the_config
from reference import polygon as reference
from strategies import outlined, polygon_encoders
from ytrue import Annotations
from ytrue.contract import JointEncoder
from ytrue.encoders import PolygonEncoder, YoloEncoder
from ytrue.encoders.kernels.polygons import angle_bin
from ytrue.encoders.outlines import outline_of
from ytrue.encoders.polygon import polygons_of
from ytrue.rle import RLE

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
laws = settings(
    deadline=None,
    suppress_health_check=_SLOW,
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "150")),
    derandomize=True,
)


def encoder_of(side=64, bins=24, part_rule="largest", points="vertices", **options):
    anchors = [(16, 16), (40, 40)]
    boxes = YoloEncoder((side, side), anchors, grid=(4, 4), num_classes=3, **options)
    return PolygonEncoder(boxes, bins=bins, part_rule=part_rule, points=points)


def box_around(ring):
    ring = np.asarray(ring, np.float64)
    return (*ring.min(axis=0), *ring.max(axis=0))


def one(*parts, box=None, label=0):
    """One object with a polygon; its box is tight by default."""
    ring = np.concatenate([np.reshape(part, (-1, 2)) for part in parts])
    return Annotations([box or box_around(ring)], [label], polygons=[parts])


def held(encoder, objects):
    """bin -> (distance, place inside) of the only object's first place."""
    target = encoder.encode(objects)
    place = tuple(np.argwhere(target["state"] == 1)[0])
    rows = target["polygon"][place]
    return {v: tuple(rows[v, :2].tolist()) for v in np.flatnonzero(rows[:, 2]).tolist()}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        if name == "polygon":
            np.testing.assert_array_equal(got[name][..., 2], array[..., 2])
            np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-7)
        elif name == "box":
            np.testing.assert_array_max_ulp(got[name], array, maxulp=2)
        else:
            np.testing.assert_array_equal(got[name], array, err_msg=name)


@laws
@given(st.data())
def test_the_kernel_equals_its_twin(data):
    encoder = data.draw(polygon_encoders())
    objects = data.draw(outlined(encoder))
    expected, outcome = reference.encode(encoder, objects)
    assert_same(encoder.encode(objects), expected)
    assert list(encoder.explain(objects).outcome) == outcome


@laws
@given(st.data())
def test_what_is_written_is_in_range(data):
    encoder = data.draw(polygon_encoders())
    polygon = encoder.encode(data.draw(outlined(encoder)))["polygon"]
    held = polygon[..., 2] == 1
    assert (polygon[~held] == 0).all()
    assert ((polygon[held][:, 0] > 0) & (polygon[held][:, 0] <= 0.5 + 1e-6)).all()
    assert ((polygon[..., 1] >= 0) & (polygon[..., 1] < 1)).all()


@laws
@given(st.data())
def test_decoding_returns_the_kept_vertices(data):
    encoder = data.draw(polygon_encoders())
    objects = data.draw(outlined(encoder))
    decoded = encoder.decode(encoder.encode(objects))
    explained, found = encoder.explain(objects), encoder.vertices(objects)
    owners = np.flatnonzero(explained.positives)
    assert len(decoded) == len(owners)
    for k, outline in zip(owners, decoded.polygons, strict=True):
        kept = np.flatnonzero((found.object == k) & found.kept)
        kept = kept[np.argsort(found.bin[kept])]
        got = outline[0] if outline else np.zeros((0, 2))
        bins = np.flatnonzero(found.polar[k, :, 2])
        of_vertices = np.isin(bins, found.bin[kept])
        assert of_vertices.all() or encoder.points == "outline"
        np.testing.assert_allclose(
            got[of_vertices], found.yx[kept], atol=1e-5 * max(encoder.image_size)
        )
        assert len(set(found.bin[kept].tolist())) == len(kept)


@laws
@given(st.data())
def test_the_order_of_objects_changes_nothing_but_their_indices(data):
    encoder = data.draw(polygon_encoders())
    objects = data.draw(outlined(encoder))
    inside = np.clip(objects.boxes, 0, np.tile(encoder.image_size, 2))
    if len(np.unique(np.column_stack((inside, objects.labels)), axis=0)) < len(objects):
        return  # of objects in one box with one label the index decides
    order = data.draw(st.permutations(range(len(objects))))
    target, permuted = encoder.encode(objects), encoder.encode(objects.select(order))
    for name in ("state", "label", "box", "polygon"):
        np.testing.assert_array_equal(permuted[name], target[name], err_msg=name)


@laws
@given(st.data())
def test_a_batch_is_its_examples(data):
    encoder = data.draw(polygon_encoders())
    batch = [data.draw(outlined(encoder)) for _ in range(data.draw(st.integers(1, 4)))]
    target = encoder.encode_batch(batch)
    for i, example in enumerate(batch):
        single = encoder.encode(example)
        for name, array in target.items():
            np.testing.assert_array_equal(array[i], single[name])


def test_many_threads_and_few_give_one_answer():
    rng = np.random.default_rng(3)
    encoder = encoder_of(128, neighbours=2)
    batch = []
    for n in rng.integers(0, 9, 40):
        rings = [rng.uniform(0, 128, 2) + rng.uniform(-30, 30, (12, 2)) for _ in range(n)]
        batch.append(
            Annotations([box_around(r) for r in rings], [0] * n, polygons=[[r] for r in rings])
        )
    target = encoder.encode_batch(batch)
    for i, example in enumerate(batch):
        for name, array in encoder.encode(example).items():
            np.testing.assert_array_equal(target[name][i], array)


def test_bins_by_example():
    """Eight bins of 45 degrees, the first beginning at the left, rising over the top."""
    ring = [(24, 20), (16, 16), (18, 24), (24, 32), (30, 28), (32, 16)]
    found = held(encoder_of(bins=8), one(ring))  # box (16, 16, 32, 32), centre (24, 24)
    diagonal = math.sqrt(512)
    expected = {
        0: (4 / diagonal, 0.0),  # left
        1: (math.sqrt(128) / diagonal, 0.0),  # upper left
        2: (6 / diagonal, 0.0),  # above
        4: (8 / diagonal, 0.0),  # right
        5: (math.sqrt(52) / diagonal, math.degrees(math.atan2(6, 4)) / 45 - 1),
        7: (math.sqrt(128) / diagonal, 0.0),  # lower left
    }
    assert found.keys() == expected.keys()
    for v, pair in expected.items():
        assert found[v] == pytest.approx(pair, rel=1e-6, abs=1e-7)


def test_the_farthest_vertex_of_a_bin_is_kept():
    ring = [(16, 16), (16, 32), (32, 32), (32, 16), (30, 17), (31, 18), (28, 20)]
    encoder = encoder_of(bins=4)
    found = encoder.vertices(one(ring))
    assert found.kept.tolist() == [True, True, True, True, False, False, False]
    assert found.bin.tolist() == [0, 1, 2, 3, 3, 3, 3]
    assert len(encoder.decode(encoder.encode(one(ring))).polygons[0][0]) == 4


# The traps of the original, one by one.


def test_a_vertex_at_the_origin_does_not_end_the_list():
    ring = [(0, 0), (0, 30), (30, 30), (30, 0)]
    encoder = encoder_of()
    decoded = encoder.decode(encoder.encode(one(ring)))
    got = {tuple(np.round(point, 3).tolist()) for point in decoded.polygons[0][0] + 0.0}
    assert {tuple(abs(x) for x in point) for point in got} == set(ring)


@pytest.mark.parametrize("bins", [3, 7, 24, 36, 360])
def test_an_angle_of_a_full_turn_is_the_angle_0(bins):
    # The centre is (24, 24): one vertex hardly below the level of the centre, on the left.
    below = np.nextafter(np.float32(24), np.float32(25))
    tiny = one([(16, 32), (32, 32), (below, 16), (24, 16)], box=(16, 16, 32, 32))
    found = held(encoder_of(bins=bins), tiny)
    assert max(found) <= bins - 1
    assert all(0 <= inside < 1 for _, inside in found.values())
    assert angle_bin(-1e-300, 1.0, bins) == (0, 0.0)
    assert angle_bin(-0.0, 1.0, bins)[0] == 0
    assert angle_bin(0.0, -1.0, bins)[0] == bins // 2
    assert angle_bin(-1e-9, 1.0, bins)[0] == bins - 1


def test_a_polygon_is_cut_with_its_box_at_the_border():
    """A diamond around (0, 32), half of it above the image."""
    ring = [(-16, 32), (0, 48), (16, 32), (0, 16)]
    encoder = encoder_of()
    found = encoder.vertices(one(ring))
    assert found.boxes.tolist() == [[0, 16, 16, 48]]
    assert sorted(map(tuple, found.yx.tolist())) == [(0, 16), (0, 48), (16, 32)]
    # Cut between vertices: a new one on the border.
    lower = encoder.vertices(one(np.array(ring) - (4, 0)))
    assert sorted(map(tuple, lower.yx.tolist())) == [(0, 20), (0, 44), (12, 32)]
    assert (lower.polar[0, :, 0] <= 0.5).all()


def test_a_polygon_is_cut_to_a_box_smaller_than_it():
    ring = [(0, 0), (0, 64), (64, 64), (64, 0)]
    found = encoder_of().vertices(one(ring, box=(10, 20, 30, 40)))
    assert sorted(map(tuple, found.yx.tolist())) == [(10, 20), (10, 40), (30, 20), (30, 40)]
    nothing = one([(50, 50), (60, 50), (60, 60)], box=(10, 20, 30, 40))
    assert not held(encoder_of(), nothing)


def test_the_centre_is_not_floored():
    ring = [(10, 10), (10, 21), (21, 21), (21, 10)]  # centre 15.5
    found = held(encoder_of(bins=8), one(ring))
    assert found == dict.fromkeys((1, 3, 5, 7), (0.5, 0.0))


def test_a_vertex_on_the_centre_has_no_bin():
    ring = [(16, 16), (24, 24), (16, 32), (32, 24)]
    found = encoder_of().vertices(one(ring))
    assert found.bin[1] == -1
    assert found.kept.tolist() == [True, False, True, True]


def test_objects_without_vertices_need_no_padding():
    many = Annotations(
        [(2 * i, 2 * j, 2 * i + 2, 2 * j + 2) for i in range(32) for j in range(32)],
        [0] * 1024,
        polygons=[[[(0, 0), (99, 0), (99, 99), (0, 99)]] if k % 2 else [] for k in range(1024)],
    )
    encoder = PolygonEncoder(YoloEncoder(64, [(2, 2)], stride=2, num_classes=1), bins=4)
    target = encoder.encode(many)
    assert (target["state"] == 1).sum() == 1024  # no limit of 80
    masks = encoder.masks(target)
    assert masks["confidence"].sum() == 512
    assert masks["polygon"].sum() == 512 * 4
    assert masks["box"].sum() == 1024


# Where outlines come from.


def test_the_largest_part_counts_or_the_hull():
    small = [(16, 16), (16, 20), (20, 20), (20, 16)]
    large = [(20, 20), (20, 40), (40, 40), (40, 20)]
    found = encoder_of().vertices(one(small, large))
    assert found.yx.tolist() == [list(map(float, point)) for point in large]
    assert found.unused_parts.tolist() == [1]
    hull = encoder_of(part_rule="hull").vertices(one(small, large))
    corners = {(16, 16), (16, 20), (20, 40), (40, 40), (40, 20), (20, 16)}
    assert set(map(tuple, hull.yx.tolist())) == corners
    assert hull.unused_parts.tolist() == [0]
    # Largest inside the box, not before it was cut.
    cut = encoder_of().vertices(one(small, large, box=(14, 14, 21, 21)))
    assert set(map(tuple, cut.yx.tolist())) == {(16, 16), (16, 20), (20, 20), (20, 16)}


def test_parts_that_are_not_finite_are_left_out():
    good, bad = [(16, 16), (16, 20), (20, 20)], [(16, 16), (np.nan, 20), (20, 20), (9, 9)]
    for part_rule in ("largest", "hull"):
        found = encoder_of(part_rule=part_rule).vertices(one(bad, good, box=(16, 16, 20, 20)))
        assert np.isfinite(found.yx).all()
        assert len(found.yx) == 3
    assert not held(encoder_of(), one(bad, box=(16, 16, 20, 20)))


def test_a_bin_without_a_vertex_holds_a_point_of_the_outline_where_asked():
    square = [(8, 8), (8, 40), (40, 40), (40, 8)]
    assert len(held(encoder_of(), one(square))) == 4
    found = held(encoder_of(points="outline"), one(square))
    assert sorted(found) == list(range(24))
    (outline,) = (
        encoder_of(points="outline")
        .decode(encoder_of(points="outline").encode(one(square)))
        .polygons
    )
    from_centre = np.abs(np.asarray(outline[0], np.float64) - 24).max(axis=1)
    np.testing.assert_allclose(from_centre, 16, atol=1e-4)  # all of them on the square's sides
    filled = np.delete(np.arange(24), [3, 9, 15, 21])
    assert all(found[v][1] == 0.5 for v in filled.tolist())


def test_an_outline_that_a_ray_crosses_twice_is_told_by_the_farther_point():
    # A letter C, open to the right, whose box is centred in its gap.
    letter = [(0, 0), (0, 48), (8, 48), (8, 8), (40, 8), (40, 48), (48, 48), (48, 0)]
    found = held(encoder_of(bins=36, points="outline"), one(letter))
    diagonal = 48 * math.sqrt(2)
    assert found[0][0] * diagonal == pytest.approx(24 / math.cos(math.radians(5)), abs=1e-4)
    # Half the gap's angle is atan(16 / 24), 33.7 degrees: the middles of three bins on each side.
    assert set(range(36)) - found.keys() == {15, 16, 17, 18, 19, 20}


def test_masks_are_outlined_where_there_is_no_polygon():
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 30:50] = 1
    objects = Annotations([(10, 30, 20, 50)], [0], masks=[mask])
    rectangle = one([(10, 30), (10, 50), (20, 50), (20, 30)])
    expected, got = encoder_of().encode(rectangle), encoder_of().encode(objects)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)
    both = objects.replace(polygons=[[[(10, 30), (10, 50), (20, 40)]]])
    assert len(encoder_of().vertices(both).yx) == 3  # the polygon comes first
    mixed = objects.replace(polygons=[[]])
    np.testing.assert_array_equal(encoder_of().encode(mixed)["polygon"], expected["polygon"])


OUTLINES = [
    ([[1]], [[(0, 1), (1, 1), (1, 0), (0, 0)]]),
    ([[1, 1, 1], [1, 0, 1], [1, 1, 1]], [[(0, 3), (3, 3), (3, 0), (0, 0)]]),  # a hole
    ([[1, 0], [0, 1]], [[(0, 1), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (1, 0), (0, 0)]]),
    ([[1, 0, 1]], [[(0, 1), (1, 1), (1, 0), (0, 0)], [(0, 3), (1, 3), (1, 2), (0, 2)]]),
    ([[0]], []),
]


@pytest.mark.parametrize(("pixels", "expected"), OUTLINES)
def test_outlines_of_masks_by_example(pixels, expected):
    found = outline_of(RLE.from_mask(np.array(pixels)))
    assert [list(map(tuple, part.tolist())) for part in found] == expected


@laws
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 0.9))
def test_outlines_enclose_the_pixels_exactly(seed, height, width, density):
    pixels = (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)
    found = outline_of(RLE.from_mask(pixels))
    expected = reference.trace(pixels)
    assert [list(map(tuple, part.tolist())) for part in found] == expected
    # The area of the outlines is that of the pixels with holes filled.
    outside = reference.label(np.pad(pixels, 1) == 0, corners=False)
    filled = (outside != outside[0, 0])[1:-1, 1:-1]
    regions = reference.label(pixels)
    total = sum(reference.area(list(map(tuple, part.tolist()))) for part in found)
    nested = sum(int(((regions == r) & filled).sum()) for r in range(1, regions.max(initial=0) + 1))
    assert total >= filled.sum() >= nested
    assert len(found) == regions.max(initial=0)


def iou_of(ring, other, side=64):
    def rle(points):
        return coco_mask.frPyObjects([np.asarray(points)[:, ::-1].ravel().tolist()], side, side)[0]

    return float(coco_mask.iou([rle(ring)], [rle(other)], [0])[0, 0])


def test_convex_outlines_come_back_whole():
    angle = (np.arange(24) + 0.5) * 2 * np.pi / 24  # inside the bins, not between two
    disc = 32 + 20 * np.stack((np.sin(angle), np.cos(angle)), axis=1)
    encoder = encoder_of()
    decoded = encoder.decode(encoder.encode(one(disc)))
    assert iou_of(disc, decoded.polygons[0][0]) > 0.99


def predicted(encoder, target, strength=8.0):
    """A prediction that says what the target says."""

    def logit(share):
        share = np.asarray(share, np.float64).clip(1e-6, 1 - 1e-6)
        return np.log(share / (1 - share))

    box, polygon = target["box"].astype(np.float64), target["polygon"].astype(np.float64)
    classes = target["label"][..., None] == np.arange(encoder.num_classes)
    scale = encoder.distance_scale[0][:, None]
    raw = np.stack(
        (
            np.log(np.maximum(polygon[..., 0], 1e-9) / scale),
            logit(polygon[..., 1]),
            np.where(polygon[..., 2] == 1, strength, -strength),
        ),
        axis=-1,
    )
    return {
        "class": np.where(classes, strength, -9.0),
        "objectness": np.where(target["state"] == 1, strength, -9.0),
        "box": np.concatenate((logit(box[..., :2]), box[..., 2:]), axis=-1),
        "polygon": raw,
    }


def test_predictions_decode_to_scored_polygons():
    encoder = encoder_of()
    objects = Annotations(
        [(8, 8, 24, 24), (30, 20, 60, 60)],
        [2, 1],
        polygons=[
            [[(8, 16), (16, 24), (24, 16), (16, 8)]],
            [[(30, 20), (30, 60), (60, 60), (60, 20)]],
        ],
    )
    target = encoder.encode(objects)
    found, expected = encoder.decode(predicted(encoder, target)), encoder.decode(target)
    order = np.argsort(found.boxes[:, 0])
    assert found.labels[order].tolist() == [2, 1]
    assert (found.scores > 0.99).all()
    for row, outline in zip(order, expected.polygons, strict=True):
        np.testing.assert_allclose(found.polygons[row][0], outline[0], atol=1e-3)
    none = encoder.decode(predicted(encoder, target), vertex_threshold=1.0)
    assert none.polygons == ((), ())
    assert encoder.distance_scale[0, 0] == pytest.approx(8 / 64)


def test_polygons_of_no_objects():
    assert polygons_of(np.zeros((0, 4), np.float32), np.zeros((0, 24, 3))) == []


@pytest.mark.parametrize("levels", [1, 2])
def test_packed_layout_ends_with_the_bins(levels):
    anchors = [[(16, 16)], [(40, 40)]][:levels]
    boxes = YoloEncoder(64, anchors, grid=[(4, 4), (2, 2)][:levels], num_classes=3)
    encoder = PolygonEncoder(boxes, bins=5)
    target = encoder.encode(one([(16, 16), (24, 24), (16, 32), (32, 24)]))
    packed = encoder.pack(target)
    assert list(packed) == ["4x4", "2x2"][:levels]
    flat = np.concatenate([array.reshape(-1, 4 + 3 + 1 + 15) for array in packed.values()])
    np.testing.assert_array_equal(flat[:, 8:], target["polygon"].reshape(-1, 15))
    np.testing.assert_array_equal(flat[:, 7], target["state"].reshape(-1))
    np.testing.assert_array_equal(flat[:, :4], target["box"].reshape(-1, 4))


@pytest.mark.parametrize(
    "objects",
    [Annotations(), Annotations([(1, 1, 1, 5)], [0]), Annotations([(1, 1, 9, 9)], [0], [True])],
)
def test_without_objects_to_teach_every_bin_is_empty(objects):
    encoder = encoder_of()
    target = encoder.encode(objects)
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec
    assert not target["polygon"].any()
    assert len(encoder.decode(target)) == 0
    assert len(encoder.vertices(objects).yx) == 0


BASE = encoder_of()
CHANGES = {
    "boxes": replace(BASE.boxes, ignore_iou=0.7),
    "bins": 36,
    "part_rule": "hull",
    "points": "outline",
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    assert_survives_the_config(BASE, name, CHANGES[name])
    assert set(CHANGES) | {"encoder"} == set(BASE.config())


BAD = [
    (lambda: encoder_of(bins=2), "bins=2: expected a whole number of at least 3"),
    (lambda: encoder_of(part_rule="x"), "part_rule='x': expected one of largest, hull"),
    (lambda: encoder_of(points="x"), "points='x': expected one of vertices, outline"),
    (lambda: PolygonEncoder.from_config({"encoder": "yolo"}), "config of a 'yolo' encoder"),
    (lambda: BASE.decode({"box": np.zeros(1)}), r"decode got arrays named \['box'\]: polygon is"),
    (
        lambda: BASE.encode(Annotations([(0, 0, 4, 4)], [0], masks=[np.ones((4, 4))])),
        "the mask of object 0 is 4x4, the network input is 64x64",
    ),
    (lambda: BASE.encode(Annotations([(0, 0, 4, 4)], [3])), "object 0 has label 3, expected 0 to 2"),
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
        variable, __file__, "equals_its_twin or batch or example or exactly or part", tmp_path
    )


def test_a_dataset_is_audited_by_its_boxes(tmp_path):
    ytrue.datasets.write_shapes(tmp_path, num_images=4, image_size=(64, 64))
    dataset = ytrue.datasets.load(tmp_path)
    boxes = YoloEncoder(64, [(16, 16), (40, 40)], grid=(4, 4), num_classes=dataset.num_classes)
    report = ytrue.audit(dataset, PolygonEncoder(boxes))
    assert report.outcomes() == ytrue.audit(dataset, boxes).outcomes()
    assert not isinstance(PolygonEncoder(boxes), JointEncoder)
