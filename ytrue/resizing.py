"""The one map from an image to the network's frame, of annotations and, in `pixels`, of pixels.

Everything that shows, counts, encodes, teaches or brings back uses it, so that what is audited is
what is taught, to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example, Polygon
from ytrue.boxes import clip, has_area
from ytrue.cutting import Window, cut
from ytrue.errors import check_choice
from ytrue.rle import RLE

if TYPE_CHECKING:
    from ytrue.contract import Encoder

ResizeMode = Literal["letterbox", "stretch"]
RESIZE_MODES: Final = ("letterbox", "stretch")
_SMALLEST: Final = 32  # in a smaller frame an object of less than a pixel may be meant


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lands in a frame: mirrored or not, resized, and cut where it is larger.

    A point (y, x) of the image goes to (y * scale_y - first_y, x * scale_x - first_x). What the
    image does not cover of the frame, to the right and below, is padding, as google/automl does it.

    Attributes:
        source: (height, width) of the image, pixels.
        frame: (height, width) of the frame, pixels.
        size: (height, width) that the image is resized to, pixels.
        first: (row, column) of the resized image that lies in the frame's upper left corner.
        flip: whether the image is mirrored left to right before.
    """

    source: tuple[int, int]
    frame: tuple[int, int]
    size: tuple[int, int]
    first: tuple[int, int] = (0, 0)
    flip: bool = False

    @property
    def scale_y(self) -> float:
        """Factor for y."""
        return self.size[0] / self.source[0]

    @property
    def scale_x(self) -> float:
        """Factor for x."""
        return self.size[1] / self.source[1]

    @property
    def shown(self) -> tuple[int, int]:
        """(height, width) of the part of the frame that shows the image."""
        height, width = (min(self.frame[k], self.size[k] - self.first[k]) for k in (0, 1))
        return height, width

    @property
    def content(self) -> Window | None:
        """The image's part of the frame, or None where there is no padding."""
        return None if self.shown == self.frame else self._shown

    @property
    def _shown(self) -> Window:
        return 0.0, 0.0, float(self.shown[0]), float(self.shown[1])

    @property
    def _image(self) -> Window:
        """Where all of the image lies, in the frame and beyond it."""
        (top, left), (height, width) = self.first, self.size
        return float(-top), float(-left), float(height - top), float(width - left)

    def apply(self, annotations: Annotations) -> Annotations:
        """Return the annotations in the frame's pixels, cut to what it shows of the image.

        `content` and `image_size` are set. See `apply_counted`.
        """
        return self.apply_counted(annotations)[0]

    def apply_counted(
        self,
        annotations: Annotations,
        *,
        keypoint_flips: Sequence[tuple[int, int]] = (),
        min_side: float = 1.0,
    ) -> tuple[Annotations, Counter[str]]:
        """Return the annotations in the frame, and what was lost on the way, counted.

        Args:
            annotations: in the image's pixels.
            keypoint_flips: pairs of keypoints that change names where the image is mirrored.
            min_side: see `ytrue.cutting.cut`.

        Raises:
            ValueError: the annotations say that they are of an image of another size.
        """
        said = annotations.image_size
        if said is not None and said != self.source:
            raise ValueError(
                f"the annotations are of an image of {said[0]}x{said[1]}, this one is "
                f"{self.source[0]}x{self.source[1]} (height x width)"
            )
        keypoints = annotations.keypoints
        if keypoints is not None:
            moved = self.points(keypoints[..., :2])
            keypoints = np.concatenate((moved, keypoints[..., 2:]), axis=-1)
            keypoints = swap_keypoints(keypoints, keypoint_flips) if self.flip else keypoints
        polygons, masks = annotations.polygons, annotations.masks
        return cut(
            annotations.replace(
                boxes=self.boxes(annotations.boxes),
                keypoints=keypoints,
                polygons=None if polygons is None else [self._outline(one) for one in polygons],
                masks=None if masks is None else [self._mask(mask) for mask in masks],
                content=self._content(annotations.content),
                image_size=self.frame,
            ),
            self._image, self._shown, frame=self.frame, min_side=min_side,
        )  # fmt: skip

    def points(self, yx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., 2) points y, x in the frame's pixels, also where they lie outside it."""
        moved = yx.astype(np.float64)
        if self.flip:
            moved[..., 1] = self.source[1] - moved[..., 1]
        return np.asarray(moved * (self.scale_y, self.scale_x) - self.first, np.float32)

    def boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 4) boxes in the frame's pixels, also where they lie outside it."""
        moved = self.points(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
        return moved[:, (0, 3, 2, 1)] if self.flip else moved

    def _content(self, content: Window | None) -> Window | None:
        """Return the part of the frame that is not padding, of an image that may have some."""
        if content is None:
            return self.content
        moved = self.boxes(np.array(content, np.float32).reshape(1, 4))
        y_min, x_min, y_max, x_max = clip(moved, *self.shown)[0].tolist()
        return y_min, x_min, y_max, x_max

    def _outline(self, outline: Polygon) -> Polygon:
        return tuple(self.points(part) for part in outline)

    def _mask(self, mask: RLE | None) -> RLE | None:
        """Return a mask in the frame: each pixel has what its centre hits."""
        if mask is None:
            return None
        pixels = mask.decode()
        pixels = pixels[:, ::-1] if self.flip else pixels
        height, width = self.shown
        rows = _nearest(self.first[0], height, self.size[0], pixels.shape[0])
        columns = _nearest(self.first[1], width, self.size[1], pixels.shape[1])
        frame = np.zeros(self.frame, np.uint8)
        frame[:height, :width] = pixels[rows[:, None], columns]
        return RLE.from_mask(frame)

    def undo(self, yx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., 4) boxes or (..., 2) points in the source's pixels; of a whole image."""
        scale = np.tile((self.scale_y, self.scale_x), yx.shape[-1] // 2)
        return np.asarray(yx / scale, np.float32)

    def undo_mask(self, mask: RLE) -> RLE:
        """Return a mask in the source's pixels: each has what its centre hits; of a whole image."""
        content = mask.decode()[: self.size[0], : self.size[1]]
        rows, columns = (
            _nearest(0, self.source[axis], self.source[axis], self.size[axis]) for axis in (0, 1)
        )
        return RLE.from_mask(content[rows[:, None], columns])


def place(source: tuple[int, int], frame: tuple[int, int], mode: ResizeMode) -> Placement:
    """Return where an image of `source` (height, width) lands as a whole in `frame`.

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


def fit(
    given: Example | Annotations,
    encoder: Encoder,
    *,
    image_size: Sequence[int] | None = None,
    resize: ResizeMode = "letterbox",
) -> Annotations:
    """Return an image's annotations in the pixels of the encoder's network input.

    Args:
        given: an example, or the annotations of an image.
        encoder: any encoder.
        image_size: (height, width) of the image, pixels; needed of annotations that do not say it
            themselves, as those of a dataset do.
        resize: how the image is fitted, as in the pipeline.

    Raises:
        ValueError: nobody says the image's size, or two sizes are said.

    Example:
        >>> encoder = ytrue.encoders.preset("ytrue", 512, num_classes=3)
        >>> cat = Annotations.from_xywh([(20, 40, 100, 80)], [0], image_size=(480, 640))
        >>> ytrue.fit(cat, encoder).boxes.tolist()
        [[32.0, 16.0, 96.0, 96.0]]
    """
    said = (given.height, given.width) if isinstance(given, Example) else given.image_size
    annotations = given.annotations if isinstance(given, Example) else given
    size = said if image_size is None else (int(image_size[0]), int(image_size[1]))
    if size is None:
        raise ValueError(
            "the annotations do not say of what image they are: give its image_size=(height, width)"
        )
    if said is not None and said != size:
        raise ValueError(
            f"image_size={size}: the annotations say that their image is {said[0]}x{said[1]} "
            "(height x width)"
        )
    check_pixels(annotations, size)
    return place(size, encoder.image_size, resize).apply(annotations)


def check_pixels(annotations: Annotations, frame: tuple[int, int]) -> None:
    """Raise ValueError if boxes are shares of their image, where pixels of `frame` are due.

    That is certain of boxes that have area and lie within [0, 1], all of them, in a frame of at
    least 32 pixels a side. Annotations that say their `image_size` or `content` are in pixels.
    """
    boxes = annotations.boxes
    # The first box tells in nearly every case, and a batch is looked at before it is encoded.
    if not len(boxes) or boxes[0, 2] > 1 or boxes[0, 3] > 1:
        return
    if annotations.image_size is not None or annotations.content is not None:
        return
    shares = bool((boxes >= 0).all() and (boxes <= 1).all() and has_area(boxes).all())
    if shares and min(frame) >= _SMALLEST:
        raise ValueError(
            f"the boxes lie within 0 and 1, all {len(boxes)}: they look normalised, pixels of "
            f"{frame[0]}x{frame[1]} (height x width) are due; see "
            "Annotations.from_cxcywh(..., normalised=True), or say image_size= if they are pixels"
        )


def swap_keypoints(
    keypoints: NDArray[np.float32], flips: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """Return (N, K, 3) keypoints with each pair of left and right exchanged."""
    order = np.arange(keypoints.shape[1])
    for left, right in flips:
        if max(left, right) < len(order):
            order[[left, right]] = order[[right, left]]
    return keypoints[:, order]


def _nearest(first: int, count: int, size: int, source: int) -> NDArray[np.intp]:
    """Return the source pixel that the centre of each of `count` pixels hits, from `first`.

    In whole numbers, (first + i + 1/2) * source / size, so that a centre on the edge between two
    source pixels hits the later one at every scale.
    """
    return (2 * (first + np.arange(count)) + 1) * source // (2 * size)
