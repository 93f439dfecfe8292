"""One linear map from an image to the frame, and what it does to annotations.

A flip, a scale and a shift; what lands outside the frame is cut off, and what disappears counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes as box_math
from ytrue.annotations import Annotations, Polygon
from ytrue.rle import RLE


@dataclass(frozen=True, slots=True)
class Mapping:
    """x' = x * scale_x + shift_x (of the flipped image where `flip`), y' likewise.

    Attributes:
        source: (height, width) of the image.
        frame: (height, width) it is mapped into.
        scale_y, scale_x, shift_y, shift_x: the map, pixels.
        flip: whether the image is mirrored left to right first.
    """

    source: tuple[int, int]
    frame: tuple[int, int]
    scale_y: float
    scale_x: float
    shift_y: float = 0.0
    shift_x: float = 0.0
    flip: bool = False

    def points(self, yx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., 2) points y, x mapped into the frame."""
        y, x = yx[..., 0].astype(np.float64), yx[..., 1].astype(np.float64)
        x = self.source[1] - x if self.flip else x
        mapped = (y * self.scale_y + self.shift_y, x * self.scale_x + self.shift_x)
        return np.stack(mapped, axis=-1).astype(np.float32)

    def boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 4) boxes mapped into the frame, not clipped."""
        low, high = self.points(boxes[:, :2]), self.points(boxes[:, 2:])
        if self.flip:
            low[:, 1], high[:, 1] = high[:, 1].copy(), low[:, 1].copy()
        return np.concatenate((low, high), axis=1)

    @property
    def content(self) -> tuple[float, float, float, float] | None:
        """The part of the frame that shows the image; None where it is all of it."""
        y_max = min(self.frame[0], self.source[0] * self.scale_y + self.shift_y)
        x_max = min(self.frame[1], self.source[1] * self.scale_x + self.shift_x)
        content = (max(0.0, self.shift_y), max(0.0, self.shift_x), y_max, x_max)
        return None if content == (0.0, 0.0, *map(float, self.frame)) else content

    def mask(self, mask: RLE) -> RLE:
        """Return a mask mapped into the frame, by the nearest pixel."""
        pixels = mask.decode()
        pixels = pixels[:, ::-1] if self.flip else pixels
        frame = np.zeros(self.frame, np.uint8)
        rows, from_rows = _nearest(self.frame[0], self.scale_y, self.shift_y, pixels.shape[0])
        columns, from_columns = _nearest(self.frame[1], self.scale_x, self.shift_x, pixels.shape[1])
        frame[np.ix_(rows, columns)] = pixels[np.ix_(from_rows, from_columns)]
        return RLE.from_mask(frame)

    def apply(
        self,
        annotations: Annotations,
        *,
        keypoint_flips: Sequence[tuple[int, int]] = (),
        min_side: float = 1.0,
    ) -> tuple[Annotations, Counter[str]]:
        """Return the annotations in the frame, and what was lost on the way, counted."""
        keypoints = annotations.keypoints
        if keypoints is not None:
            keypoints = np.concatenate(
                (self.points(keypoints[..., :2]), keypoints[..., 2:]), axis=-1
            )
            if self.flip:
                keypoints = swap_keypoints(keypoints, keypoint_flips)
        moved = annotations.replace(
            boxes=self.boxes(annotations.boxes),
            keypoints=keypoints,
            polygons=None
            if annotations.polygons is None
            else [tuple(self.points(part) for part in outline) for outline in annotations.polygons],
            masks=None
            if annotations.masks is None
            else [mask if mask is None else self.mask(mask) for mask in annotations.masks],
            content=self.content,
        )
        return cut_to_frame(moved, self.frame, min_side=min_side)


def _nearest(
    size: int, scale: float, shift: float, source: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the frame's cells that show the source, and the source's cells they show."""
    place = np.floor((np.arange(size) + 0.5 - shift) / scale).astype(np.intp)
    inside = np.flatnonzero((place >= 0) & (place < source))
    return inside, place[inside]


def swap_keypoints(
    keypoints: NDArray[np.float32], flips: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """Return (N, K, 3) keypoints with each pair of left and right exchanged."""
    order = np.arange(keypoints.shape[1])
    for left, right in flips:
        if max(left, right) < len(order):
            order[[left, right]] = order[[right, left]]
    return keypoints[:, order]


def cut_to_frame(
    annotations: Annotations, frame: tuple[int, int], *, min_side: float
) -> tuple[Annotations, Counter[str]]:
    """Cut annotations to the content (or frame); drop and count objects of which nothing is left.

    An object is dropped where a side of its box is below `min_side` pixels afterwards and was not
    before, or where nothing of it is inside. Keypoints outside become unlabelled.
    """
    counts: Counter[str] = Counter()
    y_min, x_min, y_max, x_max = annotations.content or (0.0, 0.0, *map(float, frame))
    limit = np.array((y_min, x_min, y_max, x_max), np.float32)
    boxes = annotations.boxes
    low = np.maximum(boxes[:, :2], limit[:2])
    high = np.minimum(boxes[:, 2:], limit[2:])
    cut = np.concatenate((low, high), axis=1)
    alive = box_math.has_area(cut)
    sides, before = high - low, boxes[:, 2:] - boxes[:, :2]
    alive &= ((sides >= min_side) | (sides >= before - 1e-3)).all(axis=1)
    counts["dropped: left the frame"] += int((~alive).sum())
    counts["clipped at the frame"] += int((alive & (cut != boxes).any(axis=1)).sum())
    kept = annotations.replace(boxes=cut).select(alive)
    if kept.polygons is not None:
        kept = kept.replace(polygons=[_clip_outline(outline, limit) for outline in kept.polygons])
    if kept.keypoints is not None:
        points = kept.keypoints.copy()
        outside = ((points[..., :2] < limit[:2]) | (points[..., :2] > limit[2:])).any(axis=-1)
        counts["keypoints: left the frame"] += int((outside & (points[..., 2] > 0)).sum())
        points[outside, 2] = 0
        kept = kept.replace(keypoints=points)
    return kept, counts


def _clip_outline(outline: Polygon, limit: NDArray[np.float32]) -> Polygon:
    clipped = (_clip_polygon(part, limit) for part in outline)
    return tuple(part for part in clipped if len(part) >= 3)


def _clip_polygon(points: NDArray[np.float32], limit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a polygon cut to a rectangle, edge by edge (Sutherland and Hodgman, 1974)."""
    for axis in (0, 1):
        for bound, sign in ((limit[axis], 1.0), (limit[axis + 2], -1.0)):
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
