"""Objects from an exported detector's outputs, with NumPy alone: boxes, masks, polygons, points.

This file comes with every export, needs `export.json` beside it, `anchors.npy` where there is one,
and nothing of the library that wrote them:

    from decoder import Decoder

    decoder = Decoder(".")
    found = decoder.find(outputs)  # one image's outputs of an exported file, by name
    found["boxes"] = decoder.to_source(found["boxes"], (height, width))

    boxes, scores = decoder.decode(class_logits, box_offsets)  # of a raw network with anchors
    found = decoder.detect(boxes, scores)

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
KINDS = ("anchor", "centernet", "fcos", "keypoint-grid", "mask", "polygon", "yolo")
"""Encoders whose exports this file reads."""


class Decoder:
    """What turns one export's outputs into objects.

    Args:
        folder: of the export.

    Raises:
        FileNotFoundError: `export.json` or an exported `anchors.npy` is not there.
        ValueError: the anchors are not those that were exported, or the export is of a kind that
            this file does not read.
    """

    def __init__(self, folder: str | Path = ".") -> None:
        folder = Path(folder)
        self.export: dict[str, Any] = json.loads((folder / "export.json").read_text("utf-8"))
        self.encoder: dict[str, Any] = self.export["encoder"]
        if self.encoder["encoder"] not in KINDS:
            raise ValueError(
                f"an export of a {self.encoder['encoder']!r} encoder: decoder.py reads those of "
                f"{', '.join(KINDS)}; ytrue.model.export.load_export reads all"
            )
        wanted = self.export["files"].get("anchors.npy")
        self.anchors = None if wanted is None else _checked(folder / "anchors.npy", wanted)
        self.image_size: tuple[int, int] = tuple(self.export["image_size"])
        self.classes: list[str] = self.export["classes"]
        self.class_ids: list[int] = self.export["class_ids"]

    def find(
        self, outputs: dict[str, Any], *, vertex_threshold: float = 0.5, **options: Any
    ) -> dict[str, Any]:
        """Return the N objects of one image, by falling score.

        Args:
            outputs: of an exported file by name, without the batch's axis.
            vertex_threshold: lowest confidence of a polygon's vertex.
            options: of `detect`, `detect_peaks` or `detect_points`.

        Returns:
            Of a "keypoint-grid" export what `detect_points` does, of a "centernet" export what
            `detect_peaks` does, of others what `detect` does; of
            a "mask" export also "masks" (N, height, width) bool; of a "polygon" export also
            "polygons", N arrays (M, 2) float32 of `(y, x)` pixels.
        """
        if "points" in outputs:
            return self.detect_points(outputs["points"], outputs["scores"], **options)
        if outputs["scores"].ndim == 3:
            return self.detect_peaks(outputs["boxes"], outputs["scores"], **options)
        found = self.detect(outputs["boxes"], outputs["scores"], **options)
        rows = found["rows"]
        if "prototypes" in outputs:
            found["masks"] = self._masks(
                found["boxes"], outputs["coefficients"][rows], outputs["prototypes"]
            )
        if "polygons" in outputs:
            held = outputs["vertices"][rows] >= vertex_threshold
            found["polygons"] = [
                points[chosen]
                for points, chosen in zip(outputs["polygons"][rows], held, strict=True)
            ]
        return found

    def decode(self, class_logits: Any, box_offsets: Any) -> tuple[Any, Any]:
        """Return boxes (..., A, 4) and scores (..., A, C), float32, of a raw network's outputs.

        Args:
            class_logits: (..., A, C).
            box_offsets: (..., A, 4) relative to the anchors, in the order (y, x, height, width) of
                the coder "centre", or (y_min, x_min, y_max, x_max) of "corner".

        Raises:
            ValueError: the export has no anchors.
        """
        if self.anchors is None:
            raise ValueError("the export has no anchors: take its files' outputs, they are decoded")
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
            `classes` and `class_ids`, "rows": (N,) int64 their places in `boxes`}.
        """
        labels = scores.argmax(axis=-1)
        best = np.take_along_axis(scores, labels[:, None], axis=-1)[:, 0]

        def one_object(first: int, others: Any) -> Any:
            alike = labels[others] == labels[first]
            alike[alike] = _overlaps(boxes[first], boxes[others[alike]]) > iou_threshold
            return alike

        rows = _survivors(best, score_threshold, max_detections, one_object)
        return {"boxes": boxes[rows], "scores": best[rows], "labels": labels[rows], "rows": rows}

    def detect_peaks(
        self,
        boxes: Any,
        scores: Any,
        *,
        score_threshold: float = 0.05,
        max_detections: int = 100,
    ) -> dict[str, Any]:
        """Return the N objects that the peaks of an image's heat maps are, by falling score.

        A peak is a cell whose score none of its eight neighbours exceeds in its class, and none of
        those before it, by row, then column, equals.

        Args:
            boxes: (cells, 4) of the cells, by row, then column.
            scores: (H, W, C).
            score_threshold: lowest score that is returned.
            max_detections: most objects returned.

        Returns:
            As `detect`.
        """
        height, width, classes = scores.shape
        around = np.pad(scores, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        peak = scores >= np.float32(score_threshold)
        for y, x in np.ndindex(3, 3):
            other = around[y : y + height, x : x + width]
            if (y, x) < (1, 1):
                peak &= other < scores
            elif (y, x) > (1, 1):
                peak &= other <= scores
        rows, labels = np.nonzero(peak.reshape(-1, classes))
        best = scores.reshape(-1, classes)[rows, labels]
        order = np.argsort(-best, kind="stable")[:max_detections]
        rows, labels = rows[order], labels[order]
        return {"boxes": boxes[rows], "scores": best[order], "labels": labels, "rows": rows}

    def detect_points(
        self,
        points: Any,
        scores: Any,
        *,
        score_threshold: float = 0.05,
        duplicate_radius: float = 0.5,
        max_detections: int = 1000,
    ) -> dict[str, Any]:
        """Return the N points of one image, by falling score.

        Of two alike the lower-scored falls where it lies within `duplicate_radius` of its cell's
        sides of the other.

        Args:
            points: (S, 2) of all slots.
            scores: (S, C).
            score_threshold: lowest score that is returned.
            duplicate_radius: in sides of a cell, along each axis.
            max_detections: most points returned.

        Returns:
            {"points": (N, 2) float32 `(y, x)`, "scores": (N,) float32, "labels": (N,) int64 their
            classes, "landmarks": (N,) int64 their places in their objects' keypoints (0 where the
            export does not tell them apart), "rows": (N,) int64 their slots}.
        """
        slots, by_landmark = self.encoder["points_per_cell"], self.encoder["classes"] == "landmark"
        in_cell = np.arange(len(points)) % slots
        fixed = self.encoder["slots"] == "fixed"
        labels = in_cell if fixed and by_landmark else scores.argmax(axis=-1)
        landmarks = in_cell if fixed else labels * by_landmark
        best = np.take_along_axis(scores, labels[:, None], axis=-1)[:, 0]
        sides = [np.divide(self.image_size, counts) for counts in self.encoder["grid"]]
        counts = [rows * columns * slots for rows, columns in self.encoder["grid"]]
        reach = (np.repeat(sides, counts, axis=0) * duplicate_radius).astype(np.float32)

        def one_point(first: int, others: Any) -> Any:
            alike = (labels[others] == labels[first]) & (landmarks[others] == landmarks[first])
            near = np.abs(points[others] - points[first]) <= reach[others]
            return alike & near.all(axis=-1)

        rows = _survivors(best, score_threshold, max_detections, one_point)
        return {
            "points": points[rows],
            "scores": best[rows],
            "labels": labels[rows],
            "landmarks": landmarks[rows],
            "rows": rows,
        }

    def _masks(self, boxes: Any, coefficients: Any, prototypes: Any) -> Any:
        """Return (N, height, width) bool.

        A pixel is set where its centre is in the box and the prototypes' weighted sum there,
        interpolated linearly, is above 0.
        """
        down, across = (
            _interpolation(side, cells, self.encoder["stride"])
            for side, cells in zip(self.image_size, prototypes.shape[:2], strict=True)
        )
        first = np.ceil(np.asarray(boxes, np.float64) - 0.5).reshape(-1, 2, 2)
        first = np.clip(first, 0, self.image_size).astype(int)
        masks = np.zeros((len(boxes), *self.image_size), bool)
        for mask, (low, high), weights in zip(masks, first, coefficients, strict=True):
            inside = slice(low[0], high[0]), slice(low[1], high[1])
            values = (prototypes @ weights).astype(np.float64)  # (h, w)
            mask[inside] = down[inside[0]] @ (values @ across[inside[1]].T) > 0
        return masks

    def to_source(self, boxes: Any, source: tuple[int, int]) -> Any:
        """Return float32 boxes or points of the network's input in the source image's pixels.

        Args:
            boxes: (..., 4) boxes, or (..., 2) points, in the network's input.
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
        factor = np.array((size[0] / source[0], size[1] / source[1]) * (boxes.shape[-1] // 2))
        return np.asarray(boxes / factor, np.float32)


def _checked(path: Path, wanted: str) -> Any:
    """Return the array in a file of the given SHA-256."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted:
        raise ValueError(f"{path.name}: SHA-256 {found}, but export.json names {wanted}")
    return np.load(path)


def _survivors(scores: Any, threshold: float, most: int, falls: Any) -> Any:
    """Return rows by falling score, less those that a row above tells to fall.

    Args:
        scores: (A,).
        threshold: lowest score that is returned.
        most: rows returned.
        falls: of a row and others below it, which (bool) of them fall.
    """
    order = np.flatnonzero(scores >= threshold)
    order = order[np.argsort(-scores[order], kind="stable")[:CANDIDATES]]
    kept: list[int] = []
    while order.size and len(kept) < most:
        first, order = int(order[0]), order[1:]
        kept.append(first)
        order = order[~falls(first, order)]
    return np.array(kept, np.int64)


def _interpolation(side: int, cells: int, stride: int) -> Any:
    """Return (side, cells) weights of cells at the centres of pixels; at most two are not 0."""
    place = np.clip((np.arange(side) + 0.5) / stride - 0.5, 0, cells - 1)
    ahead = place.astype(int)
    weights = np.zeros((side, cells))
    weights[np.arange(side), ahead] = 1 - (place - ahead)
    weights[np.arange(side), np.minimum(ahead + 1, cells - 1)] += place - ahead
    return weights


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
