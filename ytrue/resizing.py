"""Fitting an image and its annotations into the network's input size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Polygon
from ytrue.errors import check_choice
from ytrue.rle import RLE

ResizeMode = Literal["letterbox", "stretch"]
RESIZE_MODES: Final = ("letterbox", "stretch")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image of `source` (height, width) lands in a frame of `frame` (height, width).

    A point (y, x) of the source goes to (y * scale_y, x * scale_x): the image keeps the upper
    left corner, what remains to the right or below is padding, as google/automl does it.
    """

    source: tuple[int, int]
    frame: tuple[int, int]
    size: tuple[int, int]

    @property
    def scale_y(self) -> float:
        """Factor for y."""
        return self.size[0] / self.source[0]

    @property
    def scale_x(self) -> float:
        """Factor for x."""
        return self.size[1] / self.source[1]

    @property
    def content(self) -> tuple[float, float, float, float] | None:
        """The image's part of the frame, or None where there is no padding."""
        if self.size == self.frame:
            return None
        return 0.0, 0.0, float(self.size[0]), float(self.size[1])

    def apply(self, annotations: Annotations) -> Annotations:
        """Return the annotations in the frame's pixels, with `content` set."""
        yx = np.array((self.scale_y, self.scale_x))
        keypoints = annotations.keypoints
        if keypoints is not None:
            keypoints = np.concatenate((keypoints[..., :2] * yx, keypoints[..., 2:]), axis=-1)
        return annotations.replace(
            boxes=annotations.boxes * np.tile(yx, 2),
            keypoints=keypoints,
            polygons=None
            if annotations.polygons is None
            else [_scale(outline, yx) for outline in annotations.polygons],
            masks=None
            if annotations.masks is None
            else [self._mask(mask) for mask in annotations.masks],
            content=self.content,
        )

    def _mask(self, mask: RLE | None) -> RLE | None:
        if mask is None:
            return None
        pixels = mask.decode()
        rows = _nearest(self.size[0], pixels.shape[0])
        columns = _nearest(self.size[1], pixels.shape[1])
        frame = np.zeros(self.frame, np.uint8)
        frame[: self.size[0], : self.size[1]] = pixels[rows[:, None], columns]
        return RLE.from_mask(frame)

    def undo(self, yx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., 4) boxes or (..., 2) points of the frame in the source's pixels."""
        scale = np.tile((self.scale_y, self.scale_x), yx.shape[-1] // 2)
        return np.asarray(yx / scale, np.float32)

    def undo_mask(self, mask: RLE) -> RLE:
        """Return a mask of the frame in the source's pixels: each has what its centre hits."""
        content = mask.decode()[: self.size[0], : self.size[1]]
        rows, columns = (_nearest(self.source[axis], self.size[axis]) for axis in (0, 1))
        return RLE.from_mask(content[rows[:, None], columns])


def place(source: tuple[int, int], frame: tuple[int, int], mode: ResizeMode) -> Placement:
    """Return where an image of `source` (height, width) lands in `frame`.

    Args:
        source: (height, width) of the image, pixels.
        frame: (height, width) of the network input, pixels.
        mode: "letterbox" keeps the aspect ratio and pads, "stretch" fills the frame.

    Raises:
        ValueError: an unknown mode or a size below 1 pixel.
    """
    check_choice("resize", mode, RESIZE_MODES)
    if min(*source, *frame) < 1:
        raise ValueError(f"cannot place an image of {source} in {frame}: a side is below 1 pixel")
    if mode == "stretch":
        return Placement(source, frame, frame)
    scale = min(frame[0] / source[0], frame[1] / source[1])
    height, width = (min(frame[axis], max(1, int(source[axis] * scale + 0.5))) for axis in (0, 1))
    return Placement(source, frame, (height, width))


def _scale(outline: Polygon, yx: NDArray[np.float64]) -> Polygon:
    return tuple((part * yx).astype(np.float32) for part in outline)


def _nearest(size: int, source: int) -> NDArray[np.intp]:
    centres = (np.arange(size) + 0.5) * (source / size)
    return np.minimum(centres.astype(np.intp), source - 1)
