"""Encoding heat maps against the physical limit and against NumPy, in one run.

    python benchmarks/centernet.py

16 images of 1 to 100 objects of COCO's sizes at 512, 128 x 128 cells, 80 classes. Times are the least of
many interleaved rounds, on one thread. The NumPy encoder draws window by window, as CenterNet's own
code does; its output equals ours (checked on every run). The last table is about predictions: the
peaks of one image's logits, against a maximum over all 3 x 3 windows in NumPy.
"""

from __future__ import annotations

import numpy as np
from timing import in_turn, machine, table

from ytrue import Annotations
from ytrue.encoders import CenterNetEncoder
from ytrue.encoders.batches import new_targets, objects_of
from ytrue.encoders.centernet import _new_record
from ytrue.encoders.kernels.centernet import Targets, encode_images
from ytrue.encoders.kernels.peaks import find_peaks

SIZE, CLASSES, BATCH, ROUNDS = 512, 80, 16, 25
COUNTS = (1, 7, 30, 100)


def scene(rng, count):
    side = np.exp(rng.normal(np.log(0.15 * SIZE), 0.9, (count, 1))).clip(4, SIZE)
    sides = side * np.exp(rng.normal(0, 0.3, (count, 1)) * (1, -1))
    centre = rng.uniform(0, SIZE, (count, 2))
    return Annotations(
        np.hstack((centre - sides / 2, centre + sides / 2)), rng.integers(0, CLASSES, count)
    )


def radius_of(tall, wide, overlap, correct):
    b1, b2, b3 = tall + wide, 2 * (tall + wide), -2 * overlap * (tall + wide)
    c1 = wide * tall * (1 - overlap) / (1 + overlap)
    c2, c3 = (1 - overlap) * wide * tall, (overlap - 1) * wide * tall
    root1, root2 = np.sqrt(b1**2 - 4 * c1), np.sqrt(b2**2 - 16 * c2)
    root3 = np.sqrt(b3**2 - 16 * overlap * c3)
    if correct:
        return min((b1 - root1) / 2, (b2 - root2) / 8, (b3 + root3) / (8 * overlap))
    return min((b1 + root1) / 2, (b2 + root2) / 2, (b3 + root3) / 2)


def numpy_encode(encoder, annotations):
    """Encode as one would with NumPy: no crowds, nothing but whole boxes, the larger one last."""
    height, width = encoder.image_size
    rows, columns = encoder.cells.grid[0]
    target = {name: np.zeros(shape, dtype) for name, (shape, dtype) in encoder.spec.items()}
    target["label"][:] = target["object"][:] = -1
    boxes = np.clip(annotations.boxes, 0, np.float32([height, width, height, width]))
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(float) * (rows / height, columns / width)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 * np.float32([rows / height, columns / width])
    cell = np.minimum(np.floor(centre), (rows - 1, columns - 1)).astype(int)
    for k in np.argsort(sides.prod(axis=1), kind="stable"):
        (row, column), label = cell[k], annotations.labels[k]
        r = max(
            0,
            int(radius_of(*np.ceil(sides[k]), encoder.min_overlap, encoder.radius == "correct")),
        )
        y, x = np.ogrid[-r : r + 1, -r : r + 1]
        gaussian = np.exp(-(x * x + y * y) / (2 * ((2 * r + 1) / 6) ** 2)).astype(np.float32)
        top, left = max(row - r, 0), max(column - r, 0)
        window = target["heatmap"][top : row + r + 1, left : column + r + 1, label]
        part = gaussian[top - row + r :, left - column + r :][: window.shape[0], : window.shape[1]]
        np.maximum(window, part, out=window)
        target["state"][row, column], target["label"][row, column] = 1, label
        target["size"][row, column], target["object"][row, column] = sides[k], k
        target["offset"][row, column] = centre[k] - cell[k]
    return target


def check(encoder, batch):
    for one in batch:
        ours = encoder.encode(one)
        for name, array in numpy_encode(encoder, one).items():
            np.testing.assert_allclose(ours[name], array, rtol=1e-6, err_msg=name)


def measure(count, radius):
    rng = np.random.default_rng(0)
    batch = [scene(rng, count) for _ in range(BATCH)]
    encoder = CenterNetEncoder(SIZE, CLASSES, radius=radius)
    check(encoder, batch)
    arrays = new_targets(encoder.spec, BATCH)
    targets = Targets(
        **{name: a.reshape(BATCH, len(encoder.cells), *a.shape[3:]) for name, a in arrays.items()}
    )
    given = objects_of(batch, encoder.image_size, "float32", crowd_masks=True)
    record, rules = _new_record(len(given.boxes)), encoder._rules
    cells, centres = encoder.cells.cells, encoder.cells.centres

    def fill():
        for image in range(BATCH):  # one after the other, as the kernel writes them
            for array, byte in zip(targets, (0, 255, 0, 0, 0, 255), strict=True):
                array[image].view(np.uint8).fill(byte)  # the fastest: memset

    def kernel():
        encode_images(0, BATCH, cells, centres, rules, given, targets, record)

    def with_numpy():
        for one in batch:
            numpy_encode(encoder, one)

    times = in_turn([fill, kernel, with_numpy], rounds=ROUNDS).min(axis=1)
    filling, encoding, plain = times * 1e6 / BATCH
    return [count, f"{filling:.0f}", f"{encoding:.0f}", f"{encoding / filling:.2f}",
            f"{plain:.0f}", f"{plain / encoding:.1f}"]  # fmt: skip


def numpy_peaks(logits, lowest):
    padded = np.pad(logits, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns, _ = logits.shape
    highest = np.maximum.reduce(
        [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    )
    return np.nonzero((logits == highest) & (logits >= lowest))


def measure_peaks():
    rng = np.random.default_rng(0)
    side = SIZE // 4
    logits = rng.normal(-6, 1.2, (side, side, CLASSES)).astype(np.float32)
    lowest = np.float32(np.log(0.05 / 0.95))
    cells, labels = (np.empty(logits.size // 4, np.int64) for _ in range(2))
    best = np.empty(logits.size // 4, np.float32)
    rows, columns, classes = numpy_peaks(logits, lowest)
    count = find_peaks(logits, lowest, cells, labels, best)
    np.testing.assert_array_equal(cells[:count], rows * side + columns)
    np.testing.assert_array_equal(labels[:count], classes)
    calls = [
        logits.max,
        lambda: find_peaks(logits, lowest, cells, labels, best),
        lambda: numpy_peaks(logits, lowest),
    ]
    reading, ours, plain = in_turn(calls, rounds=ROUNDS).min(axis=1) * 1e6
    return [f"{count:,}", f"{reading:.0f}", f"{ours:.0f}", f"{plain:.0f}", f"{plain / ours:.0f}"]


def main():
    print(machine("numpy", "numba"))
    size = sum(a.nbytes for a in CenterNetEncoder(SIZE, CLASSES).encode(Annotations()).values())
    print(f"\nMicroseconds an image of {size / 1e6:.1f} MB, in a batch of {BATCH}, one thread.\n")
    head = ["objects", "fill the arrays", "ytrue kernel", "kernel / fill", "NumPy", "NumPy / ours"]
    for radius in ("correct", "published"):
        print(f'radius="{radius}"\n')
        print(table(head, [measure(count, radius) for count in COUNTS]), "\n")
    print("Microseconds an image of logits.\n")
    head = ["peaks", "their maximum (read once)", "ytrue kernel", "NumPy", "NumPy / ours"]
    print(table(head, [measure_peaks()]))


if __name__ == "__main__":
    main()
