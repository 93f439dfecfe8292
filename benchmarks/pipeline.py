"""Images a second of the whole pipeline, of its parts, and of tf.data the way Keras' guides do it.

    python benchmarks/pipeline.py

640 x 480 JPEGs of natural texture, 7 objects each, batches of 8 at 512 x 512, all cores.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from encode import objects
from PIL import Image, ImageFilter
from timing import machine, table

from ytrue import boxes as box_math
from ytrue.datasets import Report, load, pipeline
from ytrue.datasets.augment import Light
from ytrue.datasets.pixels import read_image
from ytrue.datasets.tfdata import BatchMaker
from ytrue.encoders import preset

IMAGES, BATCH, SIZE, OBJECTS = 256, 8, 512, 7


def write(folder: Path):
    """Write a COCO dataset of JPEGs about as hard to decode as photographs (90 to 110 kB)."""
    import json

    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(IMAGES):
        noise = rng.integers(0, 256, (480, 640, 3), np.uint8)
        picture = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.6))
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        Image.blend(coarse, picture, 0.6).save(folder / f"{i}.jpg", quality=90)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640})
        found = objects(rng, OBJECTS, 480)
        for box, label in zip(
            box_math.to_xywh(found.boxes).tolist(), found.labels.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": i,
                    "category_id": label,
                    "bbox": box,
                    "area": 1.0,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k, "name": f"class {k}"} for k in range(90)]
    (folder / "data.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder / "data.json"


def rate(batches, count):
    """Images a second over `count` images after a warm-up of two batches."""
    iterator = iter(batches)
    for _ in range(2):
        next(iterator)
    done, start = 0, time.perf_counter()
    while done < count:
        images, _ = next(iterator)
        done += int(images.shape[0])
    return done / (time.perf_counter() - start)


def decode_only(paths, pool):
    start = time.perf_counter()
    list(pool.map(read_image, paths))
    return len(paths) / (time.perf_counter() - start)


def keras_guide(dataset, encoder_size):
    """tf.data as the Keras guides write it, with keras-hub's encoder on the batch; no augmentation."""
    try:
        import tensorflow as tf
        from keras_hub.src.layers.modeling.anchor_generator import AnchorGenerator
        from keras_hub.src.models.retinanet.retinanet_label_encoder import RetinaNetLabelEncoder
    except ImportError:
        return None
    encoder = RetinaNetLabelEncoder(
        AnchorGenerator("yxyx", 3, 7, 3, [0.5, 1, 2], 4.0), bounding_box_format="yxyx"
    )
    paths = tf.constant(list(dataset.images.paths))
    boxes = tf.constant(
        np.stack(
            [e.annotations.boxes * np.tile((512 / 480, 512 / 640), 2) for e in dataset]
        ).astype(np.float32)
    )
    labels = tf.constant(np.stack([e.annotations.labels for e in dataset]).astype(np.float32))

    def example(path, box, label):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (encoder_size, encoder_size)), box, label

    def encode(image, box, label):
        target = encoder(image, box, label)
        return image, target

    data = tf.data.Dataset.from_tensor_slices((paths, boxes, labels)).repeat()
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    return data.map(encode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def main():
    print(machine("tensorflow", "opencv-python-headless", "numpy"))
    with tempfile.TemporaryDirectory() as folder:
        dataset = load(write(Path(folder)))
        encoder = preset("ytrue", (SIZE, SIZE), 90)
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as pool:
            decode_only(dataset.images.paths, pool)
            decoding = float(np.median([decode_only(dataset.images.paths, pool) for _ in range(3)]))
        maker = BatchMaker(
            dataset,
            encoder,
            BATCH,
            Light(),
            True,
            0,
            "letterbox",
            "raise",
            (0, 1),
            True,
            (124, 116, 104),
            cores,
            Report(),
        )
        order = maker.order(0)
        start = time.perf_counter()
        made = [
            list(
                maker.pool.map(lambda k, s=s: maker._example(order, s * BATCH + k, 0), range(BATCH))
            )
            for s in range(maker.steps)
        ]
        augmenting = maker.steps * BATCH / (time.perf_counter() - start)
        batches = [[annotations for _, annotations in batch] for batch in made]
        encoder.encode_batch(batches[0])
        start = time.perf_counter()
        for batch in batches:
            encoder.encode_batch(batch)
        encoding = (time.perf_counter() - start) / (len(batches) * BATCH)
        del made
        options = {"batch_size": BATCH, "epochs": None, "shuffle": True}
        light = rate(
            pipeline(dataset, encoder, augment="light", images="imagenet", **options), 2 * IMAGES
        )
        plain = rate(pipeline(dataset, encoder, images="imagenet", **options), 2 * IMAGES)
        guide = keras_guide(dataset, SIZE)
        rows = [
            ("decode only (full size, OpenCV, all cores)", f"{decoding:.0f}", "1.00"),
            ("decode + `light` augmentation", f"{augmenting:.0f}", f"{augmenting / decoding:.2f}"),
            ("whole pipeline, `light`, normalised", f"{light:.0f}", f"{light / decoding:.2f}"),
            (
                "whole pipeline, no augmentation, normalised",
                f"{plain:.0f}",
                f"{plain / decoding:.2f}",
            ),
        ]
        if guide is not None:
            other = rate(guide, IMAGES)
            rows.append(
                (
                    "tf.data as in the Keras guides, keras-hub encoder, no augmentation",
                    f"{other:.0f}",
                    f"{other / decoding:.2f}",
                )
            )
    print("\n" + table(("what", "images/s", "of decode only"), rows))
    print(
        f"\nEncoding costs {encoding * 1e6:.0f} us an image, {encoding * augmenting:.1%} of decode + augment."
    )


if __name__ == "__main__":
    main()
