"""Do encoder, loss and decoder agree on real data? A few images learnt by heart, errors measured.

    python benchmarks/overfitting.py annotations.json [more.json ...] --task keypoints

Images with something to learn are learnt, unchanged, until a detector knows them. Keypoints: the
distance of every labelled point to the nearest detection of its landmark, in pixels of the original
image and of the network's input. Polygons and masks: the IoU of every object's mask with the best
detection of its class, in pixels of the original image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ytrue.anchortuning import fit_anchors
from ytrue.annotations import Annotations, Example
from ytrue.contract import Encoder
from ytrue.datasets import load
from ytrue.datasets.dataset import Dataset, Id
from ytrue.encoders import (
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    YoloEncoder,
    preset,
)
from ytrue.model import Recipe, train
from ytrue.model.evaluatemasks import evaluate_masks
from ytrue.model.evaluatepoints import evaluate_points
from ytrue.model.predict import images_of, predict
from ytrue.resizing import place

Found = Mapping[Id, Annotations]
Size = tuple[int, int]
LEAST_SCORE = {"keypoints": 0.1, "polygon": 0.3, "mask": 0.3}


def can_be_learnt(example: Example, task: str) -> bool:
    """Return whether an image has a file and something that the task is about."""
    objects = example.annotations
    if not example.path.is_file():
        return False
    if task == "keypoints":
        return objects.keypoints is not None and bool((objects.keypoints[..., 2] > 0).any())
    return bool((~objects.crowd).any())


def encoder_of(task: str, dataset: Dataset, size: Size) -> Encoder:
    """Return the task's encoder for a few images."""
    if task == "keypoints":
        return KeypointGridEncoder(
            size, stride=8, num_classes=dataset.num_classes, points_per_cell=dataset.num_keypoints,
            slots="fixed", classes="object",
        )  # fmt: skip
    if task == "mask":
        return MaskEncoder(preset("ytrue", size, dataset.num_classes, anchor_scale=2.0))
    anchors = fit_anchors(dataset, size, 6)
    yolo = YoloEncoder(
        size, [anchors[:3], anchors[3:]], stride=(8, 16), num_classes=dataset.num_classes,
        match="ratio", neighbours=2,
    )  # fmt: skip
    return PolygonEncoder(yolo, bins=24, points="outline")


def points_in_words(dataset: Dataset, found: Found, size: Size) -> str:
    """Return how far off the points are."""
    report = evaluate_points(dataset, found, score_threshold=LEAST_SCORE["keypoints"])
    scale = [
        place((int(height), int(width)), size, "letterbox").scale_y
        for height, width in zip(dataset.images.height, dataset.images.width, strict=True)
    ]
    errors = report.point_nearest
    known = errors[~np.isnan(errors)]
    return (
        f"{report.num_points} points, {report.overall.without} not found, {report.overall.detections} "
        f"detections; mean error {known.mean():.2f} px of the image, about "
        f"{known.mean() * np.mean(scale):.2f} px of the input"
    )


def masks_in_words(dataset: Dataset, found: Found) -> str:
    """Return how close the masks are."""
    report = evaluate_masks(dataset, found)
    missed = int((report.best_iou < 0.5).sum())
    return (
        f"{report.num_objects} objects, {missed} without a mask of IoU 0.5, {report.num_detections} "
        f"detections; mean mask IoU {report.mean_best_iou:.3f}, AP50 {report.coco['AP50']:.3f}"
    )


def learn(
    dataset: Dataset, task: str, size: Size, steps: int, seed: int, folder: Path
) -> tuple[str, float]:
    """Return what was learnt, in words, and the seconds that training took."""
    encoder = encoder_of(task, dataset, size)
    batch = min(4, len(dataset))
    recipe = Recipe(
        epochs=steps * batch // len(dataset), batch_size=batch, optimizer="adamw",
        learning_rate=0.64 / batch, augment="none", box_weight=10.0, drop_connect=0.0,
        average=0.99, seed=seed,
    )  # fmt: skip
    start = time.perf_counter()
    detector = train(dataset, encoder, folder, recipe, variant="nano", max_lost=1.0)
    seconds = time.perf_counter() - start
    found = {
        one.image_id: one.detections
        for one in predict(detector, images_of(dataset), score_threshold=LEAST_SCORE[task])
    }
    if task == "keypoints":
        return points_in_words(dataset, found, size), seconds
    return masks_in_words(dataset, found), seconds


def main() -> None:
    """Print a line for each dataset and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--task", choices=list(LEAST_SCORE), default="keypoints")
    parser.add_argument("--images", type=int, default=8, help="how many, the first ones")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 192))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = parser.parse_args()
    for path in chosen.data:
        whole = load(path)
        fitting = [k for k in range(len(whole)) if can_be_learnt(whole[k], chosen.task)]
        dataset = whole.subset(fitting[: chosen.images])
        for seed in chosen.seeds:
            with tempfile.TemporaryDirectory() as folder:
                words, seconds = learn(
                    dataset, chosen.task, tuple(chosen.size), chosen.steps, seed, Path(folder)
                )
            print(
                f"{path.name}: {len(dataset)} images, seed {seed}: {words} ({seconds:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
