"""Does README's own Keras recipe learn? `compile` and `fit(epochs=...)` on the shapes of `ytrue demo`.

python benchmarks/recipe.py
python benchmarks/recipe.py --seeds 0 1 2 --epochs 10 --images 300
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ytrue.datasets import load, pipeline, write_shapes
from ytrue.encoders import preset
from ytrue.model import DetectionLoss, Detector, EfficientDet
from ytrue.model.evaluate import evaluate
from ytrue.model.predict import MIN_SCORE, images_of, predict

SIZE = (192, 256)
AUGMENT = "light"
BATCH = 4


def learn(
    seed: int, images: int, epochs: int, augment: str, same: bool
) -> tuple[float, float, int, float]:
    """Return AP and AP50 on the images held out, how many batches differ, and the seconds."""
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        dataset = load(write_shapes(Path(folder) / "shapes", num_images=images, seed=seed))
        learnt, held = dataset.hold_out(2)
        encoder = preset("ytrue", SIZE, dataset.num_classes, anchor_scale=2.0)
        seen = set()

        def noted(pixels: tf.Tensor, targets: Any) -> Any:
            note = tf.numpy_function(lambda x: seen.add(hash(x.tobytes())), [pixels], [])
            with tf.control_dependencies([note]):
                return tf.identity(pixels), targets

        def batches() -> tf.data.Dataset:
            made = pipeline(
                learnt, encoder, batch_size=BATCH, augment=augment, shuffle=True, seed=seed,
                on_error="skip",
            )  # fmt: skip
            return made.map(noted)

        model = EfficientDet("nano", num_classes=dataset.num_classes)
        model.compile("adam", DetectionLoss())
        start = time.perf_counter()
        if same:
            for epoch in range(epochs):
                model.fit(
                    batches(), initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0
                )
        else:
            model.fit(batches(), epochs=epochs, shuffle=False, verbose=0)
        seconds = time.perf_counter() - start
        detector = Detector(model, encoder, dataset.classes, dataset.class_ids)
        found = predict(detector, images_of(held), batch_size=8, score_threshold=MIN_SCORE)
        scores = evaluate(held, {one.image_id: one.detections for one in found}).coco
    return scores["AP"], scores["AP50"], len(seen), seconds


def main() -> None:
    """Print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--images", type=int, default=300, help="half of them are held out")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--augment", default=AUGMENT)
    parser.add_argument("--same", action="store_true", help="every epoch is the first again")
    chosen = parser.parse_args()
    for seed in chosen.seeds:
        ap, ap50, different, seconds = learn(
            seed, chosen.images, chosen.epochs, chosen.augment, chosen.same
        )
        print(
            f"seed {seed}, {chosen.epochs} epochs, {chosen.augment}: AP {ap:.3f}  AP50 {ap50:.3f}  "
            f"({different} different batches, {seconds:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
