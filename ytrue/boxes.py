"""The one module that knows other box orders than `(y_min, x_min, y_max, x_max)`.

Every function takes and returns (..., 4) arrays and keeps the floating dtype it is given. A name
says the order on the other side: `xywh` is `(x_min, y_min, width, height)`, `xyxy` is
`(x_min, y_min, x_max, y_max)`, `cxcywh` is `(x_centre, y_centre, width, height)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def from_xyxy(xyxy: Array) -> Array:
    """Return `(y_min, x_min, y_max, x_max)` of `(x_min, y_min, x_max, y_max)`."""
    return xyxy[..., [1, 0, 3, 2]]


def to_xyxy(boxes: Array) -> Array:
    """Return `(x_min, y_min, x_max, y_max)`."""
    return boxes[..., [1, 0, 3, 2]]


def from_xywh(xywh: Array) -> Array:
    """Return boxes of COCO's `(x_min, y_min, width, height)`."""
    x, y, width, height = np.moveaxis(xywh, -1, 0)
    return np.stack((y, x, y + height, x + width), axis=-1)


def to_xywh(boxes: Array) -> Array:
    """Return COCO's `(x_min, y_min, width, height)`."""
    y_min, x_min, y_max, x_max = np.moveaxis(boxes, -1, 0)
    return np.stack((x_min, y_min, x_max - x_min, y_max - y_min), axis=-1)


def from_cxcywh(cxcywh: Array, height: float = 1.0, width: float = 1.0) -> Array:
    """Return boxes of YOLO's `(x_centre, y_centre, width, height)`, scaled by the image size."""
    x, y, w, h = np.moveaxis(cxcywh, -1, 0)
    edges = (y - h / 2) * height, (x - w / 2) * width, (y + h / 2) * height, (x + w / 2) * width
    return np.stack(edges, axis=-1)


def to_cxcywh(boxes: Array, height: float = 1.0, width: float = 1.0) -> Array:
    """Return YOLO's `(x_centre, y_centre, width, height)`, divided by the image size."""
    y_min, x_min, y_max, x_max = np.moveaxis(boxes, -1, 0)
    y, x = (y_min + y_max) / 2 / height, (x_min + x_max) / 2 / width
    return np.stack((x, y, (x_max - x_min) / width, (y_max - y_min) / height), axis=-1)


def points_from_xy(xy: Array) -> Array:
    """Return (..., 2 or more) points as `(y, x, ...)` of `(x, y, ...)`, and the reverse."""
    return np.concatenate((xy[..., 1::-1], xy[..., 2:]), axis=-1)


points_to_xy = points_from_xy


def area(boxes: Array) -> Array:
    """Return height times width; negative where a box is inverted along one axis."""
    sides: Array = boxes[..., 2:] - boxes[..., :2]
    return np.asarray(sides[..., 0] * sides[..., 1])


def has_area(boxes: Array) -> NDArray[np.bool_]:
    """Return where a box is finite with both sides longer than 0."""
    ordered = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return ordered & np.isfinite(boxes).all(axis=-1)


def clip(boxes: Array, height: float, width: float) -> Array:
    """Return the part of each box inside `(0, 0, height, width)`."""
    limit = np.asarray((height, width, height, width), boxes.dtype)
    return np.asarray(np.clip(boxes, np.zeros(4, boxes.dtype), limit))


def intersection(a: Array, b: Array) -> Array:
    """Return the area that boxes a (..., 4) and b (..., 4) share, elementwise."""
    height = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    width = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.asarray(np.maximum(height, 0) * np.maximum(width, 0))


def iou(a: Array, b: Array) -> Array:
    """Return intersection over union, elementwise; 0 where they do not intersect."""
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0))
