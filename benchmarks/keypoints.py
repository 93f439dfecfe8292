"""Encoding keypoints in cells against the physical limit and against NumPy, in one run.

    python benchmarks/keypoints.py

64 images of 20 people with 17 keypoints, 85 % of them labelled, at 512. Times are the least of many
interleaved rounds, on one thread unless said otherwise. The NumPy encoder sorts once for each grid and
has no loop over points; its output equals ours (checked on every run).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from timing import in_turn, machine, table

from ytrue import Annotations
from ytrue.encoders import KeypointGridEncoder
from ytrue.encoders.kernels.keypoints import encode_images
from ytrue.encoders.keypoints import _new_record

BATCH, PEOPLE, LANDMARKS, SIZE = 64, 20, 17, 512
ROUNDS = 15
LAYOUTS = {
    "stride 8, 1 point": {"stride": 8},
    "stride 8, 4 points": {"stride": 8, "points_per_cell": 4},
    "stride 16, fixed": {"stride": 16, "points_per_cell": LANDMARKS, "slots": "fixed"},
    "stride 8, fixed, one class": {
        "stride": 8, "points_per_cell": LANDMARKS, "slots": "fixed", "classes": "object",
        "num_classes": 1,
    },
    "strides 8, 16, 32, 2 points": {"stride": (8, 16, 32), "points_per_cell": 2},
    "global, 340 points": {"grid": "global", "points_per_cell": 340},
}  # fmt: skip


def people(rng):
    """People of COCO's sizes: points spread around a centre by a sixth of the person's height."""
    side = np.exp(rng.normal(np.log(0.2 * SIZE), 0.8, (PEOPLE, 1, 1))).clip(8, SIZE)
    centre = rng.uniform(0, SIZE, (PEOPLE, 1, 2))
    points = centre + rng.normal(0, 1, (PEOPLE, LANDMARKS, 2)) * side / 6 * (1.0, 0.5)
    visibility = rng.choice(3, (PEOPLE, LANDMARKS, 1), p=(0.15, 0.2, 0.65))
    keypoints = np.concatenate((points, visibility), axis=2)
    return Annotations(np.zeros((PEOPLE, 4)), np.zeros(PEOPLE), keypoints=keypoints)


def numpy_encode(encoder, annotations):
    """Encode as one would with NumPy: one sort, no loop over points; slots "any" or "fixed"."""
    P, C = encoder.points_per_cell, encoder.num_classes
    cells = sum(rows * columns for rows, columns in encoder.grid)
    state, owner = np.zeros((cells, P), np.int8), np.full((cells, P), -1, np.int32)
    offset, one_hot = np.zeros((cells, P, 2), np.float32), np.zeros((cells, P, C), np.float32)
    keypoints = annotations.keypoints
    n, count, _ = keypoints.shape
    flat = keypoints.reshape(-1, 3)
    landmark = np.tile(np.arange(count), n)
    inside = (flat[:, :2] >= 0).all(1) & (flat[:, :2] <= encoder.image_size).all(1)
    chosen = np.flatnonzero((flat[:, 2] > 0) & np.isfinite(flat).all(1) & inside)
    yx, landmark = flat[chosen, :2], landmark[chosen]
    label = (
        landmark if encoder.classes == "landmark" else np.repeat(annotations.labels, count)[chosen]
    )
    first = 0
    for counts in encoder.grid:
        sides = np.float32(encoder.image_size)
        place = np.minimum(yx * np.float32(counts) / sides, np.float32(counts))
        corner = np.minimum(np.floor(place), np.float32(counts) - 1)
        dydx = place - corner
        cell = first + (corner[:, 0] * counts[1] + corner[:, 1]).astype(np.int64)
        cost = ((dydx - np.float32(0.5)) ** 2).sum(axis=1) + (flat[chosen, 2] < 2)
        fixed = encoder.slots == "fixed"
        key, room = (cell * P + landmark, 1) if fixed else (cell, P)
        order = np.lexsort((yx[:, 1], yx[:, 0], label, cost, key))
        ordered = key[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        kept = order[rank < room]
        if not fixed:
            kept = kept[np.lexsort((yx[kept, 1], yx[kept, 0], label[kept], key[kept]))]
            ordered = key[kept]
            slot = np.arange(len(kept)) - np.searchsorted(ordered, ordered)
        else:
            slot = landmark[kept]
        at = cell[kept], slot
        state[at] = 1
        offset[at] = dydx[kept]
        one_hot[(*at, label[kept])] = 1
        owner[at] = chosen[kept] // count
        first += counts[0] * counts[1]
    return state, offset, one_hot, owner


def measure(name, options):
    rng = np.random.default_rng(0)
    batch = [people(rng) for _ in range(BATCH)]
    encoder = KeypointGridEncoder(SIZE, **({"num_classes": LANDMARKS} | options))
    targets = encoder._new_targets(BATCH)
    points = encoder._points(batch)
    record = _new_record(len(points.yxv), len(encoder.grid))
    cells, rules = encoder.cells.cells, encoder._rules
    for array, ours in zip(
        numpy_encode(encoder, batch[0]), encoder.encode(batch[0]).values(), strict=True
    ):
        np.testing.assert_array_equal(array, ours.reshape(array.shape))

    def fill(arrays=targets):
        for array, value in zip(arrays, (0, 0, 0, -1), strict=True):
            array.fill(value)

    def fill_new():
        fill(encoder._new_targets(BATCH))

    kernel = partial(encode_images, 0, BATCH, cells, rules, points, record, targets)

    def with_numpy():
        for one in batch:
            numpy_encode(encoder, one)

    calls = (fill, kernel, with_numpy, fill_new, partial(encoder.encode_batch, batch))
    least = in_turn(calls, rounds=ROUNDS).min(axis=1)
    filling, encoding, matrix, new, api = least * 1e6 / BATCH
    size = sum(array.nbytes for array in targets) / BATCH / 1e3
    return [name, f"{size:,.0f}", f"{filling:.0f}", f"{encoding:.0f}", f"{encoding / filling:.2f}",
            f"{encoding - filling:.0f}", f"{matrix / encoding:.1f}", f"{new:.0f}", f"{api:.0f}"]  # fmt: skip


def main():
    print(machine("numpy", "numba"))
    print(
        f"\nMicroseconds an image in a batch of {BATCH} x {PEOPLE} people x {LANDMARKS} points. "
        "`encode_batch`\nis the whole call, on all cores: beside the kernel's work it asks for new "
        "arrays, whose pages the\nsystem hands out one by one, as `fill new arrays` does on one thread.\n"
    )
    head = ["layout", "kB", "fill the arrays", "ytrue kernel", "kernel / fill", "difference",
            "NumPy / ours", "fill new arrays", "`encode_batch`"]  # fmt: skip
    print(table(head, [measure(name, options) for name, options in LAYOUTS.items()]))


if __name__ == "__main__":
    main()
