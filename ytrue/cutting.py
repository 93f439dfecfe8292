"""Cutting annotations to what a frame shows of an image, and what becomes of what is cut off."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes as box_math
from ytrue.annotations import Annotations, Polygon

Window = tuple[float, float, float, float]
"""(y_min, x_min, y_max, x_max), pixels of the frame."""

EVERYWHERE: Final[Window] = (-np.inf, -np.inf, np.inf, np.inf)


def cut(
    annotations: Annotations,
    image: Window,
    shown: Window,
    *,
    frame: tuple[int, int] = (0, 0),
    min_side: float = 1.0,
) -> tuple[Annotations, Counter[str]]:
    """Return annotations cut to what is shown of an image, and what was lost on the way, counted.

    Boxes and outlines end where what is shown ends. An object is dropped where the frame, and not
    the image, cuts it: where that leaves nothing, or a side below `min_side` pixels that was longer
    in the image. A keypoint that lies in the image and is not shown becomes unlabelled. Objects
    without area, not finite or outside the image, and keypoints outside the image, are never taught:
    they stay, so that the encoder says so of each.

    Args:
        annotations: the objects, in the frame's pixels.
        image: where all of the image lies in the frame and beyond it.
        shown: the part of it that the frame shows.
        frame: (height, width), where it may be larger than what is shown: an object that lies in
            the padding alone is left without area.
        min_side: pixels.
    """
    counts: Counter[str] = Counter()
    boxes = annotations.boxes
    window = np.array(shown, np.float32)
    inside = bool((boxes[:, :2] >= window[:2]).all() and (boxes[:, 2:] <= window[2:]).all())
    if not inside:  # NaN is not
        annotations = _cut_boxes(annotations, image, window, frame, min_side, counts)
    if annotations.polygons is not None:
        annotations = annotations.replace(
            polygons=[_cut_outline(outline, window) for outline in annotations.polygons]
        )
    if annotations.keypoints is not None and image != shown:
        annotations = _hide_keypoints(annotations, image, window, counts)
    return annotations, counts


def _cut_boxes(
    annotations: Annotations,
    image: Window,
    window: NDArray[np.float32],
    frame: tuple[int, int],
    min_side: float,
    counts: Counter[str],
) -> Annotations:
    boxes = annotations.boxes
    whole, part = _common(boxes, np.array(image, np.float32)), _common(boxes, window)
    seen = box_math.has_area(boxes) & box_math.has_area(whole)
    sides, before = part[:, 2:] - part[:, :2], whole[:, 2:] - whole[:, :2]
    with np.errstate(invalid="ignore"):  # of boxes that are not finite
        enough = ((sides >= min_side) | (sides >= before - 1e-3)).all(axis=1)
    gone = seen & ~(box_math.has_area(part) & enough)
    counts["dropped: left the frame"] += int(gone.sum())
    counts["clipped at the frame"] += int((seen & ~gone & (part != boxes).any(axis=1)).sum())
    in_frame = box_math.has_area(_common(boxes, np.array((0, 0, *frame), np.float32)))
    padding = ~seen & in_frame & box_math.has_area(boxes)
    empty = np.clip(boxes, np.tile(window[:2], 2), np.tile(window[2:], 2))
    cut_boxes = np.where(seen[:, None], part, np.where(padding[:, None], empty, boxes))
    return annotations.replace(boxes=cut_boxes).select(~gone)


def _common(boxes: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(boxes[:, :2], window[:2])
    return np.concatenate((low, np.minimum(boxes[:, 2:], window[2:])), axis=1)


def _hide_keypoints(
    annotations: Annotations, image: Window, window: NDArray[np.float32], counts: Counter[str]
) -> Annotations:
    assert annotations.keypoints is not None
    points = annotations.keypoints.copy()
    whole = np.array(image, np.float32)
    hidden = _within(points, whole) & ~_within(points, window)
    counts["keypoints: left the frame"] += int((hidden & (points[..., 2] > 0)).sum())
    points[hidden, 2] = 0
    return annotations.replace(keypoints=points)


def _within(points: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.bool_]:
    yx = points[..., :2]
    return np.asarray(((yx >= window[:2]) & (yx <= window[2:])).all(axis=-1))


def _cut_outline(outline: Polygon, window: NDArray[np.float32]) -> Polygon:
    parts = (_cut_polygon(part, window) for part in outline)
    return tuple(part for part in parts if len(part) >= 3)


def _cut_polygon(points: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a polygon cut to a window, edge by edge (Sutherland and Hodgman, 1974)."""
    for axis in (0, 1):
        for bound, sign in ((window[axis], 1.0), (window[axis + 2], -1.0)):
            if not len(points):
                return points
            depth = sign * (points[:, axis] - bound)  # inside: not negative
            if (depth >= 0).all():
                continue
            after, next_depth = np.roll(points, -1, axis=0), np.roll(depth, -1)
            crosses = (depth >= 0) != (next_depth >= 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = (depth / (depth - next_depth))[:, None]
                crossing = points + share * (after - points)
            rows = np.stack((points, crossing), axis=1).reshape(-1, 2)
            keep = np.stack((depth >= 0, crosses), axis=1).ravel()
            points = rows[keep].astype(np.float32)
    return points
