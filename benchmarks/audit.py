"""Auditing a dataset of 5,000 images and 36,000 objects, which touches no image.

python benchmarks/audit.py
"""

from __future__ import annotations

import time

import numpy as np
from encode import objects
from timing import machine, table

import ytrue
from ytrue import Annotations, Example
from ytrue.encoders import preset

IMAGES, OBJECTS = 5_000, 36_000


class Listed:
    """A dataset in memory."""

    def __init__(self, rng):
        counts = rng.multinomial(OBJECTS, np.full(IMAGES, 1 / IMAGES))
        self.classes = tuple(f"class {k}" for k in range(90))
        self.annotations = [objects(rng, int(count), 480) for count in counts]

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        return Example(index, "", 480, 640, self.annotations[index])


def main():
    print(machine("numpy", "numba"))
    dataset = Listed(np.random.default_rng(0))
    encoder = preset("ytrue", (512, 512), 90)
    encoder.explain(Annotations())  # loads the compiled kernels, which is start-up
    times = []
    for _ in range(3):
        start = time.perf_counter()
        report = ytrue.audit(dataset, encoder)
        report.to_json()
        times.append(time.perf_counter() - start)
    print(
        "\n"
        + table(
            ("images", "objects", "seconds"),
            [(IMAGES, report.num_objects, f"{np.median(times):.2f}")],
        )
    )


if __name__ == "__main__":
    main()
