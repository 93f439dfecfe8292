"""Encoding boxes in cells against the physical limit and against NumPy, in one run.

    python benchmarks/yolo.py

64 images of 20 objects of COCO's sizes at 512. Times are the least of many interleaved rounds, on one
thread. The NumPy encoder loops over objects and fills the anchors x objects matrix of IoUs that the
ignore rule needs; its output equals ours (checked on every run).
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from timing import machine, table

from ytrue import Annotations
from ytrue.encoders import YoloEncoder
from ytrue.encoders.batches import new_targets, objects_of
from ytrue.encoders.kernels.objects import Targets
from ytrue.encoders.kernels.yolo import encode_images
from ytrue.encoders.yolo import _new_record

BATCH, OBJECTS, SIZE, CLASSES = 64, 20, 512, 80
ROUNDS = 15
V3 = [
    [(13, 10), (30, 16), (23, 33)],
    [(61, 30), (45, 62), (119, 59)],
    [(90, 116), (198, 156), (326, 373)],
]
FLAT = [sides for level in V3 for sides in level]
LAYOUTS = {
    "strides 8, 16, 32": (V3, {"stride": (8, 16, 32)}),
    "the same, no ignore": (V3, {"stride": (8, 16, 32), "ignore_iou": 1}),
    "the same, ratio, 2 neighbours": (
        V3, {"stride": (8, 16, 32), "match": "ratio", "neighbours": 2},
    ),
    "stride 4, 9 anchors": (FLAT, {"stride": 4}),
    "stride 32, 9 anchors": (FLAT, {"stride": 32}),
}  # fmt: skip


def scene(rng, count=OBJECTS):
    side = np.exp(rng.normal(np.log(0.15 * SIZE), 0.9, (count, 1))).clip(4, SIZE)
    sides = side * np.exp(rng.normal(0, 0.3, (count, 1)) * (1, -1))
    centre = rng.uniform(0, SIZE, (count, 2))
    return Annotations(
        np.hstack((centre - sides / 2, centre + sides / 2)), rng.integers(0, CLASSES, count)
    )


def numpy_encode(encoder, annotations):
    """Encode as one would with NumPy: `match="best"`, no neighbours, no crowds."""
    anchors, size = encoder.boxes, np.float32(encoder.image_size)
    boxes = np.clip(annotations.boxes, 0, np.tile(size, 2))
    order = np.lexsort((*boxes.T[::-1], -(boxes[:, 2:] - boxes[:, :2]).astype(float).prod(axis=1)))
    sides = np.array(encoder.anchors)
    levels, per_cell, _ = sides.shape
    height, width = (boxes[:, 2:].astype(float) - boxes[:, :2]).T[..., None]
    tall, wide = sides.reshape(-1, 2).T
    shared = np.minimum(height, tall) * np.minimum(width, wide)
    fit = shared / (height * width + tall * wide - shared)  # (N, L * A)
    centre = boxes[:, :2] * np.float32(0.5) + boxes[:, 2:] * np.float32(0.5)
    places, offsets = np.empty(fit.shape, int), np.empty((len(boxes), levels, 2), np.float32)
    for level, counts in enumerate(np.float32(encoder.grid)):
        cell = np.minimum(np.floor(centre * counts / size), counts - 1)
        offsets[:, level] = centre * counts / size - cell
        row, column = cell.astype(int).T
        first = (encoder.cells.offsets[level] + row * int(counts[1]) + column) * per_cell
        places[:, level * per_cell : (level + 1) * per_cell] = first[:, None] + range(per_cell)
    owner, found = np.full(len(anchors), -1, np.int32), np.full(len(boxes), -1)
    for k in order:  # first choices, then losers
        shape = fit[k].argmax()
        if owner[places[k, shape]] < 0:
            owner[places[k, shape]], found[k] = k, shape
    for k in order[found[order] < 0]:
        free = np.flatnonzero(owner[places[k]] < 0)
        if free.size:
            shape = free[fit[k, free].argmax()]
            owner[places[k, shape]], found[k] = k, shape
    state, label = np.zeros(len(anchors), np.int8), np.full(len(anchors), -1, np.int32)
    if encoder.ignore_iou < 1:
        low = np.maximum(boxes[:, None, :2], anchors[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], anchors[None, :, 2:])
        shared = (high - low).clip(0).prod(axis=-1)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        own = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
        iou = shared / (own + area[:, None] - shared)
        state[(iou > np.float32(encoder.ignore_iou)).any(axis=0)] = -1
    box = np.zeros((len(anchors), 4), np.float32)
    k = np.flatnonzero(found >= 0)
    at = places[k, found[k]]
    state[at], label[at] = 1, annotations.labels[k]
    box[at, :2] = offsets[k, found[k] // per_cell]
    box[at, 2] = np.log(height[k, 0] / tall[found[k]])
    box[at, 3] = np.log(width[k, 0] / wide[found[k]])
    return {"state": state, "label": label, "box": box, "object": owner}


def least(calls):
    """Return the least time of each call over rounds that take them in turn."""
    times = np.full(len(calls), np.inf)
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call()
            times[k] = min(times[k], time.perf_counter() - start)
    return times


def check(encoder, annotations):
    ours = encoder.encode(annotations)
    for name, array in numpy_encode(encoder, annotations).items():
        np.testing.assert_allclose(ours[name].reshape(array.shape), array, rtol=1e-6, err_msg=name)


def measure(name, anchors, options):
    rng = np.random.default_rng(0)
    batch = [scene(rng) for _ in range(BATCH)]
    encoder = YoloEncoder(SIZE, anchors, num_classes=CLASSES, **options)
    plain = encoder.match == "best" and not encoder.neighbours
    if plain:
        check(encoder, batch[0])
    arrays = new_targets(encoder.spec, BATCH)
    places = len(encoder.boxes)
    targets = Targets(
        **{
            key: a.reshape(BATCH, places, *((4,) if key == "box" else ()))
            for key, a in arrays.items()
        }
    )
    given = objects_of(batch, encoder.image_size, "float32", crowd_masks=True)
    record = _new_record(len(given.boxes), len(encoder.grid))
    cells, sides, boxes = encoder.cells.cells, encoder._sides, encoder.boxes
    lattice, rules = encoder._lattice, encoder._rules

    def fill():
        # Image by image, as the kernel writes them.
        for image in range(BATCH):
            for array, value in zip(targets, (0, -1, 0, -1), strict=True):
                array[image].fill(value)

    kernel = partial(
        encode_images, 0, BATCH, cells, sides, boxes, lattice, rules, given, targets, record
    )

    def with_numpy():
        for one in batch[:4]:
            numpy_encode(encoder, one)

    calls = [fill, kernel, with_numpy] if plain else [fill, kernel]
    filling, encoding, *matrix = least(calls) * 1e6 / BATCH
    size = sum(array.nbytes for array in targets) / BATCH / 1e3
    slower = f"{matrix[0] * BATCH / 4 / encoding:.0f}" if plain else ""
    return [name, f"{places:,}", f"{size:,.0f}", f"{filling:.0f}", f"{encoding:.0f}",
            f"{encoding / filling:.2f}", f"{encoding - filling:.0f}", slower]  # fmt: skip


def main():
    print(machine("numpy", "numba"))
    print(f"\nMicroseconds an image in a batch of {BATCH} x {OBJECTS} objects, one thread.\n")
    head = ["layout", "places", "kB", "fill the arrays", "ytrue kernel", "kernel / fill",
            "difference", "NumPy / ours"]  # fmt: skip
    print(table(head, [measure(name, *layout) for name, layout in LAYOUTS.items()]))


if __name__ == "__main__":
    main()
