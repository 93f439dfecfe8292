"""Boxes and detections from an exported detector's outputs, with NumPy alone.

This file comes with every export, needs `export.json` and `anchors.npy` beside it and nothing of
the library that wrote them:

    from decoder import Decoder

    decoder = Decoder(".")
    boxes, scores = decoder.decode(class_logits, box_offsets)  # of a raw network
    found = decoder.detect(boxes, scores)  # those, or one image's outputs of an exported file
    found["boxes"] = decoder.to_source(found["boxes"], (height, width))

Boxes are `(y_min, x_min, y_max, x_max)` in pixels, continuous edges: a full image is
`(0, 0, height, width)`. Anchors, A of them, stand in the order level (fine to coarse), row,
column, anchor in cell.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

CANDIDATES = 5000
"""How many anchors enter the suppression at most."""


class Decoder:
    """What turns one export's outputs into objects.

    Args:
        folder: of the export.

    Raises:
        FileNotFoundError: `export.json` or `anchors.npy` is not there.
        ValueError: the anchors are not those that were exported.
    """

    def __init__(self, folder: str | Path = ".") -> None:
        folder = Path(folder)
        self.export: dict[str, Any] = json.loads((folder / "export.json").read_text("utf-8"))
        found = hashlib.sha256((folder / "anchors.npy").read_bytes()).hexdigest()
        wanted = self.export["files"]["anchors.npy"]
        if found != wanted:
            raise ValueError(f"anchors.npy: SHA-256 {found}, but export.json names {wanted}")
        self.anchors = np.load(folder / "anchors.npy")
        self.image_size: tuple[int, int] = tuple(self.export["image_size"])
        self.classes: list[str] = self.export["classes"]
        self.class_ids: list[int] = self.export["class_ids"]

    def decode(self, class_logits: Any, box_offsets: Any) -> tuple[Any, Any]:
        """Return boxes (..., A, 4) and scores (..., A, C), float32, of a raw network's outputs.

        Args:
            class_logits: (..., A, C).
            box_offsets: (..., A, 4) relative to the anchors, in the order (y, x, height, width) of
                the coder "centre", or (y_min, x_min, y_max, x_max) of "corner".
        """
        coder = self.export["coder"]
        offsets = np.asarray(box_offsets, np.float64) * np.array(coder["std"])
        low, high = np.split(self.anchors.astype(np.float64), 2, axis=-1)
        side = high - low
        if coder["kind"] == "corner":
            corners = (low + offsets[..., :2] * side, high + offsets[..., 2:] * side)
        else:
            centre = low + side / 2 + offsets[..., :2] * side
            half = np.exp(np.minimum(offsets[..., 2:], coder["largest_log"])) * side / 2
            corners = (centre - half, centre + half)
        boxes = np.concatenate(corners, axis=-1).astype(np.float32)
        logits = np.asarray(class_logits, np.float64)
        return boxes, (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)

    def detect(
        self,
        boxes: Any,
        scores: Any,
        *,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> dict[str, Any]:
        """Return the N objects of one image, by falling score.

        Each anchor stands for its best class; class by class, the lower-scored of two boxes that
        overlap by more than `iou_threshold` falls.

        Args:
            boxes: (A, 4).
            scores: (A, C).
            score_threshold: lowest score that is returned.
            iou_threshold: intersection over union above which two boxes of a class are one object.
            max_detections: most objects returned.

        Returns:
            {"boxes": (N, 4) float32, "scores": (N,) float32, "labels": (N,) int64 places in
            `classes` and `class_ids`}.
        """
        labels = scores.argmax(axis=-1)
        best = np.take_along_axis(scores, labels[:, None], axis=-1)[:, 0]
        order = np.flatnonzero(best >= score_threshold)
        order = order[np.argsort(-best[order], kind="stable")[:CANDIDATES]]
        kept: list[int] = []
        while order.size and len(kept) < max_detections:
            first, order = order[0], order[1:]
            kept.append(int(first))
            one_object = labels[order] == labels[first]
            one_object[one_object] = (
                _overlaps(boxes[first], boxes[order[one_object]]) > iou_threshold
            )
            order = order[~one_object]
        rows = np.array(kept, np.int64)
        return {"boxes": boxes[rows], "scores": best[rows], "labels": labels[rows]}

    def to_source(self, boxes: Any, source: tuple[int, int]) -> Any:
        """Return (..., 4) float32 boxes of the network's input in the source image's pixels.

        Args:
            boxes: (..., 4) in the network's input.
            source: (height, width) of the image before it was fitted in, pixels.
        """
        frame = self.image_size
        size = frame
        if self.export["resize"] == "letterbox":
            scale = min(frame[0] / source[0], frame[1] / source[1])
            size = (
                min(frame[0], max(1, int(source[0] * scale + 0.5))),
                min(frame[1], max(1, int(source[1] * scale + 0.5))),
            )
        factor = np.array((size[0] / source[0], size[1] / source[1]) * 2)
        return np.asarray(boxes / factor, np.float32)


def _overlaps(box: Any, others: Any) -> Any:
    """Return the (N,) float32 IoU of one box (4,) with others (N, 4)."""
    box, others = np.asarray(box, np.float32), np.asarray(others, np.float32)
    height = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    width = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    shared = np.where((height > 0) & (width > 0), height * width, np.float32(0))
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = areas + area - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
