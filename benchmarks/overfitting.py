"""Do encoder, loss and decoder agree on real data? A few images learnt by heart, errors in pixels.

    python benchmarks/overfitting.py annotations.json [more.json ...]

Every image with labelled keypoints is learnt, unchanged, until a detector of keypoints knows it; the
error is the distance of every labelled point to the nearest detection of its landmark, in pixels of
the original image and of the network's input.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from ytrue.datasets import load
from ytrue.datasets.dataset import Dataset
from ytrue.encoders import KeypointGridEncoder
from ytrue.model import Recipe, train
from ytrue.model.evaluatepoints import evaluate_points
from ytrue.model.predict import images_of, predict
from ytrue.resizing import place


def with_points(dataset: Dataset) -> Dataset:
    """Return the images that have a labelled keypoint and a file."""
    kept = []
    for index in range(len(dataset)):
        example = dataset[index]
        keypoints = example.annotations.keypoints
        if keypoints is not None and (keypoints[..., 2] > 0).any() and example.path.is_file():
            kept.append(index)
    return dataset.subset(kept)


def learn(
    dataset: Dataset, size: tuple[int, int], stride: int, steps: int, seed: int, folder: Path
) -> tuple[str, float]:
    """Return what became of the points, in words, and the seconds that training took."""
    assert dataset.objects.keypoints is not None
    landmarks = dataset.objects.keypoints.shape[1]
    encoder = KeypointGridEncoder(
        size, stride=stride, num_classes=dataset.num_classes, points_per_cell=landmarks,
        slots="fixed", classes="object",
    )  # fmt: skip
    batch = min(4, len(dataset))
    recipe = Recipe(
        epochs=steps * batch // len(dataset), batch_size=batch, optimizer="adamw",
        learning_rate=0.64 / batch, augment="none", drop_connect=0.0, average=0.99, seed=seed,
    )  # fmt: skip
    start = time.perf_counter()
    detector = train(dataset, encoder, folder, recipe, variant="nano", max_lost=1.0)
    seconds = time.perf_counter() - start
    found = predict(detector, images_of(dataset), score_threshold=0.1)
    report = evaluate_points(
        dataset, {one.image_id: one.detections for one in found}, score_threshold=0.1
    )
    scale = [
        place((int(height), int(width)), size, "letterbox").scale_y
        for height, width in zip(dataset.images.height, dataset.images.width, strict=True)
    ]
    errors = report.point_nearest
    known = errors[~np.isnan(errors)]
    words = (
        f"{report.num_points} points, {report.overall.without} not found, {report.overall.detections} "
        f"detections; mean error {known.mean():.2f} px of the image, about "
        f"{known.mean() * np.mean(scale):.2f} px of the input"
    )
    return words, seconds


def main() -> None:
    """Print a line for each dataset and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 192))
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = parser.parse_args()
    for path in chosen.data:
        dataset = with_points(load(path))
        for seed in chosen.seeds:
            with tempfile.TemporaryDirectory() as folder:
                words, seconds = learn(
                    dataset, tuple(chosen.size), chosen.stride, chosen.steps, seed, Path(folder)
                )
            print(
                f"{path.name}: {len(dataset)} images, seed {seed}: {words} ({seconds:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
