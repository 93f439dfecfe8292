"""Encoding boxes on anchors against the physical limit and against peers, in one run, one thread.

    python benchmarks/encode.py            # all sizes; keras-hub and effdet where installed
    python benchmarks/encode.py --quick

Objects have the sizes of COCO's at the network input (square root of the area log-normal, median
7 % of the side, sigma 1.26, aspect ratio log-normal, sigma 0.4), placed uniformly: about 15
positive and 28 ignored anchors an object, as in real COCO images at 512.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec

import numpy as np
from numba import njit
from timing import machine, seconds, table

from ytrue import Annotations
from ytrue.encoders import AnchorGrid, preset
from ytrue.encoders.anchor import _new_record
from ytrue.encoders.batches import new_targets, objects_of
from ytrue.encoders.kernels.lattice import fill_boxes
from ytrue.encoders.kernels.matching import match_images
from ytrue.encoders.kernels.objects import Targets

SIZES = {"D0": 512, "D1": 640, "D2": 768, "D3": 896, "D4": 1024, "D5": 1280, "D7": 1536}
COUNTS = (1, 7, 30, 100, 500)
BATCH = 16


def objects(rng, count, size):
    side = np.exp(rng.normal(np.log(0.072 * size), 1.26, count)).clip(3, 0.95 * size)
    ratio = np.exp(rng.normal(0, 0.4, count))
    sides = np.stack((side / np.sqrt(ratio), side * np.sqrt(ratio)), axis=1).clip(2, size)
    low = rng.uniform(0, 1, (count, 2)) * (size - sides)
    return Annotations(np.concatenate((low, low + sides), axis=1), rng.integers(0, 90, count))


@njit(nogil=True, cache=False)
def dense_loop(anchors, boxes, labels, state, label, box, owner):
    """The straightforward numba encoder: every anchor against every object."""
    for a in range(anchors.shape[0]):
        best, index = np.float32(0), -1
        area = (anchors[a, 2] - anchors[a, 0]) * (anchors[a, 3] - anchors[a, 1])
        for k in range(boxes.shape[0]):
            height = min(anchors[a, 2], boxes[k, 2]) - max(anchors[a, 0], boxes[k, 0])
            width = min(anchors[a, 3], boxes[k, 3]) - max(anchors[a, 1], boxes[k, 1])
            if height > 0 and width > 0:
                shared = height * width
                other = (boxes[k, 2] - boxes[k, 0]) * (boxes[k, 3] - boxes[k, 1])
                overlap = shared / (area + other - shared)
                if overlap > best:
                    best, index = overlap, k
        state[a] = 1 if best >= np.float32(0.5) else (-1 if best >= np.float32(0.4) else 0)
        owner[a] = index if state[a] == 1 else -1
        label[a] = labels[index] if state[a] == 1 else -1
        for edge in range(4):
            box[a, edge] = 0
        if state[a] == 1:
            height, width = anchors[a, 2] - anchors[a, 0], anchors[a, 3] - anchors[a, 1]
            tall, wide = boxes[index, 2] - boxes[index, 0], boxes[index, 3] - boxes[index, 1]
            box[a, 0] = (boxes[index, 0] + tall / 2 - anchors[a, 0] - height / 2) / height
            box[a, 1] = (boxes[index, 1] + wide / 2 - anchors[a, 1] - width / 2) / width
            box[a, 2], box[a, 3] = np.log(tall / height), np.log(wide / width)


def numpy_matrix(anchors, boxes, labels):
    """The usual vectorised encoder: an anchors x objects matrix."""
    low = np.maximum(anchors[:, None, :2], boxes[None, :, :2])
    high = np.minimum(anchors[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    area = np.prod(anchors[:, 2:] - anchors[:, :2], axis=-1)
    other = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    iou = shared / (area[:, None] + other[None] - shared)
    owner, best = iou.argmax(axis=1), iou.max(axis=1)
    state = np.where(best >= 0.5, 1, np.where(best >= 0.4, -1, 0)).astype(np.int8)
    side, matched = anchors[:, 2:] - anchors[:, :2], boxes[owner]
    size = matched[:, 2:] - matched[:, :2]
    shift = (matched[:, :2] + size / 2 - anchors[:, :2] - side / 2) / side
    box = np.concatenate((shift, np.log(size / side)), axis=1)
    return state, np.where(state == 1, labels[owner], -1), box * (state == 1)[:, None], owner


def keras_hub_encoder(size):
    try:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        from keras_hub.src.layers.modeling.anchor_generator import AnchorGenerator
        from keras_hub.src.models.retinanet.retinanet_label_encoder import RetinaNetLabelEncoder
    except ImportError:
        return None
    anchors = AnchorGenerator("yxyx", 3, 7, 3, [0.5, 1, 2], 4.0)
    encoder = RetinaNetLabelEncoder(anchors, bounding_box_format="yxyx")
    images = tf.zeros((BATCH, size, size, 3))
    compiled = tf.function(lambda boxes, labels: encoder(images, boxes, labels))

    def encode(batch):
        boxes = tf.constant(np.stack([one.boxes for one in batch]))
        labels = tf.constant(np.stack([one.labels for one in batch]).astype(np.float32))
        return lambda: compiled(boxes, labels)[0].numpy()

    return encode


def effdet_seconds(size, counts):
    """Return effdet's time an image for each count, None without it.

    In a process of its own: torch and TensorFlow do not always get on in one.
    """
    if find_spec("effdet") is None:
        return None
    command = [sys.executable, __file__, "--effdet", json.dumps([size, counts])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def effdet_worker(size, counts):
    import torch
    from effdet.anchors import AnchorLabeler, Anchors

    torch.set_num_threads(1)
    ratios = [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)]
    labeler = AnchorLabeler(Anchors(3, 7, 3, ratios, 4.0, (size, size)), 90, match_threshold=0.5)
    rng, times = np.random.default_rng(size), []
    for count in counts:
        batch = [objects(rng, count, size) for _ in range(BATCH)]
        boxes = [torch.from_numpy(one.boxes.copy()) for one in batch]
        labels = [torch.from_numpy(one.labels.astype(np.float32) + 1) for one in batch]
        job = partial(labeler.batch_label_anchors, boxes, labels)
        times.append(seconds(job) / BATCH)
    print(json.dumps(times))


def measure(name, size, counts, *, peers):
    rng = np.random.default_rng(size)
    encoder = preset("ytrue", size, 90)
    anchors, lattice, rules = encoder.grid.boxes, encoder.grid.lattice, encoder._rules
    hub = keras_hub_encoder(size) if peers else None
    effdet = effdet_seconds(size, counts) if peers else None
    rows = []
    for position, count in enumerate(counts):
        batch = [objects(rng, count, size) for _ in range(BATCH)]
        targets = Targets(**new_targets(encoder.spec, BATCH))
        packed = objects_of(batch, encoder.image_size, "float32", crowd_masks=True)
        record = _new_record(len(packed.boxes), packed.boxes.dtype)

        def fill(targets=targets):
            for array, value in zip(targets, (0, -1, 0, -1), strict=True):
                array.fill(value)

        def kernel(targets=targets, packed=packed, record=record):
            match_images(0, BATCH, anchors, lattice, rules, packed, targets, record)

        filling, encoding = seconds(fill) / BATCH, seconds(kernel) / BATCH
        one = batch[0]
        api = seconds(lambda one=one: encoder.encode(one))
        row = [name, count, f"{filling * 1e6:.0f}", f"{encoding * 1e6:.0f}", f"{encoding / filling:.2f}",
               f"{api * 1e6:.0f}"]  # fmt: skip
        if peers:
            out = [array[0] for array in targets]
            dense = seconds(
                lambda one=one, out=out: dense_loop(anchors, one.boxes, one.labels, *out)
            )
            matrix = seconds(lambda one=one: numpy_matrix(anchors, one.boxes, one.labels))
            row += [f"{dense / encoding:.0f}", f"{matrix / encoding:.0f}"]
            row.append(f"{seconds(hub(batch)) / BATCH / encoding:.0f}" if hub else "-")
            row.append(f"{effdet[position] / encoding:.0f}" if effdet else "-")
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="D0 only")
    parser.add_argument("--effdet", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.effdet:
        effdet_worker(*json.loads(options.effdet))
        return
    print(machine("numpy", "numba"))
    print(
        f"\nOne thread; microseconds an image in batches of {BATCH}; `encode`: one call for one image; "
        "ours is the kernel.\n"
    )
    head = ["size", "objects", "fill the arrays", "ytrue kernel", "kernel / fill", "`encode`"]
    rows = measure("D0", 512, COUNTS, peers=True)
    peers = [f"{name} / ours" for name in ("dense loop", "NumPy matrix", "keras-hub", "effdet")]
    print(table([*head, *peers], rows))
    if not options.quick:
        rows = [
            row
            for name, size in SIZES.items()
            if name != "D0"
            for row in measure(name, size, COUNTS, peers=False)
        ]
        print("\n" + table(head, rows))
    grid = AnchorGrid(512)
    lattice, boxes = grid.lattice, np.empty((len(grid), 4), np.float32)
    filling = seconds(lambda: boxes.fill(0))
    bits = [x.view(np.uint32) for x in (lattice.y_edges, lattice.x_edges, boxes.reshape(-1))]
    making = seconds(lambda: fill_boxes(lattice.levels, *bits))
    whole = seconds(lambda: AnchorGrid(512).boxes)
    print(
        f"\nAnchors of D0: {making * 1e6:.0f} us, {making / filling:.1f} times filling their array "
        f"({filling * 1e6:.0f} us); a new AnchorGrid with its boxes {whole * 1e6:.0f} us."
    )


if __name__ == "__main__":
    main()
