"""Our models against the official ones: parameter counts, and outputs of official weights.

    python benchmarks/parity.py                          # parameter counts of every variant
    python benchmarks/parity.py --golden ../shared/golden  # also outputs of D0 and lite0

Counts are compared with tests/golden/param_counts.json, outputs with the reference arrays in
the golden folder (a checkpoint each in three formats, and what the official code makes of one image).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
from timing import machine, table

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
COUNTS = Path(__file__).parents[1] / "tests" / "golden" / "param_counts.json"


def counted(model):
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return [trainable, model.count_params()]


def counts():
    from ytrue.model import EfficientDet, EfficientNet

    golden = json.loads(COUNTS.read_text())
    rows = []
    for kind, names, make in (
        ("EfficientNet", golden["efficientnet"], EfficientNet),
        ("EfficientDet", golden["efficientdet"], lambda name: EfficientDet(name, num_classes=90)),
    ):
        for name, wanted in names.items():
            official = wanted["full_1000_classes"] if isinstance(wanted, dict) else wanted
            ours = counted(make(name))
            equal = "yes" if ours == official else "NO"
            rows.append((kind, name, f"{ours[0]:,}", f"{ours[1]:,}", f"{official[1]:,}", equal))
    print(table(("", "variant", "trainable", "total", "official total", "equal"), rows))


def differences(model, data):
    """Return the largest absolute difference of class logits and of box offsets."""
    import tensorflow as tf

    outputs = tf.function(model)(tf.constant(data["image"]))
    worst, first = [0.0, 0.0], 0
    for level in range(3, 8):
        box = data[f"box_P{level}"]
        rows, columns = box.shape[1:3]
        end = first + rows * columns * 9
        offsets = outputs["box"][:, first:end].numpy().reshape(box.shape)
        logits = outputs["class"][:, first:end].numpy().reshape(1, rows, columns, -1)
        wanted = data.get(f"cls_P{level}")
        if wanted is None:
            y, x = data[f"cells_P{level}"].T
            logits, wanted = logits[:, y, x], data[f"cls_at_cells_P{level}"]
        worst = [
            max(worst[0], np.abs(logits - wanted).max()),
            max(worst[1], np.abs(offsets - box).max()),
        ]
        first = end
    return worst


def exactly(name, model, data):
    """Return the same differences of the network computed in float64."""
    import tensorflow as tf

    from ytrue.model import EfficientDet
    from ytrue.model.layers import BatchNorm

    def normalised(norm, x, bias=None, **_):
        """TensorFlow's fused kernel knows no float64."""
        gamma, beta, mean, variance = (
            tf.cast(tf.convert_to_tensor(weight), x.dtype)
            for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        )
        x = x if bias is None else x + tf.cast(bias, x.dtype)
        return (x - mean) / tf.sqrt(variance + norm.epsilon) * gamma + beta

    exact = EfficientDet(name, num_classes=90, dtype="float64")
    exact.set_weights(model.get_weights())
    with patch.object(BatchNorm, "call", normalised):
        return differences(exact, data | {"image": data["image"].astype(np.float64)})


def outputs(folder):
    from ytrue.model import EfficientDet

    rows = []
    for name in ("d0", "lite0"):
        stem = folder / f"efficientdet-{name}" / f"efficientdet-{name}"
        data = dict(np.load(stem.parent / "io_shared.npz"))
        model = EfficientDet(name, num_classes=90)
        for end, what in ((".h5", "Keras .h5"), ("_tf2_ckpt.tar.gz", "TF2 checkpoint"),
                          (".tar.gz", "TF1 checkpoint, averages")):  # fmt: skip
            model.load_official(f"{stem}{end}")
            logits, offsets = differences(model, data)
            folded = differences(model.fold(), data)
            rows.append((name, what, f"{logits:.1e}", f"{offsets:.1e}", f"{folded[0]:.1e}"))
        exact = exactly(name, model, data)
        rows.append((name, "the same in float64", *(f"{value:.1e}" for value in exact), ""))
    head = ("model", "weights", "class logits", "box offsets", "class logits, folded")
    print("\nLargest absolute difference to the official outputs, float32, "
          f"oneDNN {'off' if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0' else 'on'}:\n")  # fmt: skip
    print(table(head, rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--skip-counts", action="store_true")
    options = parser.parse_args()
    print(machine("numpy", "tensorflow", "keras"), end="\n\n")
    if not options.skip_counts:
        counts()
    if options.golden is not None:
        outputs(options.golden)


if __name__ == "__main__":
    main()
