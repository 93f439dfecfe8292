"""ATSS and the centre prior against the physical limit and against NumPy, in one run.

    python benchmarks/atss.py

64 images of 1 to 100 objects of COCO's sizes at 512. "atss" is the preset (one anchor a cell, 5,456 in
all), "atss, 9 a cell" the same rule on EfficientDet-D0's 49,104 anchors. Times are the least of many
interleaved rounds, on one thread. The NumPy encoder fills the anchors x objects matrices of IoU and of
distances and sorts the latter, as the peers do in PyTorch; its states and owners equal ours (checked on
every run).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from encode import objects
from timing import filler, in_turn, machine, table

from ytrue.encoders import AnchorGrid, preset
from ytrue.encoders.anchor import AnchorEncoder, _new_record
from ytrue.encoders.batches import new_targets, objects_of
from ytrue.encoders.kernels.matching import match_images
from ytrue.encoders.kernels.objects import Targets

BATCH, SIZE, CLASSES = 64, 512, 90
ROUNDS = 40
OBJECTS = (1, 7, 30, 100)
ENCODERS = {
    "atss": preset("atss", SIZE, CLASSES),
    "atss, 9 a cell": AnchorEncoder(AnchorGrid(SIZE), CLASSES, matcher="atss", force="none"),
    "center_prior": preset("center_prior", SIZE, CLASSES),
}


def numpy_atss(encoder, annotations):
    """Return state and owner as one would have them with NumPy, without crowds and padding."""
    grid, boxes, k = encoder.grid, annotations.boxes, encoder.top_k
    low = np.maximum(grid.boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(grid.boxes[:, None, 2:], boxes[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    area, other = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (grid.boxes, boxes))
    iou = shared / (area[:, None] + other - shared)  # (A, N)
    wide = boxes.astype(np.float64)
    middle = wide[:, :2] + 0.5 * (wide[:, 2:] - wide[:, :2])
    candidates, inside = [], []
    for first, (rows, columns), (sy, sx), shapes in zip(
        grid.level_offsets, grid.cells, grid.strides, grid.anchor_shapes, strict=False
    ):
        y = np.repeat((np.arange(rows) + grid.cell_offset) * sy, columns)[:, None]
        x = np.tile((np.arange(columns) + grid.cell_offset) * sx, rows)[:, None]
        distance = (y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2  # (cells, N)
        near = np.sort(np.argsort(distance, axis=0, kind="stable")[:k], axis=0)
        within = (y > wide[:, 0]) & (y < wide[:, 2]) & (x > wide[:, 1]) & (x < wide[:, 3])
        slots = len(shapes)
        candidates.append(
            (first + near[:, None] * slots + np.arange(slots)[:, None]).reshape(-1, len(boxes))
        )
        inside.append(np.repeat(np.take_along_axis(within, near, axis=0), slots, axis=0))
    rows, centred = np.concatenate(candidates), np.concatenate(inside)
    overlaps = np.take_along_axis(iou, rows, axis=0)
    precise = overlaps.astype(np.float64)
    passes = centred & (precise >= precise.mean(axis=0) + precise.std(axis=0, ddof=1))
    asked = np.full(iou.shape, -1, np.float32)
    column = np.broadcast_to(np.arange(len(boxes)), rows.shape)
    asked[rows[passes], column[passes]] = overlaps[passes]
    owner = asked.argmax(axis=1)
    positive = asked.max(axis=1, initial=-1) >= 0
    return positive.astype(np.int8), np.where(positive, owner, -1)


def measure(name, encoder, count):
    rng = np.random.default_rng(0)
    batch = [objects(rng, count, SIZE) for _ in range(BATCH)]
    compared = encoder.matcher == "atss"
    few = batch[: BATCH // 16]
    for one in few if compared else ():
        ours = encoder.encode(one)
        for array, other in zip(
            (ours["state"], ours["object"]), numpy_atss(encoder, one), strict=True
        ):
            np.testing.assert_array_equal(array, other)
    targets = Targets(**new_targets(encoder.spec, BATCH))
    given = objects_of(batch, encoder.image_size, "float32", crowd_masks=True)
    record = _new_record(len(given.boxes), given.boxes.dtype)

    kernel = partial(
        match_images, 0, BATCH, encoder.grid.boxes, encoder.grid.lattice, encoder._rules, given,
        targets, record,
    )  # fmt: skip

    def with_numpy():
        for one in few if compared else ():
            numpy_atss(encoder, one)

    times = in_turn([filler(targets), kernel, with_numpy], rounds=ROUNDS).min(axis=1) * 1e6
    filling, encoding, matrix = times / (BATCH, BATCH, len(few))
    against = [f"{matrix:,.0f}", f"{matrix / encoding:,.0f}"] if compared else ["-", "-"]
    return [name, count, int(record.positives.sum() / BATCH), f"{filling:.1f}", f"{encoding:.1f}",
            f"{encoding / filling:.2f}", *against]  # fmt: skip


def main():
    print(machine("numpy", "numba"))
    print(f"\nMicroseconds an image in a batch of {BATCH} at {SIZE}, one thread.\n")
    head = ["rule", "objects", "positives", "fill the arrays", "ytrue kernel", "kernel / fill",
            "NumPy", "NumPy / ours"]  # fmt: skip
    rows = [measure(name, encoder, n) for name, encoder in ENCODERS.items() for n in OBJECTS]
    print(table(head, rows))


if __name__ == "__main__":
    main()
