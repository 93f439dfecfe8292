"""MaskEncoder: its twin, its laws, masks in step with boxes through the pipeline, itself as a value."""

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

import ytrue
from laws import assert_passes_with, assert_survives_the_config
from reference import mask as reference
from reference.mask import pixels_of
from strategies import mask_encoders, outlined
from ytrue import Annotations
from ytrue.datasets import load, pipeline, write_shapes
from ytrue.encoders import MaskEncoder, preset
from ytrue.encoders.kernels.rasters import draw
from ytrue.rasters import rasterise, runs_of_outlines
from ytrue.rle import RLE

laws = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    max_examples=int(os.environ.get("YTRUE_EXAMPLES", "100")),
    derandomize=True,
)


def encoder_of(side=64, stride=4, **options):
    return MaskEncoder(preset("ytrue", (side, side), 3, max_level=4, **options), stride=stride)


def one(*parts, box=(8, 8, 40, 40), label=0):
    return Annotations([box], [label], polygons=[parts])


@laws
@given(st.data())
def test_the_kernel_equals_its_twin(data):
    encoder = data.draw(mask_encoders())
    objects = data.draw(outlined(encoder))
    target = encoder.encode(objects)
    for name, array in encoder.boxes.encode(objects).items():
        np.testing.assert_array_equal(target[name], array, err_msg=name)
    for name, array in reference.encode(encoder, objects).items():
        assert target[name].dtype == array.dtype
        np.testing.assert_array_equal(target[name], array, err_msg=name)


@laws
@given(st.data())
def test_a_batch_is_its_examples_padded_to_the_most_objects(data):
    encoder = data.draw(mask_encoders())
    batch = [data.draw(outlined(encoder)) for _ in range(data.draw(st.integers(1, 4)))]
    target = encoder.encode_batch(batch)
    assert target["masks"].shape[1] == max(map(len, batch))
    for i, objects in enumerate(batch):
        for name, array in encoder.encode(objects).items():
            row = target[name][i]
            if name in ("masks", "mask_state", "mask_box"):
                assert (row[len(objects) :] == (-1 if name == "mask_state" else 0)).all()
                row = row[: len(objects)]
            np.testing.assert_array_equal(row, array, err_msg=name)


@laws
@given(st.data())
def test_decoding_returns_the_set_cells_of_every_object_with_an_anchor(data):
    encoder = data.draw(mask_encoders())
    objects = data.draw(outlined(encoder))
    target = encoder.encode(objects)
    decoded = encoder.decode(target)
    owners = np.flatnonzero(encoder.explain(objects).positives)
    assert len(decoded) == len(owners)
    height, width = encoder.image_size
    for k, mask in zip(owners, decoded.masks, strict=True):
        assert (mask is None) == (target["mask_state"][k] == -1)
        if mask is not None:
            pixels = mask.decode()
            assert pixels.shape == (height, width)
            sampled = pixels[:: encoder.stride, :: encoder.stride]
            np.testing.assert_array_equal(sampled, target["masks"][k])


@laws
@given(st.data())
def test_the_order_of_objects_changes_nothing_but_their_rows(data):
    encoder = data.draw(mask_encoders())
    objects = data.draw(outlined(encoder))
    order = data.draw(st.permutations(range(len(objects))))
    target, permuted = encoder.encode(objects), encoder.encode(objects.select(order))
    for name in ("masks", "mask_state", "mask_box"):
        np.testing.assert_array_equal(permuted[name], target[name][order], err_msg=name)


@laws
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 8]))
def test_masks_of_networks_are_drawn_as_their_twin_has_them(seed, height, width, stride):
    rng = np.random.default_rng(seed)
    cells = -(-height // stride), -(-width // stride)
    values = rng.normal(rng.choice([-1.0, 0.0, 1.0]), 1, cells).astype(np.float32)
    box = np.float32(np.sort(rng.uniform(-5, max(height, width) + 5, (2, 2)), axis=0).ravel())
    if seed % 3 == 0:
        box = np.float32([0, 0, height, width])
    runs = np.full((height + 1) * width + 1, -9, np.int64)
    count = draw(values, box, stride, height, width, runs)
    mask = RLE(height, width, runs[:count])
    assert (mask.counts[1:] > 0).all()
    expected = reference.drawn(values, box, stride, height, width)
    np.testing.assert_array_equal(mask.decode(), expected)
    assert mask == RLE.from_mask(expected)


@laws
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60))
def test_outlines_are_the_pixels_that_pycocotools_draws(seed, height, width):
    """Of one ring and of several, that cross themselves and each other, also far beyond the frame."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rng.integers(1, 4)):
        shape = (rng.integers(3, 40), 2)
        spread = 10 ** rng.uniform(0, 4)
        kinds = [
            rng.uniform(-30, 90, shape),
            rng.integers(-9, 70, shape),
            rng.normal(20, spread, shape),
        ]
        part = kinds[rng.integers(3)].astype(np.float32)
        parts.append(np.round(part * 10) / 10 if rng.random() < 0.3 else part)
    rings = [part[:, ::-1].astype(float).ravel().tolist() for part in parts]
    expected = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    assert rasterise(tuple(parts), height, width) == expected


def test_the_runs_of_many_outlines_are_those_of_each():
    """Long ones, so that places are counted, beside short ones, so that they are sorted."""
    rng = np.random.default_rng(0)
    long, short = rng.uniform(-9, 70, (400, 2)), rng.uniform(5, 40, (3, 2))
    outlines = [
        (long,),
        (),
        (short, long),
        (short[:2],),
        (short, short[::-1]),
        (np.full((3, 2), np.nan),),
    ]
    together = runs_of_outlines([tuple(np.float32(p) for p in o) for o in outlines], 64, 48)
    for outline, runs in zip(outlines, together, strict=True):
        drawn = rasterise(tuple(np.float32(part) for part in outline), 64, 48)
        np.testing.assert_array_equal(runs, RLE.from_coco([64, 48], drawn["counts"]).counts)
        rings = [
            np.float32(p)[:, ::-1].astype(float).ravel().tolist() for p in outline if len(p) > 2
        ]
        if np.isfinite(np.concatenate([*outline, np.zeros((1, 2))])).all() and rings:
            assert drawn == coco_mask.merge(coco_mask.frPyObjects(rings, 64, 48))
        else:
            assert runs.tolist() == [64 * 48]


@pytest.mark.parametrize("far", [9.0, 1e4, 1e6, 1e9, 1e15, 1e30])
def test_an_edge_keeps_its_slope_however_far_its_ends_are(far):
    """Of the frame's pixels those below the diagonal, as wherever the ends are."""
    ring = np.float32([(-far, -far), (far, far), (far, -far)])
    drawn = rasterise((ring,), 9, 9)
    pixels = RLE.from_coco(drawn["size"], drawn["counts"]).decode()
    assert pixels.tolist() == np.tril(np.ones((9, 9), int)).tolist()


def test_a_crowd_of_far_vertices_and_many_long_edges_take_no_walk():
    """Room for places is that of the columns passed; a walk of 2e13 steps would never end."""
    zigzag = np.column_stack((np.tile([-1e9, 1e9], 2000), np.tile([1e9, -1e9], 2000)))
    assert rasterise((np.float32(zigzag),), 64, 32)["size"] == [64, 32]
    edges = np.column_stack((np.tile([0, 500], 10_000), np.tile([0, 512], 10_000)))
    drawn = rasterise((np.float32(edges),), 64, 32)
    assert drawn == rasterise((np.float32(edges[:2]),) * 2, 64, 32)


def test_a_cell_is_set_where_half_of_its_pixels_are():
    rows = [(0, 0), (0, 16), (2, 16), (2, 0)]  # the upper two of four rows of pixels
    target = encoder_of(16).encode(one(rows, box=(0, 0, 2, 16)))
    assert target["masks"][0].tolist() == [[1] * 4] + [[0] * 4] * 3
    thin = [(0, 0), (0, 16), (1, 16), (1, 0)]
    target = encoder_of(16).encode(one(thin, box=(0, 0, 1, 16)))
    assert target["masks"][0].tolist() == [[1, 0, 0, 0]] + [[0] * 4] * 3


def test_cells_at_the_border_are_judged_by_the_pixels_they_have():
    encoder = MaskEncoder(preset("ytrue", (10, 10), 3, max_level=3), stride=4)
    assert encoder.cells == (3, 3)
    corner = [(9, 8), (9, 10), (10, 10), (10, 8)]  # the lower half of the last cell's 2x2 pixels
    assert encoder.encode(one(corner, box=(9, 8, 10, 10)))["masks"][0, 2].tolist() == [0, 0, 1]


def test_parts_are_united_and_masks_of_both_kinds_read():
    left, right = [(0, 0), (0, 8), (8, 8), (8, 0)], [(0, 24), (0, 32), (8, 32), (8, 24)]
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:8, :8] = pixels[:8, 24:32] = 1
    coded = coco_mask.encode(np.asfortranarray(pixels))
    runs = RLE.from_mask(pixels).counts.tolist()
    box = [(0, 0, 8, 32)]
    given = [
        one(left, right, box=box[0]),
        Annotations(box, [0], masks=[pixels]),
        Annotations(box, [0], masks=[RLE.from_coco(coded["size"], coded["counts"])]),
        Annotations(box, [0], masks=[RLE.from_coco((64, 64), runs)]),
    ]
    masks = encoder_of().encode_batch(given)["masks"][:, 0]
    assert masks[0, :2].tolist() == [[1, 1, 0, 0, 0, 0, 1, 1] + [0] * 8] * 2
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_what_has_no_mask_is_said_to_have_none():
    square = [(8, 8), (8, 40), (40, 40), (40, 8)]
    away = [(100, 100), (100, 110), (110, 110)]
    objects = Annotations(
        [(8, 8, 40, 40)] * 5, [0] * 5, [False, True, False, False, False],
        polygons=[[square], [square], [], [away], [[(1, 1), (2, 2)]]],
    )  # fmt: skip
    encoder = encoder_of()
    target = encoder.encode(objects)
    assert target["mask_state"].tolist() == [1, -1, -1, -1, -1]
    assert not target["masks"][1:].any()
    where = encoder.masks(target)
    assert (where["mask"] == ((target["state"] == 1) & (target["object"] == 0))).all()
    assert where["mask"].any()
    bare = encoder.encode(Annotations([(8, 8, 40, 40)], [0]))
    assert encoder.masks(bare)["box"].any()
    assert not encoder.masks(bare)["mask"].any()
    nothing = encoder.encode(Annotations())
    assert nothing["masks"].shape == (0, 16, 16)
    assert not encoder.masks(nothing)["mask"].any()


def test_coordinates_far_away_take_no_memory():
    wild = [(-1e30, 0), (0, 1e30), (1e30, 64), (64, -1e30)]
    drawn = rasterise(tuple(np.float32([wild])), 64, 64)
    assert drawn["size"] == [64, 64]


def test_predictions_decode_to_masks_in_their_boxes():
    encoder = encoder_of()
    disc = np.hypot(*(np.indices((16, 16)) * 4 + 2 - 24.0)) < 12
    yx = np.float32([(24 + 12 * np.sin(a), 24 + 12 * np.cos(a)) for a in np.linspace(0, 6.2, 60)])
    objects = one(yx, box=(12, 12, 36, 36), label=2)
    target = encoder.encode(objects)
    assert (target["masks"][0] == disc).mean() > 0.95
    anchors = len(encoder.boxes.grid)
    logits = np.full((anchors, 3), -20.0, np.float32)
    positive = target["state"] == 1
    logits[positive, 2] = 5
    prototypes = np.stack((target["masks"][0] - 0.5, np.ones((16, 16))), axis=-1)
    given = {
        "class": logits, "box": target["box"], "prototypes": prototypes.astype(np.float32),
        "coefficients": np.tile(np.float32([[8, 0]]), (anchors, 1)),
    }  # fmt: skip
    found = encoder.decode(given)
    assert found.labels.tolist() == [2]
    np.testing.assert_allclose(found.boxes[0], (12, 12, 36, 36), atol=1e-3)
    truth = pixels_of(encoder, objects, 0)
    got = found.masks[0].decode().astype(bool)
    assert (truth & got).sum() / (truth | got).sum() > 0.85  # of a disc 6 cells wide
    everywhere = given | {"coefficients": np.tile(np.float32([[0, 1]]), (anchors, 1))}
    assert encoder.decode(everywhere).masks[0].area == 24 * 24
    assert len(encoder.decode(given | {"class": logits - 30})) == 0


@pytest.mark.parametrize("augment", [None, "flip", "mild", "light", "strong"])
def test_masks_and_boxes_stay_in_step_through_the_pipeline(tmp_path_factory, augment):
    folder = tmp_path_factory.mktemp("zz-masks")
    dataset = load(write_shapes(folder / "shapes", num_images=12, image_size=(96, 128), seed=3))
    encoder = MaskEncoder(preset("ytrue", (96, 128), dataset.num_classes), stride=2)
    seen = 0
    for images, targets in pipeline(dataset, encoder, batch_size=4, augment=augment):
        assert images.shape == (4, 96, 128, 3)
        arrays = {name: array.numpy() for name, array in targets.items()}
        assert arrays["masks"].shape == (4, arrays["mask_state"].shape[1], 48, 64)
        for i in range(4):
            example = {name: array[i] for name, array in arrays.items()}
            found = encoder.decode(example)
            for box, mask in zip(found.boxes, found.masks, strict=True):
                cut = (box[:2] <= 0).any() or (box[2:] >= (96, 128)).any()
                if mask is None or cut:
                    continue  # of a box at the border, what is seen of the object may be less
                rows, columns = (np.flatnonzero(mask.decode().any(axis=axis)) for axis in (1, 0))
                tight = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
                # Cells of two pixels, set from half on.
                assert np.abs(box - tight).max() <= (2.5 if augment in (None, "flip") else 4)
                seen += 1
    assert seen > 20


def test_a_mask_of_another_size_is_named_with_its_example():
    bad = Annotations([(0, 0, 4, 4)], [0], masks=[np.ones((4, 4))])
    with pytest.raises(
        ValueError, match="example 1 of the batch: the mask of object 0 is 4x4, the"
    ):
        encoder_of().encode_batch([Annotations(), bad])


BASE = encoder_of()
CHANGES = {"boxes": replace(BASE.boxes, positive_iou=0.7), "stride": 8}


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_survives_the_config_and_changes_the_digest(name):
    assert_survives_the_config(BASE, name, CHANGES[name])
    assert set(CHANGES) | {"encoder"} == set(BASE.config())


def test_packed_layout_is_that_of_the_boxes_and_the_masks():
    target = BASE.encode(one([(8, 8), (8, 40), (40, 40), (40, 8)]))
    packed = BASE.pack(target)
    assert list(packed) == ["P3", "P4", "masks"]
    assert packed["masks"].dtype == np.float32
    np.testing.assert_array_equal(packed["masks"], target["masks"])


def test_a_box_told_in_the_wrong_order_has_an_empty_mask():
    boxes = np.float32([(50, 10, 10, 30), (10, 30, 50, 10), (10, 10, 30, 30)])
    ones = np.ones((16, 16, 2), np.float32)
    masks = BASE.masks_of(boxes, np.ones((3, 2), np.float32), ones)
    assert [int(mask.decode().sum()) for mask in masks] == [0, 0, 400]


def test_a_box_that_is_not_finite_has_no_mask():
    square = [[np.array([(8, 8), (8, 40), (40, 40), (40, 8)])]]
    objects = Annotations([(np.nan, 8, 30, 30), (8, 8, 40, 40)], [0, 1], polygons=square * 2)
    target = BASE.encode(objects)
    assert target["mask_state"].tolist() == [-1, 1]
    assert np.isfinite(target["mask_box"]).all()
    assert not target["masks"][0].any()


OUTPUTS = {"class": np.zeros((720, 3)), "box": np.zeros((720, 4))}
BAD = [
    (lambda: encoder_of(stride=0), "stride=0: expected a whole number of at least 1"),
    (lambda: encoder_of(stride=(8, 16)), r"stride=\(8, 16\): expected a whole number"),
    (lambda: encoder_of(stride=np.nan), "stride=nan: expected a whole number"),
    (lambda: MaskEncoder.from_config({"encoder": "yolo"}), "config of a 'yolo' encoder"),
    (lambda: BASE.decode({"box": np.zeros(1)}), r"decode got arrays named \['box'\]: expected a"),
    (lambda: BASE.decode(OUTPUTS), "coefficients, prototypes are missing"),
    (
        lambda: BASE.decode(
            OUTPUTS | {"coefficients": np.zeros((720, 2)), "prototypes": np.zeros((8, 8, 2))}
        ),
        "prototypes have 8x8 cells, the encoder 16x16",
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
    assert_passes_with(variable, __file__, "twin or pycocotools or half", tmp_path)


def test_a_dataset_is_audited_by_its_boxes(tmp_path):
    write_shapes(tmp_path, num_images=4, image_size=(64, 64))
    dataset = load(tmp_path)
    boxes = preset("ytrue", (64, 64), dataset.num_classes)
    report = ytrue.audit(dataset, MaskEncoder(boxes))
    assert report.outcomes() == ytrue.audit(dataset, boxes).outcomes()
