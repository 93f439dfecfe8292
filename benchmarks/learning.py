"""Does it learn? Every task on the synthetic shapes: scores on images it was not taught, by seed.

python benchmarks/learning.py --tasks keypoints pose --seeds 0 1 2
python benchmarks/learning.py --seeds 0 --precisions float32 int8  # and as TFLite files
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from ytrue.anchortuning import fit_anchors
from ytrue.contract import Encoder
from ytrue.datasets import Dataset, load, write_shapes
from ytrue.encoders import (
    AnchorEncoder,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    preset,
)
from ytrue.model import Recipe, train
from ytrue.model.export import Precision, export, load_export
from ytrue.model.predict import MIN_SCORE, Finder, frames, images_of, predict
from ytrue.model.tasks import task_of

SIZE = (192, 256)
IMAGES = 600
BATCH = 4
REPRESENTATIVE = 100
RECIPE: dict[str, Any] = {
    "batch_size": BATCH, "optimizer": "adamw", "learning_rate": 0.16, "augment": "mild",
    "box_weight": 10.0, "drop_connect": 0.0, "average": 0.99,
}  # fmt: skip


def boxes(_dataset: Dataset) -> AnchorEncoder:
    """Boxes on anchors, as `ytrue demo` has them."""
    return preset("ytrue", SIZE, 4, anchor_scale=2.0)


def keypoints(_dataset: Dataset) -> KeypointGridEncoder:
    """The outermost points of a shape, a slot for each in cells of 8 pixels."""
    return KeypointGridEncoder(SIZE, stride=8, num_classes=4, points_per_cell=4, slots="fixed")


def pose(dataset: Dataset) -> PoseEncoder:
    """Both on one pyramid."""
    return PoseEncoder(boxes(dataset), keypoints(dataset))


def yolo(dataset: Dataset, stride: tuple[int, ...] = (8, 16, 32)) -> YoloEncoder:
    """Boxes in cells, as `--task yolo` has them: three anchors in a cell, fitted to the dataset."""
    fitted = fit_anchors(dataset, SIZE, 3 * len(stride))
    anchors = [fitted[3 * k : 3 * k + 3] for k in range(len(stride))]
    return YoloEncoder(
        SIZE, anchors, stride=stride, num_classes=4, match="ratio", neighbours=2
    )  # fmt: skip


def polygon(dataset: Dataset) -> PolygonEncoder:
    """Outlines of 24 bins, as `--task polygon` has them."""
    return PolygonEncoder(yolo(dataset, (8, 16)), points="outline")


def mask(dataset: Dataset) -> MaskEncoder:
    """Boxes on anchors, and masks of 32 prototypes."""
    return MaskEncoder(boxes(dataset))


def fcos(_dataset: Dataset) -> FCOSEncoder:
    """Points in boxes, on four levels: ranges by half the side that anchors have there."""
    return FCOSEncoder(SIZE, 4, stride=(8, 16, 32, 64), ranges=(32.0, 64.0, 128.0))


def centernet(_dataset: Dataset) -> CenterNetEncoder:
    """Heat maps of stride 8, with the published radius."""
    return CenterNetEncoder(SIZE, 4, stride=8, radius="published")


def atss(_dataset: Dataset) -> AnchorEncoder:
    """Boxes on one square anchor a cell, of 4 strides, matched by ATSS."""
    return preset("atss", SIZE, 4, anchor_scale=4.0)


TASKS: dict[str, tuple[Callable[[Dataset], Encoder], int]] = {
    "box": (boxes, 2200),
    "keypoints": (keypoints, 1400),
    "pose": (pose, 2200),
    "yolo": (yolo, 1800),
    "fcos": (fcos, 1900),
    "centernet": (centernet, 1800),
    "atss": (atss, 1800),
    "polygon": (polygon, 1800),
    "mask": (mask, 2775),
}
"""Name -> encoder of a dataset, and training steps."""


def learn(
    name: str, seed: int, folder: Path, precisions: Sequence[Precision] = ()
) -> tuple[dict[str, dict[str, float]], float]:
    """Return the scores on the images held out, and the seconds that training took.

    The scores are those of the network ("keras") and of it as a TFLite file of each precision.
    """
    dataset = load(write_shapes(folder / "shapes", num_images=IMAGES, seed=seed))
    learnt, held = dataset.hold_out(2)
    make, steps = TASKS[name]
    encoder = make(learnt)
    recipe = Recipe(epochs=round(steps * BATCH / len(learnt)), seed=seed, **RECIPE)
    start = time.perf_counter()
    detector = train(learnt, encoder, folder / "run", recipe, variant="nano")
    seconds = time.perf_counter() - start
    finders: dict[str, Finder] = {"keras": detector}
    if precisions:
        some = list(frames(detector, images_of(learnt)[:REPRESENTATIVE]))
        path = export(detector, folder / "export", precisions, some)
        finders |= {f"TFLite {kind}": load_export(path, precision=kind) for kind in precisions}
    scores = {}
    for kind, finder in finders.items():
        found = predict(finder, images_of(held), batch_size=8, score_threshold=MIN_SCORE)
        by_image = {one.image_id: one.detections for one in found}
        scores[kind] = task_of(encoder).scores(encoder, held, by_image)
    return scores, seconds


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--precisions", nargs="+", default=[], choices=get_args(Precision))
    chosen = parser.parse_args()
    for name in chosen.tasks:
        for seed in chosen.seeds:
            with tempfile.TemporaryDirectory() as folder:
                found, seconds = learn(name, seed, Path(folder), chosen.precisions)
            for kind, scores in found.items():
                what = f"{seconds:.0f} s of training" if kind == "keras" else kind
                said = "  ".join(f"{key} {value:.3f}" for key, value in scores.items())
                print(f"{name:10} seed {seed}: {said}  ({what})", flush=True)


if __name__ == "__main__":
    main()
