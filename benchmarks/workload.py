"""What the model benchmarks compute on: EfficientDet-D0's size, and targets of noise."""

from __future__ import annotations

import numpy as np

SIZE, CLASSES, ANCHORS = 512, 90, 49104


def random_targets(batch):
    """About 100 positive anchors an image, targets of noise."""
    rng = np.random.default_rng(0)
    state = np.zeros((batch, ANCHORS), np.int8)
    label = np.full((batch, ANCHORS), -1, np.int32)
    box = np.zeros((batch, ANCHORS, 4), np.float32)
    for image in range(batch):
        chosen = rng.choice(ANCHORS, 100, replace=False)
        state[image, chosen] = 1
        label[image, chosen] = rng.integers(0, CLASSES, 100)
        box[image, chosen] = rng.normal(0, 0.3, (100, 4))
    return {"state": state, "label": label, "box": box}


def effdet_targets(batch, device="cpu"):
    """Return the random targets as effdet takes them: (B, h, w, 9) and (B, h, w, 36) a level."""
    import torch

    targets = random_targets(batch)
    sides = [-(-SIZE // 2**level) for level in range(3, 8)]
    ends = np.cumsum([side * side * 9 for side in sides])[:-1]

    def levels(values, depth, dtype):
        return [
            torch.from_numpy(part.reshape(batch, side, side, depth).astype(dtype)).to(device)
            for part, side in zip(np.split(values, ends, axis=1), sides, strict=True)
        ]

    return levels(targets["label"], 9, np.int64), levels(targets["box"], 36, np.float32)
