"""Encoding points in boxes against the physical limit and against NumPy, in one run.

    python benchmarks/fcos.py

64 images of 1 to 100 objects of COCO's sizes at 512, five levels. Times are the least of many
interleaved rounds, on one thread. The NumPy encoder fills the objects x points matrices of distances,
as the peers do in PyTorch; its output equals ours to the last bit (checked on every run).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from timing import filler, in_turn, machine, table

from ytrue import Annotations
from ytrue.encoders import FCOSEncoder
from ytrue.encoders.batches import new_targets, objects_of
from ytrue.encoders.fcos import _new_record
from ytrue.encoders.kernels.fcos import Targets, encode_images

BATCH, SIZE, CLASSES = 64, 512, 80
ROUNDS = 40
OBJECTS = (1, 7, 30, 100)
RADII = {"centre sampling 1.5": 1.5, "whole boxes": None}


def scene(rng, count):
    side = np.exp(rng.normal(np.log(0.15 * SIZE), 0.9, (count, 1))).clip(4, SIZE)
    sides = side * np.exp(rng.normal(0, 0.3, (count, 1)) * (1, -1))
    centre = rng.uniform(0, SIZE, (count, 2))
    return Annotations(
        np.hstack((centre - sides / 2, centre + sides / 2)), rng.integers(0, CLASSES, count)
    )


def numpy_encode(encoder, annotations):
    """Encode as one would with NumPy, without crowds and padding."""
    (y, x), stride = encoder.points.T, encoder.point_stride
    bounds, level = (
        np.float32([0, *encoder.ranges, np.inf]),
        np.searchsorted(encoder.stride, stride),
    )
    boxes = np.clip(annotations.boxes, 0, np.float32(encoder.image_size * 2))
    y_min, x_min, y_max, x_max = boxes.T[..., None]  # (N, 1)
    distances = np.stack((y - y_min, x - x_min, y_max - y, x_max - x))  # (4, N, P)
    far = distances.max(axis=0)
    asked = (distances.min(axis=0) > 0) & (far > bounds[level]) & (far <= bounds[level + 1])
    if encoder.center_radius is not None:
        half, reach = np.float32(0.5), np.float32(encoder.center_radius) * stride
        asked &= abs(y - (y_min * half + y_max * half)) < reach
        asked &= abs(x - (x_min * half + x_max * half)) < reach
    area = (y_max - y_min) * (x_max - x_min)
    owner = np.where(asked, area, np.float32(np.inf)).argmin(axis=0)
    held = asked.any(axis=0)
    top, left, bottom, right = tlbr = distances[:, owner, np.arange(len(y))]
    with np.errstate(divide="ignore", invalid="ignore"):
        across = np.minimum(left, right) / np.maximum(left, right)
        central = np.sqrt(across * (np.minimum(top, bottom) / np.maximum(top, bottom)))
    return {
        "state": held.astype(np.int8),
        "label": np.where(held, annotations.labels[owner], -1).astype(np.int32),
        "box": np.where(held[:, None], (tlbr / stride).T, np.float32(0)),
        "centerness": np.where(held, central, np.float32(0)),
        "object": np.where(held, owner, -1).astype(np.int32),
    }


def check(encoder, annotations):
    ours = encoder.encode(annotations)
    for name, array in numpy_encode(encoder, annotations).items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def measure(name, radius, count):
    rng = np.random.default_rng(0)
    batch = [scene(rng, count) for _ in range(BATCH)]
    encoder = FCOSEncoder(SIZE, CLASSES, center_radius=radius)
    for one in batch:
        check(encoder, one)
    targets = Targets(**new_targets(encoder.spec, BATCH))
    given = objects_of(batch, encoder.image_size, "float32", crowd_masks=True)
    record = _new_record(len(given.boxes))

    kernel = partial(
        encode_images, 0, BATCH, encoder.cells.centres, encoder._rules, given, targets, record
    )
    shared = BATCH // 16

    def with_numpy():
        for one in batch[:shared]:
            numpy_encode(encoder, one)

    times = in_turn([filler(targets), kernel, with_numpy], rounds=ROUNDS).min(axis=1) * 1e6
    filling, encoding, matrix = times / (BATCH, BATCH, shared)
    return [name, count, int(record.positives.sum() / BATCH), f"{filling:.1f}", f"{encoding:.1f}",
            f"{encoding / filling:.2f}", f"{matrix:,.0f}", f"{matrix / encoding:,.0f}"]  # fmt: skip


def main():
    encoder = FCOSEncoder(SIZE, CLASSES)
    size = sum(array.nbytes for array in encoder.encode(Annotations()).values()) / 1e3
    print(machine("numpy", "numba"))
    print(
        f"\nMicroseconds an image in a batch of {BATCH} at {SIZE} ({len(encoder.cells):,} points, "
        f"{size:.0f} kB), one thread.\n"
    )
    head = ["rule", "objects", "positives", "fill the arrays", "ytrue kernel", "kernel / fill",
            "NumPy", "NumPy / ours"]  # fmt: skip
    rows = [measure(name, radius, n) for name, radius in RADII.items() for n in OBJECTS]
    print(table(head, rows))


if __name__ == "__main__":
    main()
