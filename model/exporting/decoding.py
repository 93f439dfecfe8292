"""What each kind of encoder exports: its outputs, their graph, and the way back to annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import Encoder, parts_of
from ytrue.encoders import (
    AnchorEncoder,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
)
from ytrue.encoders.coders import LARGEST_LOG
from ytrue.encoders.detections import choose, detect, detect_peaks
from ytrue.encoders.kernels.polygons import TURN
from ytrue.encoders.polygon import VERTEX_THRESHOLD, polygons_through
from ytrue.encoders.pose import BOX, KEYPOINTS
from ytrue.model.exporting.graph import Decode

Tensors = dict[str, tf.Tensor]
Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Decoding:
    """What an encoder's detectors export.

    Attributes:
        outputs: name -> what it holds, in words, for `export.json`.
        graph: of an encoder, the function from the network's outputs to the exported ones.
        found: of an encoder, the exported outputs of one image and the options of the encoder's
            `decode`: what `decode` returns of that image's raw outputs.
        anchors: of an encoder, the one of its boxes on anchors; None where there are none.
    """

    outputs: Mapping[str, str]
    graph: Callable[[Any], Decode]
    found: Callable[..., Annotations]
    anchors: Callable[[Any], AnchorEncoder | None]


def decoding_of(encoder: Encoder) -> Decoding:
    """Return what the encoder's detectors export.

    Raises:
        ValueError: they cannot be exported.
    """
    kind = encoder.config()["encoder"]
    if kind not in DECODINGS:
        raise ValueError(
            f"the detector's targets are of a {kind!r} encoder: only those of "
            f"{', '.join(DECODINGS)} can be exported so far"
        )
    return DECODINGS[kind]


def coder_of(encoder: AnchorEncoder) -> dict[str, Any]:
    """Return how boxes are told relative to anchors, as `export.json` holds it."""
    return encoder.coder.config() | {"largest_log": LARGEST_LOG}


# Graphs. Their laws are those of the encoders' `decode`, in float32.


def _anchor_graph(encoder: AnchorEncoder) -> Decode:
    boxes = _on_anchors(encoder)

    def decode(raw: Tensors) -> Tensors:
        return {"boxes": boxes(raw["box"]), "scores": tf.sigmoid(raw["class"])}

    return decode


def _mask_graph(encoder: MaskEncoder) -> Decode:
    detections = _anchor_graph(encoder.boxes)

    def decode(raw: Tensors) -> Tensors:
        return detections(raw) | {name: raw[name] for name in ("coefficients", "prototypes")}

    return decode


def _yolo_graph(encoder: YoloEncoder) -> Decode:
    count = len(encoder.boxes)
    level, slot = encoder.place_anchor
    cell = np.arange(count) // encoder.anchors_per_cell
    low, high = encoder.offset_range
    lowest = np.float32(encoder.cells.exact_points(cell, np.full((count, 2), low)))
    reach = np.float32((high - low) * encoder.cells.sides[level])
    anchor = np.array(encoder.anchors)[level, slot]  # (P, 2)

    def decode(raw: Tensors) -> Tensors:
        box = _by_coordinate(_flat(raw["box"], count, 4))
        centre = lowest.T + reach.T * tf.sigmoid(box[:, :2])
        objectness = tf.sigmoid(_flat(raw["objectness"], count, 1))
        return {
            "boxes": _around(centre, box[:, 2:], anchor),
            "scores": objectness * tf.sigmoid(_flat(raw["class"], count, encoder.num_classes)),
        }

    return decode


def _polygon_graph(encoder: PolygonEncoder) -> Decode:
    detections = _yolo_graph(encoder.boxes)
    count, bins = len(encoder.boxes.boxes), encoder.bins
    scale = np.float32(encoder.place_scale[:, None])  # (P, 1)
    first = np.arange(bins, dtype=np.float32)

    def decode(raw: Tensors) -> Tensors:
        found = detections(raw)
        low, high = found["boxes"][..., :2], found["boxes"][..., 2:]
        diagonal = tf.sqrt(tf.reduce_sum(tf.square(high - low), axis=-1, keepdims=True))
        polar = _flat(raw["polygon"], count, bins, 3)
        logs = tf.minimum(polar[..., 0], np.float32(LARGEST_LOG))
        distance = tf.exp(logs) * scale * diagonal  # (B, P, V)
        angle = (first + tf.sigmoid(polar[..., 1])) * np.float32(TURN / bins)
        towards = tf.stack((tf.sin(angle), tf.cos(angle)), axis=-1)
        centre = ((low + high) / 2)[:, :, None]
        return found | {
            "polygons": centre - towards * distance[..., None],
            "vertices": tf.sigmoid(polar[..., 2]),
        }

    return decode


def _fcos_graph(encoder: FCOSEncoder) -> Decode:
    stride, most = np.float32(encoder.point_stride[:, None]), np.float32(encoder.largest_log)
    points = np.float32(encoder.points)

    def decode(raw: Tensors) -> Tensors:
        reach = _by_coordinate(tf.exp(tf.minimum(raw["box"], most)) * stride)
        scores = tf.sigmoid(raw["class"]) * tf.sigmoid(raw["centerness"])[..., None]
        return {
            "boxes": _joined(points.T - reach[:, :2], points.T + reach[:, 2:]),
            "scores": tf.sqrt(scores),
        }

    return decode


def _center_graph(encoder: CenterNetEncoder) -> Decode:
    count = len(encoder.cells)
    corner = encoder.cells.points(np.arange(count), np.zeros((count, 2)))
    side = np.float32(encoder.cells.sides[0])

    def decode(raw: Tensors) -> Tensors:
        centre = corner + side * _flat(raw["offset"], count, 2)
        half = tf.maximum(_flat(raw["size"], count, 2), 0.0) * (side / 2)
        return {
            "boxes": tf.concat((centre - half, centre + half), axis=-1),
            "scores": tf.sigmoid(raw["heatmap"]),
        }

    return decode


def _keypoint_graph(encoder: KeypointGridEncoder) -> Decode:
    count = encoder.num_slots
    cell = np.arange(count) // encoder.points_per_cell
    corner = encoder.cells.points(cell, np.zeros((count, 2)))
    side = np.float32(encoder.cells.sides[encoder.cells.level(cell)])

    def decode(raw: Tensors) -> Tensors:
        return {
            "points": corner + side * tf.sigmoid(_flat(raw["xy"], count, 2)),
            "scores": tf.sigmoid(_flat(raw["class"], count, encoder.num_classes)),
        }

    return decode


def _pose_graph(encoder: PoseEncoder) -> Decode:
    boxes, points = _anchor_graph(encoder.boxes), _keypoint_graph(encoder.keypoints)

    def decode(raw: Tensors) -> Tensors:
        split = parts_of(raw)
        found = points(split[KEYPOINTS])
        return boxes(split[BOX]) | {"points": found["points"], "point_scores": found["scores"]}

    return decode


def _flat(raw: tf.Tensor, *shape: int) -> tf.Tensor:
    """Return (B, *shape) of an output whose places have axes of their own."""
    return tf.reshape(raw, (-1, *shape))


def _on_anchors(encoder: AnchorEncoder) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from offsets (B, A, 4) to boxes; the law is `BoxCoder.decode`'s."""
    coder, anchors = encoder.coder, encoder.grid.boxes.astype(np.float64)
    std = np.array(coder.std)
    low, high = np.split(anchors, 2, axis=-1)
    side, middle = high - low, (low + high) / 2  # (A, 2)

    def corners(offsets: tf.Tensor) -> tf.Tensor:
        return offsets * np.float32(np.tile(side, 2) * std) + np.float32(anchors)

    def centres(offsets: tf.Tensor) -> tf.Tensor:
        offsets = _by_coordinate(offsets)
        centre = offsets[:, :2] * np.float32(side * std[:2]).T + np.float32(middle).T
        logs = offsets[:, 2:]
        if np.any(std[2:] != 1):
            logs *= np.float32(std[2:, None])
        return _around(centre, logs, side)

    return corners if coder.kind == "corner" else centres


def _by_coordinate(boxes: tf.Tensor) -> tf.Tensor:
    """Return boxes (B, N, 4) as (B, 4, N).

    Halves of it are two blocks of memory; of boxes they are two numbers of each, copied one by one.
    """
    return tf.transpose(boxes, (0, 2, 1))


def _joined(low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Return the boxes (B, N, 4) of corners, each (B, 2, N)."""
    return tf.transpose(tf.concat((low, high), axis=1), (0, 2, 1))


def _around(centre: tf.Tensor, logs: tf.Tensor, side: NDArray[Any]) -> tf.Tensor:
    """Return the boxes (B, N, 4) of centres and the logarithms of sides, both (B, 2, N).

    side: (N, 2), what the sides are told in.
    """
    half = tf.exp(tf.minimum(logs, np.float32(LARGEST_LOG))) * np.float32(side / 2).T
    return _joined(centre - half, centre + half)


# Back to annotations, by the encoders' own code.


def _boxes_found(
    _encoder: AnchorEncoder | FCOSEncoder | YoloEncoder, arrays: Arrays, **options: Any
) -> Annotations:
    return detect(arrays["scores"], arrays["boxes"], logits=False, **options)


def _peaks_found(_encoder: CenterNetEncoder, arrays: Arrays, **options: Any) -> Annotations:
    boxes = arrays["boxes"]
    return detect_peaks(arrays["scores"], lambda cells: boxes[cells], logits=False, **options)


def _masks_found(encoder: MaskEncoder, arrays: Arrays, **options: Any) -> Annotations:
    boxes = arrays["boxes"]
    rows, labels, scores = choose(arrays["scores"], boxes, logits=False, **options)
    masks = encoder.masks_of(boxes[rows], arrays["coefficients"][rows], arrays["prototypes"])
    return Annotations(boxes[rows], labels, scores=scores, masks=masks)


def _polygons_found(
    _encoder: PolygonEncoder,
    arrays: Arrays,
    *,
    vertex_threshold: float = VERTEX_THRESHOLD,
    **options: Any,
) -> Annotations:
    boxes = arrays["boxes"]
    rows, labels, scores = choose(arrays["scores"], boxes, logits=False, **options)
    held = arrays["vertices"][rows] >= vertex_threshold
    outlines = polygons_through(arrays["polygons"][rows], held)
    return Annotations(boxes[rows], labels, scores=scores, polygons=outlines)


def _points_found(encoder: KeypointGridEncoder, arrays: Arrays, **options: Any) -> Annotations:
    return encoder.detect(arrays["scores"], arrays["points"], logits=False, **options)


def _poses_found(encoder: PoseEncoder, arrays: Arrays, **options: Any) -> Annotations:
    return encoder.detect(
        partial(detect, arrays["scores"], arrays["boxes"], logits=False),
        partial(
            encoder.keypoints.detect, arrays["point_scores"], arrays["points"], logits=False
        ),
        **options,
    )  # fmt: skip


_BOXES: Final = "y_min, x_min, y_max, x_max in pixels of the input"
_SCORES: Final = "in [0, 1], each class by itself"
_POINTS: Final = "y, x in pixels of the input"
_ON_ANCHORS: Final = {
    "boxes": f"float32 (1, anchors, 4): {_BOXES}",
    "scores": f"float32 (1, anchors, classes): {_SCORES}",
}
_IN_CELLS: Final = {
    "boxes": f"float32 (1, places, 4): {_BOXES}; places in the order grid, row, column, anchor",
    "scores": f"float32 (1, places, classes): {_SCORES}: objectness times class",
}

DECODINGS: Final[Mapping[str, Decoding]] = {
    "anchor": Decoding(_ON_ANCHORS, _anchor_graph, _boxes_found, lambda encoder: encoder),
    "mask": Decoding(
        _ON_ANCHORS
        | {
            "coefficients": "float32 (1, anchors, prototypes): weights in (-1, 1)",
            "prototypes": "float32 (1, rows, columns, prototypes): from 0; a mask is where their "
            "weighted sum, interpolated linearly, is above 0 in the box",
        },
        _mask_graph, _masks_found, lambda encoder: encoder.boxes,
    ),
    "fcos": Decoding(
        {
            "boxes": f"float32 (1, points, 4): {_BOXES}; points in the order level, row, column",
            "scores": f"float32 (1, points, classes): {_SCORES}, with the centre-ness",
        },
        _fcos_graph, _boxes_found, lambda _encoder: None,
    ),
    "centernet": Decoding(
        {
            "boxes": f"float32 (1, cells, 4): {_BOXES}; cells in the order row, column",
            "scores": f"float32 (1, rows, columns, classes): {_SCORES}; an object is a peak",
        },
        _center_graph, _peaks_found, lambda _encoder: None,
    ),
    "yolo": Decoding(_IN_CELLS, _yolo_graph, _boxes_found, lambda _encoder: None),
    "polygon": Decoding(
        _IN_CELLS
        | {
            "polygons": f"float32 (1, places, bins, 2): {_POINTS}, by angle around the centre",
            "vertices": "float32 (1, places, bins): confidence, in [0, 1], that there is a vertex",
        },
        _polygon_graph, _polygons_found, lambda _encoder: None,
    ),
    "keypoint-grid": Decoding(
        {
            "points": f"float32 (1, slots, 2): {_POINTS}; slots in the order grid, row, column, slot",
            "scores": f"float32 (1, slots, classes): {_SCORES}",
        },
        _keypoint_graph, _points_found, lambda _encoder: None,
    ),
    "pose": Decoding(
        _ON_ANCHORS
        | {
            "points": f"float32 (1, slots, 2): {_POINTS}; slots in the order grid, row, column, slot",
            "point_scores": f"float32 (1, slots, classes): {_SCORES}",
        },
        _pose_graph, _poses_found, lambda encoder: encoder.boxes,
    ),
}  # fmt: skip
"""Name of the encoder -> what its detectors export."""
