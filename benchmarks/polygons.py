"""Encoding outlines against the physical limit and against NumPy, in one run.

    python benchmarks/polygons.py

20 objects of COCO's sizes in an image of 416, with outlines of 10 to 60 vertices. Times are the least of
many interleaved rounds, on one thread. Outlines are described once for each object ("describe") and then
written to the places it has ("write"), which is all but filling an array of 72 numbers a place. The NumPy
encoder loops over objects; its numbers equal ours (checked on every run).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from timing import machine, table
from yolo import FLAT, V3, least

from ytrue import Annotations
from ytrue.encoders import PolygonEncoder, YoloEncoder
from ytrue.encoders.batches import new_targets
from ytrue.encoders.kernels.polygons import describe, write_images

BATCH, OBJECTS, SIZE = 8, 20, 416
LAYOUTS = {
    "stride 4, 9 anchors (Poly-YOLO)": (FLAT, 4),
    "stride 8, 9 anchors": (FLAT, 8),
    "strides 8, 16, 32": (V3, (8, 16, 32)),
}


def scene(rng, objects=OBJECTS, size=SIZE):
    rings = []
    for _ in range(objects):
        side = np.exp(rng.normal(np.log(0.15 * size), 0.9)).clip(6, size / 2)
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(10, 60)))
        reach = side / 2 * rng.uniform(0.5, 1, (len(angle), 1))
        centre = rng.uniform(side / 2, size - side / 2, 2)
        rings.append(centre + reach * np.column_stack((np.sin(angle), np.cos(angle))))
    rings = [ring.astype(np.float32) for ring in rings]
    boxes = [(*ring.min(axis=0), *ring.max(axis=0)) for ring in rings]
    return Annotations(boxes, np.zeros(objects), polygons=[[ring] for ring in rings])


def numpy_describe(annotations, bins):
    """Return (N, V, 3), outlines being inside their boxes."""
    polar = np.zeros((len(annotations), bins, 3), np.float32)
    for k, (box, outline) in enumerate(
        zip(annotations.boxes.astype(float), annotations.polygons, strict=True)
    ):
        away = (box[:2] + box[2:]) / 2 - outline[0]
        distance = np.hypot(*away.T)
        place = np.arctan2(*away.T) % (2 * np.pi) * (bins / (2 * np.pi))
        chosen = place.astype(int) % bins
        order = np.lexsort((distance,))  # the farthest is written last
        polar[k, chosen[order], 0] = (distance / np.hypot(*(box[2:] - box[:2])))[order]
        polar[k, chosen[order], 1] = (place - chosen)[order]
        polar[k, chosen, 2] = 1
    return polar


def measure(name, anchors, stride):
    rng = np.random.default_rng(0)
    batch = [scene(rng) for _ in range(BATCH)]
    boxes = YoloEncoder(SIZE, anchors, stride=stride, num_classes=1)
    encoder = PolygonEncoder(boxes)
    arrays = new_targets(encoder.spec, BATCH)
    record = boxes.assign(batch, arrays)
    outlines, vertices, polar = encoder._outlines(batch)
    objects, bins = len(polar), encoder.bins
    starts = np.arange(BATCH + 1) * OBJECTS
    state, owner = (arrays[key].reshape(BATCH, -1) for key in ("state", "object"))
    polygon = arrays["polygon"].reshape(*state.shape, bins, 3)
    describing, filled = (
        partial(
            describe, 0, objects, False, points, bins, record.kind, record.box, outlines, vertices,
            polar,
        )
        for points in (False, True)
    )  # fmt: skip
    filled()
    describing()
    ours = numpy_describe(batch[0], bins)
    np.testing.assert_allclose(polar[:OBJECTS], ours, rtol=1e-5, atol=1e-5)

    def fill():
        for image in polygon:
            image.fill(0)

    def with_numpy():
        for one in batch:
            numpy_describe(one, bins)

    calls = (
        fill, describing, filled,
        partial(write_images, 0, BATCH, starts, polar, state, owner, polygon), with_numpy,
        partial(encoder._outlines, batch),
    )  # fmt: skip
    filling, described, whole, written, matrix, gathered = least(calls) * 1e6 / BATCH
    size = polygon.nbytes / BATCH / 1e6
    return [name, f"{size:.1f}", f"{filling:.0f}", f"{written:.0f}", f"{written / filling:.2f}",
            f"{described:.0f}", f"{whole:.0f}", f"{matrix / described:.0f}", f"{gathered:.0f}"]  # fmt: skip


def main():
    print(machine("numpy", "numba"))
    print(f"\nMicroseconds an image in a batch of {BATCH} x {OBJECTS} objects, one thread.\n")
    head = ["layout", "MB", "fill the array", "write", "write / fill", "describe",
            "with points of the outline", "NumPy / describe", "gather the outlines"]  # fmt: skip
    print(table(head, [measure(name, *layout) for name, layout in LAYOUTS.items()]))


if __name__ == "__main__":
    main()
