"""`Annotations`, the one type that readers, encoders, models and pictures hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ytrue import boxes as box_math
from ytrue.rle import RLE

Polygon = tuple[NDArray[np.float32], ...]
"""One object's outline: one (V, 2) float32 array of (y, x) pixels for each of its parts."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The objects of one image, in the pixels of that image.

    A frozen value: methods return new ones. It takes any boxes, also empty, inverted or
    non-finite ones; what becomes of those is the stated rule of whoever uses it.

    Attributes:
        boxes: (N, 4) float32 `(y_min, x_min, y_max, x_max)`, pixels, continuous edges.
        labels: (N,) int32 class indices from 0, no background class.
        crowd: (N,) bool, True for a region of "many, not separated".
        keypoints: (N, K, 3) float32 `(y, x, visibility)`, or None. Visibility: 0 unlabelled,
            1 hidden, 2 visible.
        polygons: N outlines, each a tuple of parts, each part (V, 2) float32 `(y, x)`; an object
            without outline has no parts. None where no object has one.
        masks: N run-length encoded masks of the image's size, None for an object without; None
            where no object has one.
        scores: (N,) float32 where the objects are predictions, None for ground truth.
        content: the part of the frame that shows the image, `(y_min, x_min, y_max, x_max)`
            pixels; what lies outside is padding. None: the whole frame.
        image_size: (height, width) of the image or frame that the pixels are of, where it is known,
            as in a dataset and after placing: encoders refuse those of another frame. Not compared.

    Raises:
        ValueError: an array whose shape or length does not fit the boxes.

    Example:
        >>> objects = Annotations(boxes=[[10, 20, 50, 80]], labels=[3])
        >>> objects.boxes.dtype, len(objects)
        (dtype('float32'), 1)
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    crowd: NDArray[np.bool_]
    keypoints: NDArray[np.float32] | None
    polygons: tuple[Polygon, ...] | None
    masks: tuple[RLE | None, ...] | None
    scores: NDArray[np.float32] | None
    content: tuple[float, float, float, float] | None
    image_size: tuple[int, int] | None

    def __init__(
        self,
        boxes: ArrayLike = (),
        labels: ArrayLike = (),
        crowd: ArrayLike | None = None,
        keypoints: ArrayLike | None = None,
        polygons: Sequence[Sequence[ArrayLike]] | None = None,
        masks: Sequence[RLE | NDArray[np.generic] | None] | None = None,
        scores: ArrayLike | None = None,
        content: Sequence[float] | None = None,
        image_size: Sequence[int] | None = None,
    ) -> None:
        box_array = np.ascontiguousarray(boxes, np.float32)
        if box_array.size == 0:
            box_array = box_array.reshape(0, 4)
        if box_array.ndim != 2 or box_array.shape[1] != 4:
            raise ValueError(
                f"boxes has shape {box_array.shape}, expected (N, 4): y_min, x_min, y_max, x_max"
            )
        n = len(box_array)
        _set(self, "boxes", box_array)
        _set(self, "labels", _labels(labels, n))
        _set(self, "crowd", np.zeros(n, bool) if crowd is None else _row("crowd", crowd, bool, n))
        _set(self, "keypoints", None if keypoints is None else _keypoints(keypoints, n))
        _set(self, "polygons", None if polygons is None else _polygons(polygons, n))
        _set(self, "masks", None if masks is None else _masks(masks, n))
        _set(self, "scores", None if scores is None else _row("scores", scores, np.float32, n))
        _set(self, "content", None if content is None else tuple(float(edge) for edge in content))
        _set(self, "image_size", None if image_size is None else _size(image_size))

    @classmethod
    def from_xyxy(
        cls,
        boxes: ArrayLike,
        labels: ArrayLike,
        crowd: ArrayLike | None = None,
        *,
        image_size: Sequence[int] | None = None,
        normalised: bool = False,
    ) -> Annotations:
        """Return the annotations of boxes `(x_min, y_min, x_max, y_max)`.

        Args:
            boxes: (N, 4) pixels.
            labels, crowd: as above; more is added with `replace`.
            image_size: (height, width) of the image, pixels.
            normalised: the boxes are shares of the image's width and height, as YOLO has them.

        Raises:
            ValueError: normalised boxes without `image_size`, or boxes of another shape.

        Example:
            >>> Annotations.from_xyxy([(20, 10, 80, 50)], [3]).boxes.tolist()
            [[10.0, 20.0, 50.0, 80.0]]
        """
        return cls._ordered(box_math.from_xyxy, boxes, labels, crowd, image_size, normalised)

    @classmethod
    def from_xywh(
        cls,
        boxes: ArrayLike,
        labels: ArrayLike,
        crowd: ArrayLike | None = None,
        *,
        image_size: Sequence[int] | None = None,
        normalised: bool = False,
    ) -> Annotations:
        """Return the annotations of COCO's `(x_min, y_min, width, height)`; see `from_xyxy`."""
        return cls._ordered(box_math.from_xywh, boxes, labels, crowd, image_size, normalised)

    @classmethod
    def from_cxcywh(
        cls,
        boxes: ArrayLike,
        labels: ArrayLike,
        crowd: ArrayLike | None = None,
        *,
        image_size: Sequence[int] | None = None,
        normalised: bool = False,
    ) -> Annotations:
        """Return the annotations of `(x_centre, y_centre, width, height)`; see `from_xyxy`.

        Example:
            >>> yolo = [(0.5, 0.25, 0.1, 0.5)]
            >>> found = Annotations.from_cxcywh(yolo, [0], image_size=(480, 640), normalised=True)
            >>> found.boxes.tolist()
            [[0.0, 288.0, 240.0, 352.0]]
        """
        return cls._ordered(box_math.from_cxcywh, boxes, labels, crowd, image_size, normalised)

    @classmethod
    def _ordered(
        cls,
        order: Callable[[NDArray[Any]], NDArray[Any]],
        boxes: ArrayLike,
        labels: ArrayLike,
        crowd: ArrayLike | None,
        image_size: Sequence[int] | None,
        normalised: bool,
    ) -> Annotations:
        if normalised and image_size is None:
            raise ValueError("normalised=True: the image's image_size=(height, width) is needed")
        given = np.asarray(boxes, np.float64)
        if given.size and (given.ndim != 2 or given.shape[1] != 4):
            raise ValueError(f"boxes has shape {given.shape}, expected (N, 4)")
        found = order(given.reshape(-1, 4))
        if normalised and image_size is not None:
            found = found * np.tile(_size(image_size), 2)
        return cls(found, labels, crowd, image_size=image_size)

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        extras = [name for name in _COMPARED[3:] if getattr(self, name) is not None]
        with_extras = f", with {', '.join(extras)}" if extras else ""
        return f"Annotations({len(self)} objects, {int(self.crowd.sum())} crowd{with_extras})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Annotations):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in _COMPARED)

    __hash__ = None  # type: ignore[assignment]

    def replace(self, **changes: Any) -> Annotations:
        """Return a copy with the given fields changed and everything checked again."""
        return replace(self, **changes)

    def select(self, index: ArrayLike) -> Annotations:
        """Return the objects that a boolean mask or a list of indices picks, in that order."""
        rows = np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp)
        return Annotations(
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            polygons=None if self.polygons is None else [self.polygons[i] for i in rows],
            masks=None if self.masks is None else [self.masks[i] for i in rows],
            scores=None if self.scores is None else self.scores[rows],
            content=self.content,
            image_size=self.image_size,
        )


_COMPARED: Final = tuple(f.name for f in fields(Annotations) if f.name != "image_size")


@dataclass(frozen=True, eq=False)
class Example:
    """One image of a dataset with its objects; the pixels stay in the file.

    Attributes:
        image_id: the image's id in the annotation file.
        path: the image file.
        height, width: size in pixels of the image as it is shown (EXIF orientation applied);
            the frame of `annotations`.
        annotations: the objects.
        annotation_ids: the objects' ids in the annotation file, in the same order.
        classes: names of the labels, for showing; may be empty.
    """

    image_id: int | str
    path: Path
    height: int
    width: int
    annotations: Annotations
    annotation_ids: tuple[int | str, ...] = ()
    classes: tuple[str, ...] = field(default=(), repr=False)

    def _repr_png_(self) -> bytes | None:
        from ytrue import notebook

        return notebook.png(self)


def _set(value: object, name: str, content: object) -> None:
    object.__setattr__(value, name, content)  # the class is frozen


def _size(image_size: Sequence[int]) -> tuple[int, int]:
    height, width = image_size
    return int(height), int(width)


def _row(name: str, values: ArrayLike, dtype: type, n: int) -> NDArray[Any]:
    array: NDArray[Any] = np.ascontiguousarray(values, dtype)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n},): one for each box")
    return array


def _labels(labels: ArrayLike, n: int) -> NDArray[np.int32]:
    array = np.asarray(labels)
    if array.size and array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
        raise ValueError(f"labels must be whole numbers, got {array[array != np.trunc(array)][0]}")
    return _row("labels", array, np.int32, n)


def _keypoints(keypoints: ArrayLike, n: int) -> NDArray[np.float32]:
    array = np.ascontiguousarray(keypoints, np.float32)
    if array.ndim != 3 or array.shape[0] != n or array.shape[2] != 3:
        raise ValueError(
            f"keypoints has shape {array.shape}, expected ({n}, K, 3): y, x, visibility"
        )
    return array


def _polygons(polygons: Sequence[Sequence[ArrayLike]], n: int) -> tuple[Polygon, ...]:
    if len(polygons) != n:
        raise ValueError(f"polygons has {len(polygons)} entries, expected {n}: one for each box")
    return tuple(tuple(_part(part) for part in outline) for outline in polygons)


def _part(part: ArrayLike) -> NDArray[np.float32]:
    array = np.ascontiguousarray(part, np.float32)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"a polygon part has shape {array.shape}, expected (V, 2): y, x")
    return array


def _masks(masks: Sequence[RLE | NDArray[np.generic] | None], n: int) -> tuple[RLE | None, ...]:
    if len(masks) != n:
        raise ValueError(f"masks has {len(masks)} entries, expected {n}: one for each box")
    return tuple(
        mask if mask is None or isinstance(mask, RLE) else RLE.from_mask(np.asarray(mask))
        for mask in masks
    )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
