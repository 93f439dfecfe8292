"""Exports: every runtime gives the network's own boxes and scores, and no other files are taken."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue import DataError
from ytrue.encoders import BoxCoder, preset
from ytrue.encoders.coders import LARGEST_LOG
from ytrue.encoders.detections import detect
from ytrue.model import Detector, EfficientDet, efficientnet, folding
from ytrue.model.export import export, load_export
from ytrue.model.exporting import decoder as decoder_file
from ytrue.model.exporting import runtimes
from ytrue.model.exporting.decoder import Decoder
from ytrue.model.exporting.decoding import decoding_of
from ytrue.model.exporting.graph import Prediction
from ytrue.model.images import normalised
from ytrue.resizing import place

SIZE = (96, 128)


def detector(variant, size, classes, *, seed=1, **options):
    """An untrained detector whose outputs spread like a trained one's."""
    keras.utils.set_random_seed(seed)
    model = EfficientDet(variant, classes, **options)
    spread(model, size)
    names = tuple(f"thing {i}" for i in range(classes))
    return Detector(model, preset("ytrue", size, classes), names, tuple(range(7, 7 + classes)))


def spread(model, size):
    """Give the outputs a deviation of 2 and 0.2."""
    x = tf.constant(images(3, 4, size))
    outputs = model(x)
    for name, head, deviation in (("class", "class_head", 2.0), ("box", "box_head", 0.2)):
        for tower in getattr(model, head).towers:
            kernel = tower[-1].kernels[0]
            tower[-1].biases[0].assign(tf.zeros_like(tower[-1].biases[0]))
            kernel.assign(kernel * (deviation / float(tf.math.reduce_std(outputs[name]))))


def images(seed, count, size=SIZE):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, size[0] // 8, size[1] // 8, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def reference(made, x):
    """Boxes and scores as the library has them from the unfolded model, in float64 where it can."""
    outputs = {name: array.numpy() for name, array in made.model(tf.constant(x)).items()}
    boxes = made.encoder.coder.decode(
        outputs["box"], made.encoder.grid.boxes, largest_log=LARGEST_LOG
    )
    return outputs, boxes, 1 / (1 + np.exp(-outputs["class"].astype(np.float64)))


@pytest.fixture(scope="module")
def small():
    return detector("lite0", SIZE, 3)


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "export"
    return export(small, path, representative=images(0, 8))


@pytest.fixture(params=["ai_edge_litert", "tensorflow"])
def library(request, monkeypatch):
    """Whose interpreter runs TFLite files."""
    if request.param == "ai_edge_litert":
        pytest.importorskip("ai_edge_litert")
    else:
        monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    return request.param


def test_an_export_is_complete_and_says_what_it_is(small, folder):
    content = json.loads((folder / "export.json").read_text())
    assert {path.name for path in folder.iterdir()} == {
        "saved_model",
        "model_float32.tflite",
        "model_float16.tflite",
        "model_int8.tflite",
        "anchors.npy",
        "export.json",
        "decoder.py",
    }
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert content["files"].keys() == on_disk - {"export.json"}
    assert content["digest"] == small.encoder.digest
    assert content["variant"] == "lite0"
    assert content["normalisation"]["mean"] == [127.0] * 3
    np.testing.assert_array_equal(np.load(folder / "anchors.npy"), small.encoder.grid.boxes)
    loaded = load_export(folder, digest=small.encoder.digest)
    assert loaded.encoder == small.encoder
    assert (loaded.classes, loaded.class_ids) == (small.classes, small.class_ids)
    assert (loaded.image_size, loaded.resize) == (SIZE, "letterbox")
    sizes = {
        p: (folder / f"model_{p}.tflite").stat().st_size for p in ("float32", "float16", "int8")
    }
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]


@pytest.mark.parametrize("runtime", ["saved_model", "tflite"])
def test_outputs_agree_with_the_numpy_decoder(small, folder, runtime):
    x = images(5, 2)
    outputs, boxes, scores = reference(small, x)
    decoded = Decoder(folder).decode(outputs["class"], outputs["box"])
    np.testing.assert_array_equal(decoded[0], boxes)
    np.testing.assert_allclose(decoded[1], scores, atol=1e-7)
    found = load_export(folder, runtime)(x)
    assert {name: array.dtype for name, array in found.items()} == {
        "boxes": np.float32,
        "scores": np.float32,
    }
    np.testing.assert_allclose(found["scores"], decoded[1], atol=1e-3, rtol=0)
    np.testing.assert_allclose(found["boxes"], decoded[0], atol=0.01, rtol=1e-4)


def test_tflite_runs_on_either_interpreter(small, folder, library, monkeypatch):
    x, asked, made = images(5, 1), [], runtimes._interpreter

    def noted(path, threads, whose):
        asked.append(whose)
        return made(path, threads, whose)

    monkeypatch.setattr(runtimes, "_interpreter", noted)
    _, boxes, scores = reference(small, x)
    found = load_export(folder)(x)
    assert asked == [library]
    np.testing.assert_allclose(found["scores"], scores, atol=1e-3, rtol=0)
    np.testing.assert_allclose(found["boxes"], boxes, atol=0.01, rtol=1e-4)


# How far trained networks move is in docs/export.md.
@pytest.mark.parametrize(("precision", "share"), [("float16", 0.999), ("int8", 0.97)])
def test_lower_precision_stays_near_and_ends_in_float(small, folder, precision, share, library):
    x = images(5, 2)
    _, boxes, scores = reference(small, x)
    found = load_export(folder, precision=precision)(x)
    assert np.corrcoef(found["scores"].ravel(), scores.ravel())[0, 1] > share
    assert np.median(np.abs(found["boxes"] - boxes)) < 6.0
    # scores of 8 bits would be 256 different ones at most
    assert len(np.unique(found["scores"])) > 1000


def test_one_image_and_several_give_the_same(folder):
    x = images(6, 3)
    for runtime in ("saved_model", "tflite"):
        call = load_export(folder, runtime)
        together = call(x)
        for name, array in call(x[1:2]).items():
            np.testing.assert_allclose(array[0], together[name][1], atol=1e-3)


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5])
def test_the_decoders_suppression_is_the_librarys(small, folder, iou_threshold):
    outputs, boxes, _ = reference(small, images(7, 2))
    take = Decoder(folder)
    options = {"iou_threshold": iou_threshold, "score_threshold": 0.3, "max_detections": 50}
    for i in range(2):
        scores = take.decode(outputs["class"], outputs["box"])[1][i]
        ours = detect(scores, boxes[i], logits=False, **options)
        theirs = take.detect(boxes[i], scores, **options)
        assert 10 < len(ours) <= 50
        np.testing.assert_array_equal(theirs["boxes"], ours.boxes)
        np.testing.assert_array_equal(theirs["scores"], ours.scores)
        np.testing.assert_array_equal(theirs["labels"], ours.labels)
        from_logits = detect(outputs["class"][i], boxes[i], **options)
        np.testing.assert_array_equal(from_logits.boxes, ours.boxes)


def test_boxes_return_to_the_source_image(small, folder, tmp_path):
    boxes = np.array([[0, 0, 50, 60], [10.5, 3, 96, 90]], np.float32)
    take = Decoder(folder)
    for source in ((480, 640), (333, 1000), (77, 20), (1, 5000)):
        wanted = place(source, SIZE, "letterbox").undo(boxes)
        np.testing.assert_array_equal(take.to_source(boxes, source), wanted)
    take.export["resize"] = "stretch"
    wanted = place((333, 1000), SIZE, "stretch").undo(boxes)
    np.testing.assert_array_equal(take.to_source(boxes, (333, 1000)), wanted)


def test_the_copied_decoder_needs_numpy_alone(folder):
    assert (folder / "decoder.py").read_bytes() == Path(decoder_file.__file__).read_bytes()
    nodes = list(ast.walk(ast.parse((folder / "decoder.py").read_text())))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert found == {"__future__", "hashlib", "json", "pathlib", "typing", "numpy"}
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from decoder import Decoder\n"
        "import numpy as np\n"
        "take = Decoder()\n"
        "n = len(take.anchors)\n"
        "boxes, scores = take.decode(np.zeros((n, 3)), np.zeros((n, 4)))\n"
        "assert np.abs(boxes - take.anchors).max() < 1e-4 and (scores == 0.5).all()\n"
        "found = take.detect(boxes, scores, score_threshold=0.6)\n"
        "assert found['boxes'].shape == (0, 4)\n"
        "print(take.classes, 'ytrue' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['thing 0', 'thing 1', 'thing 2'] False\n"


@pytest.mark.parametrize("kind", ["centre", "corner"])
@pytest.mark.parametrize("std", [(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)])
def test_the_graph_decodes_as_the_coder_does(small, kind, std):
    coder = BoxCoder(kind, std=std)
    encoder = replace(small.encoder, coder=coder)
    offsets = np.random.default_rng(0).normal(0, 1, (2, len(encoder.grid), 4)).astype(np.float32)
    offsets[0, :9, 2:] = 100.0  # cut, not infinite
    graph = decoding_of(encoder).graph(encoder)
    found = graph({"box": tf.constant(offsets), "class": tf.zeros((2, len(encoder.grid), 3))})
    wanted = coder.decode(
        offsets,
        encoder.grid.boxes,
        **({"largest_log": LARGEST_LOG} if kind == "centre" else {}),
    )
    np.testing.assert_allclose(found["boxes"], wanted, rtol=1e-4, atol=1e-3)


def test_pixels_are_normalised_as_in_the_model(small):
    x = tf.constant(images(8, 1))
    graph = Prediction(small.model, decoding_of(small.encoder).graph(small.encoder), SIZE)
    np.testing.assert_array_equal(graph._normalised(x), normalised(x, lite=True, dtype="float32"))


def test_xnnpack_takes_the_whole_float_graph(folder):
    """One partition: every change between XNNPACK and TFLite's own kernels costs."""
    names = _operations(folder / "model_float32.tflite")
    assert names.count("DELEGATE") == 1
    assert names.count("ADD_N") == 0


@pytest.mark.parametrize("variant", ["d0", "nano"])
def test_float_blocks_work_in_parts_and_give_the_same(variant, tmp_path, monkeypatch):
    """Those of 8 bits, whose sums would be rounded, do not."""
    monkeypatch.setattr(efficientnet, "LARGE_BYTES", 0)
    monkeypatch.setattr(efficientnet, "LARGE_FILTERS", 1000)
    monkeypatch.setattr(efficientnet, "LARGE_WIDTHS", (384, 336, 240, 48, 24))
    given = {}

    def noted(precision, function, _owner, *_images):
        given[precision] = function
        return b""

    converters = {precision: partial(noted, precision) for precision in ("float32", "int8")}
    monkeypatch.setattr(sys.modules[export.__module__], "CONVERTERS", converters)
    x = images(3, 1, (64, 64))
    export(detector(variant, (64, 64), 2), tmp_path / variant, ("float32", "int8"), x)
    parts, whole = (given[precision](tf.constant(x)) for precision in ("float32", "int8"))
    np.testing.assert_allclose(parts["scores"], whole["scores"], atol=1e-5)
    np.testing.assert_allclose(parts["boxes"], whole["boxes"], atol=1e-2, rtol=1e-4)
    convolved = {
        precision: [op.type for op in function.graph.get_operations()].count(
            "DepthwiseConv2dNative"
        )
        for precision, function in given.items()
    }
    assert convolved["float32"] > convolved["int8"] + 10


def _operations(file):
    with pytest.warns(UserWarning, match="Interpreter is deprecated"):
        interpreter = tf.lite.Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    return [op["op_name"] for op in interpreter._get_ops_details()]


@pytest.mark.parametrize("runtime", ["saved_model", "tflite"])
def test_outputs_are_the_callers_own(folder, runtime):
    call = load_export(folder, runtime)
    first = call(images(6, 1))
    kept = {name: array.copy() for name, array in first.items()}
    call(images(7, 1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
        array[:] = 0
    with pytest.raises(ValueError, match="images: none; expected one at least"):
        call(images(6, 1)[:0])
    assert call.find(images(6, 1)[:0]) == []


def test_a_kept_error_does_not_stop_the_interpreter(folder, library):
    call, x = load_export(folder), images(6, 2)
    with pytest.raises(ValueError, match="score_threshold=2") as kept:
        call.find(x, score_threshold=2.0)
    one, other = call.find(x, score_threshold=0.3)
    assert len(one) > 0 < len(other)
    assert "score_threshold=2" in str(kept.value)


def test_another_encoders_digest_is_refused(small, folder):
    other = replace(small.encoder, positive_iou=0.6).digest
    with pytest.raises(DataError, match=f"digest {small.encoder.digest}, asked for {other}"):
        load_export(folder, digest=other)


@pytest.fixture
def copied(folder, tmp_path):
    """Only what the TFLite runtime needs, free to be spoilt."""
    for name in ("export.json", "anchors.npy", "model_float32.tflite"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_a_changed_or_missing_file_is_refused(copied):
    load_export(copied)
    with pytest.raises(DataError, match=r"model_int8\.tflite: the file is missing"):
        load_export(copied, precision="int8")
    with pytest.raises(DataError, match="saved_model.*: the file is missing"):
        load_export(copied, "saved_model")
    anchors = np.load(copied / "anchors.npy")
    np.save(copied / "anchors.npy", anchors + 1)
    with pytest.raises(DataError, match=r"anchors\.npy: SHA-256 .* but export\.json names"):
        load_export(copied)
    with pytest.raises(ValueError, match=r"anchors\.npy: SHA-256 .* but export\.json names"):
        Decoder(copied)
    np.save(copied / "anchors.npy", anchors)
    load_export(copied)
    path = copied / "model_float32.tflite"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"model_float32\.tflite: SHA-256"):
        load_export(copied)


def test_a_changed_manifest_is_refused(copied, tmp_path_factory):
    path = copied / "export.json"
    content = json.loads(path.read_text())
    content["encoder"]["grid"]["anchor_scale"] = 3.0
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"the encoder's config has the digest .* file names"):
        load_export(copied)
    path.write_text("[]")
    with pytest.raises(DataError, match="no digest, encoder, files in it"):
        load_export(copied)
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load_export(copied)
    with pytest.raises(DataError, match=r"there is no export\.json"):
        load_export(tmp_path_factory.mktemp("nothing"))


def test_arguments_out_of_range_are_named(small, folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"formats=\('onnx',\): expected some of saved_model"):
        export(small, tmp_path, ("onnx",))
    with pytest.raises(ValueError, match="int8 needs representative images"):
        export(small, tmp_path, ("int8",))
    with pytest.raises(ValueError, match=r"representative image 1: \(64, 64, 3\) uint8, expected"):
        export(small, tmp_path, ("int8",), [images(0, 1)[0], images(0, 1, (64, 64))[0]])
    with pytest.raises(DataError, match="the folder is not empty"):
        export(small, folder, ("float32",))
    monkeypatch.setattr(type(small.encoder), "config", lambda _: {"encoder": "wheel"})
    with pytest.raises(
        ValueError, match="targets are of a 'wheel' encoder: only those of anchor, "
    ):
        export(small, tmp_path / "wheel", ("float32",))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="runtime='onnx': expected one of tflite, saved_model"):
        load_export(folder, "onnx")
    with pytest.raises(
        ValueError, match="precision='int4': expected one of float32, float16, int8"
    ):
        load_export(folder, precision="int4")
    with pytest.raises(ValueError, match="precision='int8': the SavedModel is float32"):
        load_export(folder, "saved_model", "int8")
    call = load_export(folder)
    for wrong in (images(0, 1)[0], images(0, 1).astype(np.float32), images(0, 1, (64, 64))):
        with pytest.raises(ValueError, match=r"expected \(B, 96, 128, 3\) uint8"):
            call(wrong)


def test_a_model_of_mixed_precision_is_exported_in_float32(tmp_path):
    mixed, plain = (
        EfficientDet("lite0", 2, dtype=dtype) for dtype in ("mixed_bfloat16", "float32")
    )
    plain.set_weights(mixed.get_weights())
    made = Detector(mixed, preset("ytrue", 64, 2), ("a", "b"), (1, 2))
    folder = export(made, tmp_path / "mixed", ("saved_model",))
    x = images(1, 1, (64, 64))
    _, boxes, scores = reference(replace(made, model=plain), x)
    found = load_export(folder, "saved_model")(x)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-6)
    np.testing.assert_allclose(found["boxes"], boxes, atol=1e-3)


@pytest.mark.parametrize("constant", [folding.CONSTANT_BYTES, 0])
def test_a_saved_model_keeps_each_weight_once(constant, tmp_path, monkeypatch):
    """In the graph where the model is small, in the variables' file where it is large."""
    monkeypatch.setattr(folding, "CONSTANT_BYTES", constant)
    made = detector("nano", (64, 64), 2)
    path = export(made, tmp_path / "once", ("saved_model",))
    weights = 4 * made.model.fold().count_params()
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert weights < size < 1.8 * weights
    x = images(2, 1, (64, 64))
    _, boxes, scores = reference(made, x)
    found = load_export(path, "saved_model")(x)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-3)
    np.testing.assert_allclose(found["boxes"], boxes, atol=1e-2, rtol=1e-4)


@pytest.mark.slow
def test_xnnpack_takes_blocks_of_many_parts_as_a_whole(tmp_path):
    made = detector("d2", (128, 128), 2)
    folder = export(made, tmp_path / "d2", ("float32",))
    names = _operations(folder / "model_float32.tflite")
    assert names.count("DELEGATE") == 1


@pytest.mark.slow
def test_d0_at_512_agrees_and_is_taken_by_xnnpack_as_a_whole(tmp_path):
    size = (512, 512)
    made = detector("d0", size, 90)
    folder = export(made, tmp_path / "d0", ("saved_model", "float32", "float16"))
    x = images(2, 1, size)
    _, boxes, scores = reference(made, x)
    for runtime in ("saved_model", "tflite"):
        found = load_export(folder, runtime)(x)
        np.testing.assert_allclose(found["scores"], scores, atol=1e-3, rtol=0)
        np.testing.assert_allclose(found["boxes"], boxes, atol=1e-3 * 512, rtol=0)
    names = _operations(folder / "model_float32.tflite")
    assert names.count("DELEGATE") == 1
