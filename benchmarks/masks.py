"""Encoding masks against the physical limit and against masks of the input's size, in one run.

    python benchmarks/masks.py [annotations.json ...]

Objects of COCO's sizes in an image of 512 with outlines of 10 to 60 vertices, prototypes of stride 4.
Times are the least of many interleaved rounds, on one thread. "whole masks" is the usual way: pycocotools
draws and decodes every mask at the input's size, NumPy counts the pixels of each cell; its masks equal
ours (checked on every run). Of datasets, how close masks on cells come to the objects: the mean IoU of
an object's mask at 512 with its cells, magnified and interpolated linearly as a detection's are.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
from polygons import scene
from timing import machine, table
from yolo import least

from ytrue.datasets import load
from ytrue.encoders import MaskEncoder, preset
from ytrue.rasters import rasterise
from ytrue.resizing import place
from ytrue.rle import RLE

BATCH, SIZE, STRIDE = 8, 512, 4


def whole_masks(batch, out):
    """Write (B, N, h, w) uint8 by way of masks of the input's size."""
    for position, one in enumerate(batch):
        for k, outline in enumerate(one.polygons):
            drawn = rasterise(outline, SIZE, SIZE)
            pixels = RLE.from_coco(drawn["size"], drawn["counts"]).decode()
            cells = pixels.reshape(SIZE // STRIDE, STRIDE, SIZE // STRIDE, STRIDE).sum((1, 3))
            out[position, k] = 2 * cells >= STRIDE * STRIDE
            if not out[position, k].any():
                out[position, k].flat[cells.argmax()] = 1


def measure(objects):
    rng = np.random.default_rng(0)
    batch = [scene(rng, objects, SIZE) for _ in range(BATCH)]
    encoder = MaskEncoder(preset("ytrue", SIZE, num_classes=1), stride=STRIDE)
    target = encoder.encode_batch(batch)
    other = np.zeros_like(target["masks"])
    whole_masks(batch, other)
    np.testing.assert_array_equal(target["masks"], other)
    runs = [encoder._runs(batch, position) for position in range(BATCH)]

    def fill():
        other.fill(0)

    def draw():
        for position in range(BATCH):
            encoder._runs(batch, position)

    def count():
        for one, masks in zip(runs, other, strict=True):
            encoder._write(one, masks)

    boxes, masks = (partial(one.encode_batch, batch) for one in (encoder.boxes, encoder))
    calls = (fill, draw, count, boxes, masks, partial(whole_masks, batch, other))
    filling, drawn, counted, boxed, together, whole = least(calls) * 1e6 / BATCH
    size = other.nbytes / BATCH
    return [str(objects), f"{size / 1e6:.2f}", f"{size * 16 * 4 / 1e6:.0f}", f"{filling:.0f}",
            f"{drawn:.0f}", f"{counted:.0f}", f"{counted / filling:.1f}", f"{boxed:.0f}",
            f"{together:.0f}", f"{whole / (drawn + counted):.1f}"]  # fmt: skip


def fidelity(path):
    dataset = load(path)
    rows = []
    for stride in (2, 4, 8, 16):
        encoder = MaskEncoder(preset("ytrue", SIZE, dataset.num_classes), stride=stride)
        ious, drawn = [], 0
        for example in dataset:
            objects = place((example.height, example.width), (SIZE, SIZE), "letterbox").apply(
                example.annotations
            )
            target = encoder.encode(objects)
            whole = MaskEncoder(encoder.boxes, stride=1).encode(objects)["masks"]
            for k in np.flatnonzero(target["mask_state"] == 1):
                cells = target["masks"][k].astype(np.float32) - 0.5
                truth = whole[k].astype(bool)
                box = target["mask_box"][k] * stride
                found = [encoder.magnified(target["masks"][k]), encoder._drawn(cells, box).decode()]
                found = [pixels.astype(bool) for pixels in found]
                ious.append([(truth & one).sum() / (truth | one).sum() for one in found])
                drawn += 1
        means = np.mean(ious, axis=0)
        rows.append([dataset.source.name, str(drawn), str(stride), *(f"{m:.3f}" for m in means)])
    return rows


def main():
    print(machine("numpy", "numba", "pycocotools"))
    print(f"\nMicroseconds an image in a batch of {BATCH}, one thread.\n")
    head = ["objects", "MB", "MB as float32 of the input's size", "fill the masks", "draw (pycocotools)",
            "count cells", "count / fill", "boxes on anchors", "all", "whole masks / ours"]  # fmt: skip
    print(table(head, [measure(count) for count in (7, 30, 100)]))
    rows = [row for path in sys.argv[1:] for row in fidelity(path)]
    if rows:
        print()
        print(table(["dataset", "masks", "stride", "cells as they are", "interpolated"], rows))


if __name__ == "__main__":
    main()
