"""Does it learn? Every task on the synthetic shapes: scores on images it was not taught, by seed.

python benchmarks/learning.py --tasks keypoints pose --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ytrue.contract import Encoder
from ytrue.datasets import load, write_shapes
from ytrue.encoders import KeypointGridEncoder, PoseEncoder, preset
from ytrue.model import Recipe, train
from ytrue.model.predict import MIN_SCORE, images_of, predict
from ytrue.model.tasks import task_of

SIZE = (192, 256)
IMAGES = 600
BATCH = 4
RECIPE: dict[str, Any] = {
    "batch_size": BATCH, "optimizer": "adamw", "learning_rate": 0.16, "augment": "mild",
    "box_weight": 10.0, "drop_connect": 0.0, "average": 0.99,
}  # fmt: skip


def boxes() -> Encoder:
    """Boxes on anchors, as `ytrue demo` has them."""
    return preset("ytrue", SIZE, 4, anchor_scale=2.0)


def keypoints() -> KeypointGridEncoder:
    """The outermost points of a shape, a slot for each in cells of 8 pixels."""
    return KeypointGridEncoder(SIZE, stride=8, num_classes=4, points_per_cell=4, slots="fixed")


def pose() -> Encoder:
    """Both on one pyramid."""
    return PoseEncoder(preset("ytrue", SIZE, 4, anchor_scale=2.0), keypoints())


TASKS: dict[str, tuple[Callable[[], Encoder], int]] = {
    "box": (boxes, 2200),
    "keypoints": (keypoints, 1400),
    "pose": (pose, 2200),
}
"""Name -> encoder and training steps."""


def learn(name: str, seed: int, folder: Path) -> tuple[dict[str, float], float]:
    """Return the scores on the images held out, and the seconds that training took."""
    encoder, steps = TASKS[name][0](), TASKS[name][1]
    dataset = load(write_shapes(folder / "shapes", num_images=IMAGES, seed=seed))
    learnt, held = dataset.hold_out(2)
    recipe = Recipe(epochs=round(steps * BATCH / len(learnt)), seed=seed, **RECIPE)
    start = time.perf_counter()
    detector = train(learnt, encoder, folder / "run", recipe, variant="nano")
    seconds = time.perf_counter() - start
    found = predict(detector, images_of(held), batch_size=8, score_threshold=MIN_SCORE)
    by_image = {one.image_id: one.detections for one in found}
    return task_of(encoder).scores(encoder, held, by_image), seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = parser.parse_args()
    for name in chosen.tasks:
        for seed in chosen.seeds:
            with tempfile.TemporaryDirectory() as folder:
                scores, seconds = learn(name, seed, Path(folder))
            said = "  ".join(f"{key} {value:.3f}" for key, value in scores.items())
            print(f"{name:10} seed {seed}: {said}  ({seconds:.0f} s of training)", flush=True)


if __name__ == "__main__":
    main()
