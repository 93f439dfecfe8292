"""Encoding 100,000 objects of one image, in the worst places for them.

Every encoder, on a network input of 512 x 512. Time must grow with the objects, not with the square of
them, so each is compared with a tenth of the objects.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from timing import machine, table

from ytrue import Annotations
from ytrue.encoders import (
    PRESETS,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    preset,
)

SIZE = 512


def corners(rng, kind, count):
    """Return low corners and sides (N, 2) of objects, pixels."""
    spot, sides = rng.uniform(100, 140, (count, 2)), rng.uniform(4, 30, (count, 2))
    if kind == "spread":
        return rng.uniform(0, SIZE - 30, (count, 2)), sides
    if kind == "equal":
        return np.full((count, 2), 100.0), np.full((count, 2), (14.0, 12.0))
    if kind == "one cell":
        return rng.uniform(96, 104, (count, 2)) - sides / 2, sides
    if kind == "frame":
        return np.zeros((count, 2)), SIZE - rng.uniform(0, 0.01, (count, 2))
    return spot, sides


def objects(rng, kind, count):
    low, sides = corners(rng, kind, count)
    high = low + sides
    outline = np.stack(
        (low, np.stack((low[:, 0], high[:, 1]), 1), high, np.stack((high[:, 0], low[:, 1]), 1)), 1
    ).astype(np.float32)
    points = np.concatenate(((low + high) / 2, np.full((count, 1), 2)), 1)[:, None]
    return Annotations(
        np.hstack((low, high)), rng.integers(0, 3, count), keypoints=points,
        polygons=[(ring,) for ring in outline],
    )  # fmt: skip


def encoders():
    boxes = preset("ytrue", SIZE, 3)
    anchors = [[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)]]
    yolo = YoloEncoder(SIZE, anchors, stride=(8, 16), num_classes=3)
    grid = KeypointGridEncoder(SIZE, (64, 64), num_classes=1, points_per_cell=2)
    return {name: preset(name, SIZE, 3) for name in sorted(PRESETS)} | {
        "fcos": FCOSEncoder(SIZE, 3),
        "centernet": CenterNetEncoder(SIZE, 3),
        "yolo": yolo,
        "polygon": PolygonEncoder(yolo),
        "mask": MaskEncoder(boxes),
        "keypoints": grid,
        "pose": PoseEncoder(boxes, grid),
    }


def seconds_of(encoder, one):
    """Return the CPU's time, without that of other processes, and the positives of the target."""
    start = time.process_time()
    target = encoder.encode(one)
    taken = time.process_time() - start
    states = [target[name] for name in target if name.endswith("state")]
    return taken, sum(int((state == 1).sum()) for state in states)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--only", help="one encoder")
    options = parser.parse_args()
    kinds = ("spread", "40 x 40 px", "equal", "one cell", "frame")
    few, many = options.count // 10, options.count
    rows, positives = [], []
    for name, encoder in encoders().items():
        if options.only not in (None, name):
            continue
        encoder.encode(objects(np.random.default_rng(0), "spread", 2000))  # compiles
        row, positive = [name], [name]
        for kind in kinds:
            rng = np.random.default_rng(1)
            (a, _), (b, count) = (seconds_of(encoder, objects(rng, kind, n)) for n in (few, many))
            row.append(f"{b:.2f} s ({b / a:.0f})")
            positive.append(count)
        rows.append(row)
        positives.append(positive)
    print(machine("numpy", "numba"))
    print(
        f"\n{many} objects in one image; seconds of CPU, in brackets: as often the time of {few}.\n"
    )
    print(table(["encoder", *kinds], rows))
    print("\nPositives in the target, of all its states: anchors, cells, keypoints and masks.\n")
    print(table(["encoder", *kinds], positives))


if __name__ == "__main__":
    main()
