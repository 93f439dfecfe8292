"""An exported EfficientDet against the TensorFlow graph: time of one image, detections included.

    python benchmarks/export.py                        # D0 at 512, every precision
    python benchmarks/export.py --variant lite0 --size 320
    python benchmarks/export.py --ap 1500 --size 128   # AP of each, after so many training steps

All candidates take the same uint8 image to the same `detect`, in turn, in one process. Weights are
random for the timing: they do not change it, as far as `detect` is given few candidates.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
from timing import in_turn, machine, table

CLASSES = 90
PRECISIONS = ("float32", "float16", "int8")
LIBRARIES = {"ai_edge_litert": "ai-edge-litert", "tensorflow": "tensorflow"}


def tensorflow(threads):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def new_detector(variant, size, classes):
    from ytrue.encoders import preset
    from ytrue.model import Detector, EfficientDet

    model = EfficientDet(variant, classes)
    names = tuple(f"class {i}" for i in range(classes))
    return Detector(model, preset("ytrue", size, classes), names, tuple(range(1, classes + 1)))


def noise(size, count):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, size // 16, size // 16, 3), np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def graph(tf, model, detector):
    """Return the call of a model as a graph, with the decoder of the exports."""
    from ytrue.model.exporting.decoding import decoding_of
    from ytrue.model.exporting.graph import Prediction

    encoder = detector.encoder
    decode = decoding_of(encoder).graph(encoder)
    predict = Prediction(model, decode, encoder.image_size).function(1)

    def run(images, read):
        found = predict(tf.constant(images))
        return [read({name: np.asarray(array)[0] for name, array in found.items()})]  # no copies

    return run


def called_and_detected(run, images):
    """Return two functions to time: the network alone, and the network and what follows it."""
    from ytrue.encoders.detections import detect

    def detected(outputs):
        return detect(outputs["scores"], outputs["boxes"], logits=False)

    return partial(run, images, lambda _outputs: None), partial(run, images, detected)


def not_in_parts(detector, folder):
    """Return a float32 file that computes all channels of a block at once."""
    from ytrue.model import efficientnet
    from ytrue.model.export import export
    from ytrue.model.exporting.manifest import lite_name

    with (
        patch.object(efficientnet, "LARGE_BYTES", math.inf),
        patch.object(efficientnet, "NEAR_WIDTH", math.inf),
    ):
        return export(detector, folder, ("float32",)) / lite_name("float32")


def speed(options):
    tf = tensorflow(options.threads)
    from ytrue.model.export import export
    from ytrue.model.exporting.manifest import SAVED_MODEL, lite_name
    from ytrue.model.exporting.runtimes import lite, saved_model

    libraries = [name for name in LIBRARIES if find_spec(name)]
    detector = new_detector(options.variant, options.size, CLASSES)
    images = noise(options.size, 4)
    calls = {
        "graph": graph(tf, detector.model, detector),
        "graph, folded": graph(tf, detector.model.fold(), detector),
    }
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        export(detector, folder, representative=images)
        exporting = time.perf_counter() - start
        uncut = not_in_parts(detector, Path(folder) / "uncut")
        sizes = {p: (Path(folder) / lite_name(p)).stat().st_size for p in PRECISIONS}
        calls["SavedModel"] = saved_model(Path(folder) / SAVED_MODEL)
        for library in libraries:
            for precision in PRECISIONS:
                file = Path(folder) / lite_name(precision)
                calls[f"TFLite {precision}, {LIBRARIES[library]}"] = lite(
                    file, options.threads, library
                )
        calls[f"float32 not in parts, {LIBRARIES[libraries[0]]}"] = lite(
            uncut, options.threads, libraries[0]
        )
        parts = [part for call in calls.values() for part in called_and_detected(call, images[:1])]
        finders = {"Detector.find": detector, "Detector.find, folded": detector.folded()}
        parts += [partial(finder.find, images[:1]) for finder in finders.values()]
        times = np.median(in_turn(parts, rounds=options.repeats, warm_up=3, twice=True), axis=1)
    pairs, found = times[: 2 * len(calls)].reshape(-1, 2), times[2 * len(calls) :]
    called = dict(zip(calls, pairs[:, 0], strict=True))
    detected = dict(zip([*calls, *finders], [*pairs[:, 1], *found], strict=True))
    print(machine("numpy", "keras", *(LIBRARIES[name] for name in libraries)))
    print(
        f"\n{options.variant} at {options.size}, {CLASSES} classes, 1 image, {options.threads} threads; "
        f"milliseconds; medians of {options.repeats} turns, in each the second call of two; "
        f"export took {exporting:.0f} s\n"
    )
    rows = []
    for name, time_of_all in detected.items():
        ratios = [f"{time_of_all / detected[of]:.2f}" for of in ("Detector.find", "graph")]
        call = f"{called[name] * 1e3:.1f}" if name in called else ""
        size = sizes.get(name.removeprefix("TFLite ").split(",")[0])
        rows.append((
            name, call, f"{time_of_all * 1e3:.1f}", *ratios, f"{size / 1e6:.1f}" if size else "",
        ))  # fmt: skip
    head = ("what", "call", "image to detections", "/ Detector.find", "/ graph", "file, MB")
    print(table(head, rows))


def trained(folder, options):
    """Train the variant on drawn shapes; return the detector and the images to judge it by."""
    import keras

    from ytrue.datasets import load, pipeline, write_shapes
    from ytrue.encoders import preset
    from ytrue.model import Detector, EfficientDet

    size = (options.size, options.size)
    sources = [
        load(write_shapes(Path(folder) / name, num_images=count, image_size=size, seed=seed))
        for name, count, seed in (("train", 800, 0), ("val", 100, 1))
    ]
    encoder = preset("ytrue", size, sources[0].num_classes)
    keras.utils.set_random_seed(0)
    model = EfficientDet(
        options.variant,
        encoder.num_classes,
        pretrained="lite0-imagenet" if options.variant == "lite0" else None,
    )
    steps = options.ap
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=1e-3, warmup_steps=steps // 10
            ),
            global_clipnorm=10.0,
        )
    )
    batches = pipeline(
        sources[0], encoder, batch_size=8, shuffle=True, augment="light", epochs=None
    )
    model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)
    names, ids = sources[0].classes, sources[0].class_ids
    return Detector(model, encoder, names, ids), sources


def average_precision(finder, source):
    """Return (AP, AP at IoU 0.5) of COCO on the source."""
    from ytrue.model.evaluate import evaluate
    from ytrue.model.predict import images_of, predict

    found = predict(finder, images_of(source), score_threshold=0.01)
    judged = evaluate(source, {one.image_id: one.detections for one in found})
    return judged.ap, judged.ap50


def precision_of_each(options):
    tf = tensorflow(options.threads)
    from ytrue.datasets import pipeline
    from ytrue.model.export import export, load_export

    with tempfile.TemporaryDirectory() as folder:
        detector, (train, val) = trained(folder, options)
        encoder = detector.encoder
        some = pipeline(train, encoder, batch_size=1).as_numpy_iterator()
        representative = [images[0] for (images, _), _ in zip(some, range(100), strict=False)]
        path = export(detector, Path(folder) / "export", representative=representative)
        finders = {"graph": detector}
        for precision in PRECISIONS:
            finders[f"TFLite {precision}"] = load_export(path, precision=precision)
        run = graph(tf, detector.model, detector)
        calls = finders | {"graph": lambda images: run(images, with_a_batch)[0]}
        images = np.stack(representative[:20])
        wanted = [calls["graph"](image[None]) for image in images]
        rows = []
        for name, finder in finders.items():
            scores, boxes = moved(calls[name], images, wanted)
            ap, ap50 = average_precision(finder, val)
            rows.append((name, f"{ap:.4f}", f"{ap50:.4f}", f"{scores:.1e}", f"{boxes:.1e}"))
    print(machine("numpy", "tensorflow", "keras"))
    print(
        f"\n{options.variant} at {options.size}, {options.ap} steps of 8 on drawn shapes, judged on "
        f"{len(val)} others; 100 representative images\n"
    )
    head = ("what", "AP", "AP at 0.5", "scores moved by", "boxes moved by, px")
    print(table(head, rows))


def with_a_batch(outputs):
    return {name: array[None] for name, array in outputs.items()}


def moved(call, images, wanted):
    """Return the largest differences of scores and of boxes of anchors that score above 0.05."""
    scores, boxes = [0.0], [0.0]
    for image, want in zip(images, wanted, strict=True):
        found = call(image[None])
        seen = want["scores"].max(axis=-1) >= 0.05
        scores.append(np.abs(found["scores"] - want["scores"]).max())
        boxes.append(np.abs(found["boxes"] - want["boxes"])[seen].max(initial=0))
    return max(scores), max(boxes)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="d0")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--ap", type=int, default=0, metavar="STEPS", help="train, then measure AP")
    options = parser.parse_args()
    if options.ap:
        precision_of_each(options)
    else:
        speed(options)


if __name__ == "__main__":
    main()
