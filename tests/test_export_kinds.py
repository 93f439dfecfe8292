"""Exports of every kind of encoder find what the detector in memory finds."""

import json
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from ytrue.cli import app
from ytrue.datasets import load, write_shapes
from ytrue.datasets.shapes import CLASSES
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
from ytrue.model import Detector
from ytrue.model.export import export, load_export
from ytrue.model.exporting import decoder as decoder_file
from ytrue.model.exporting.decoder import Decoder
from ytrue.model.exporting.decoding import DECODINGS, decoding_of
from ytrue.model.predict import images_of, predict, records_of
from ytrue.model.tasks import build_model, task_of
from ytrue.rasters import rasterise
from ytrue.resizing import place
from ytrue.rle import RLE

SIZE = (64, 96)
LANDMARKS = ("left", "top", "right", "bottom")  # of `write_shapes`, as are the class ids


def encoders():
    boxes = preset("ytrue", SIZE, 4)
    yolo = YoloEncoder(SIZE, [[(16, 16)], [(40, 30)]], stride=(8, 16), num_classes=4, neighbours=2)
    points = KeypointGridEncoder(SIZE, stride=(8, 16), num_classes=4, points_per_cell=2)
    return {
        "anchor": boxes,
        "centernet": CenterNetEncoder(SIZE, 4),
        "fcos": FCOSEncoder(SIZE, 4, stride=(8, 16, 32)),
        "keypoint-grid": points,
        "mask": MaskEncoder(boxes),
        "polygon": PolygonEncoder(yolo),
        "pose": PoseEncoder(boxes, points),
        "yolo": yolo,
    }


HEADS = {
    "coefficients": "coefficient_head/output",
    "prototypes": "prototype_output",
}
DEVIATIONS = {"class": 1.5, "objectness": 1.5, "heatmap": 1.5, "polygon": 0.7, "prototypes": 0.7}


@cache
def detector(kind):
    """An untrained detector whose outputs spread like a trained one's."""
    keras.utils.set_random_seed(3)
    encoder = encoders()[kind]
    model = build_model(encoder, "nano")
    for output, array in model(images(3, 4)).items():
        part, _, name = output.rpartition("/")
        if name == "centerness":  # of the box's head
            continue
        place = (f"{part}_heads/" if part else "") + HEADS.get(name, f"{name}_head/output")
        (kernel,) = (w for w in model.weights if f"{place}/kernel" in w.path)
        (bias,) = (w for w in model.weights if f"{place}/bias" in w.path)
        kernel.assign(kernel * (DEVIATIONS.get(name, 0.3) / float(tf.math.reduce_std(array))))
        bias.assign(tf.fill(bias.shape, 4.0 if name == "size" else 0.0))  # boxes with an area
    return Detector(model, encoder, tuple(CLASSES.values()), tuple(CLASSES), landmarks=LANDMARKS)


def images(seed, count):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 12, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


# Those left to the slow tests have the graphs of the others.
KINDS = ("mask",)


@pytest.fixture(
    scope="module",
    params=[
        kind if kind in KINDS else pytest.param(kind, marks=pytest.mark.slow) for kind in DECODINGS
    ],
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return export(detector(kind), tmp_path_factory.mktemp(kind) / "export", ("float32",))


def pixels(objects):
    """Return (N, height, width) bool of the objects' masks or polygons, None without."""
    if objects.masks is not None:
        return np.array([mask.decode() for mask in objects.masks], bool)
    if objects.polygons is not None:
        return np.array([drawn(outline) for outline in objects.polygons], bool)
    return None


def drawn(outline):
    if not outline:
        return np.zeros(SIZE, np.uint8)
    raster = rasterise(outline, *SIZE)
    return RLE.from_coco(raster["size"], raster["counts"]).decode()


def check_same(theirs, ours):
    """Check that detections are the same, in the same order."""
    assert len(ours) >= 10
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-3)
    np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.01, rtol=1e-4)
    area, other = pixels(ours), pixels(theirs)
    if area is not None:
        assert area.any(axis=(1, 2)).sum() > 5
        union, shared = (area | other).sum(axis=(1, 2)), (area & other).sum(axis=(1, 2))
        assert (shared >= 0.99 * union).all()
    if ours.keypoints is not None:
        assert (ours.keypoints[..., 2] > 0).sum() >= 10
        np.testing.assert_allclose(theirs.keypoints, ours.keypoints, atol=0.01)


def check_finds(loaded, ours):
    x = images(5, 2)
    for options in ({}, {"score_threshold": 0.4, "max_detections": 20}):
        for one, other in zip(loaded.find(x, **options), ours.find(x, **options), strict=True):
            check_same(one, other)


def test_tflite_finds_what_the_detector_finds(kind, folder):
    loaded = load_export(folder, digest=detector(kind).encoder.digest)
    assert loaded.encoder == detector(kind).encoder
    assert loaded.landmarks == LANDMARKS
    check_finds(loaded, detector(kind))


@pytest.mark.slow
def test_the_saved_model_finds_what_the_detector_finds(kind, tmp_path):
    folder = export(detector(kind), tmp_path / "export", ("saved_model",))
    check_finds(load_export(folder, "saved_model"), detector(kind))


def test_the_manifest_names_the_outputs(kind, folder):
    content = json.loads((folder / "export.json").read_text())
    outputs = load_export(folder)(images(1, 3))
    assert content["outputs"].keys() == outputs.keys()
    for name, array in outputs.items():
        assert array.dtype == np.float32
        axes = content["outputs"][name].split("(")[1].split(")")[0].split(", ")
        assert (len(array), array.ndim) == (3, len(axes)), name
    on_anchors = kind in ("anchor", "mask", "pose")
    assert ("anchors.npy" in content["files"], "coder" in content) == (on_anchors, on_anchors)


# How far trained networks move is in docs/export.md.
@pytest.mark.slow
def test_int8_stays_near_and_ends_in_float(kind, tmp_path):
    ours = detector(kind)
    folder = export(ours, tmp_path / "export", ("int8",), images(0, 30))
    outputs = load_export(folder, precision="int8")(images(5, 4))
    wanted = decoding_of(ours.encoder).graph(ours.encoder)(ours.model(images(5, 4)))
    assert outputs.keys() == wanted.keys()
    for name, array in outputs.items():
        share = np.corrcoef(array.ravel(), np.ravel(wanted[name]))[0, 1]
        assert share > 0.97, (name, share)
        # 8 bits would be 256 different numbers at most
        assert len(np.unique(array)) > 400, name


def test_results_are_the_detectors(kind, folder, tmp_path):
    dataset = load(write_shapes(tmp_path / "shapes", num_images=2, image_size=(80, 120), seed=1))
    ours, theirs = (
        records_of(finder, list(predict(finder, images_of(dataset), score_threshold=0.3)))
        for finder in (detector(kind), load_export(folder))
    )
    assert len(ours) > 10
    for one, other in zip(theirs, ours, strict=True):
        assert one.keys() == other.keys()
        for name in ("image_id", "category_id"):
            assert one.get(name) == other.get(name)
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)


def test_the_command_line_predicts_with_an_export_and_evaluates(kind, folder, tmp_path):
    data = write_shapes(tmp_path / "shapes", num_images=2, image_size=(80, 120), seed=1)
    found = tmp_path / "found.json"
    for arguments in (
        ("predict", folder, "--ids", data, "-o", found, "--runtime", "tflite"),
        ("evaluate", data, found),
    ):
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert done.exit_code == 0, done.output
    assert len(json.loads(found.read_text())) > 10
    name = task_of(detector(kind).encoder).name
    assert ("coco" in done.stdout) == (name != "keypoints")


def test_the_copied_decoder_finds_what_the_library_finds(kind, folder):
    if kind not in decoder_file.KINDS:
        pytest.skip("refused, as the test below says")
    outputs = {name: array[0] for name, array in load_export(folder)(images(5, 1)).items()}
    (ours,) = load_export(folder).find(images(5, 1), score_threshold=0.3)
    theirs = Decoder(folder).find(outputs, score_threshold=0.3)
    assert len(ours) > 10
    np.testing.assert_array_equal(theirs["scores"], ours.scores)
    np.testing.assert_array_equal(theirs["labels"], ours.labels)
    if ours.keypoints is None:
        np.testing.assert_array_equal(theirs["boxes"], ours.boxes)
    else:
        each = ours.keypoints[np.arange(len(ours)), theirs["landmarks"]]
        np.testing.assert_array_equal(theirs["points"], each[:, :2])
        assert (each[:, 2] > 0).all()
    if ours.masks is not None:
        np.testing.assert_array_equal(theirs["masks"], pixels(ours))
    if ours.polygons is not None:
        for points, outline in zip(theirs["polygons"], ours.polygons, strict=True):
            np.testing.assert_array_equal(points, outline[0] if outline else np.zeros((0, 2)))
        where = place((333, 1000), SIZE, "letterbox").undo(theirs["polygons"][0])
        back = Decoder(folder).to_source(theirs["polygons"][0], (333, 1000))
        np.testing.assert_array_equal(back, where)
    if kind in ("polygon", "yolo"):
        with pytest.raises(ValueError, match="the export has no anchors"):
            Decoder(folder).decode(outputs["scores"], outputs["boxes"])


def written(encoder, folder):
    """Return the decoder of an export.json that holds what it reads."""
    content = {
        "encoder": encoder.config(),
        "files": {},
        "image_size": SIZE,
        "classes": [],
        "class_ids": [],
    }
    (folder / "export.json").write_text(json.dumps(content))
    return Decoder(folder)


@pytest.mark.parametrize("slots", ["any", "fixed"])
@pytest.mark.parametrize("classes", ["landmark", "object"])
@pytest.mark.parametrize("radius", [-1.0, 0.5, 2.0])
def test_the_copied_decoder_suppresses_points_as_the_library_does(slots, classes, radius, tmp_path):
    encoder = KeypointGridEncoder(
        SIZE, stride=(8, 16), num_classes=4, points_per_cell=4, slots=slots, classes=classes
    )
    rng = np.random.default_rng(0)
    scores = rng.random((encoder.num_slots, 4), np.float32)
    cell = np.arange(encoder.num_slots) // 4
    points = encoder.cells.points(cell, rng.random((encoder.num_slots, 2)))
    options = {"score_threshold": 0.3, "duplicate_radius": radius, "max_detections": 200}
    ours = encoder.detect(scores, points, logits=False, **options)
    theirs = written(encoder, tmp_path).find({"scores": scores, "points": points}, **options)
    assert len(ours) == 200 or radius > 0
    np.testing.assert_array_equal(theirs["scores"], ours.scores)
    np.testing.assert_array_equal(theirs["labels"], ours.labels)
    told = ours.keypoints[np.arange(len(ours)), theirs["landmarks"]]
    np.testing.assert_array_equal(told, np.c_[theirs["points"], np.full(len(ours), 2)])


def test_the_copied_decoder_names_the_kinds_it_reads(tmp_path):
    with pytest.raises(
        ValueError, match="an export of a 'pose' encoder: decoder.py reads those of"
    ):
        written(encoders()["pose"], tmp_path)
