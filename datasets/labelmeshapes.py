"""One shape of a LabelMe file, checked: an outline, a point or a mask."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets.pictures import opened
from ytrue.limits import too_large

CIRCLE_VERTICES: Final = 36
_LARGEST: Final = 2**31 - 1  # pixels; no image is larger, and no sum of such numbers overflows
_AXIS_TOLERANCE: Final = 0.01  # pixels: four corners further from a box's are a turned one
_KNOWN: Final = frozenset(
    ("label", "points", "shape_type", "group_id", "mask", "line_color", "fill_color")
)
_MEANS_NOTHING: Final[tuple[object, ...]] = (None, "", {}, [], False)


@dataclass(frozen=True)
class Shape:
    """A shape that is an object, a part of one, or a keypoint.

    Attributes:
        number: its position in the file, from 0.
        kind: "polygon", "rectangle", "mask" or "point".
        label: its class, or the keypoint's name.
        group: what ties it to others; None: nothing.
        outline: (V, 2) y, x pixels; of a mask its two corners' box.
        mask: a mask's PNG as base64, "" for other kinds.
        extra: its further fields.
    """

    number: int
    kind: str
    label: str
    group: int | float | str | None
    outline: NDArray[np.float64]
    mask: str
    extra: Mapping[str, Any]


def read_shape(given: Any, number: int) -> Shape:
    """Return a shape of a file.

    Raises:
        ValueError: it is none that is read.
    """
    if not isinstance(given, dict):
        raise ValueError(f"a {type(given).__name__}: not a JSON object")
    kind = given.get("shape_type") or "polygon"
    if not isinstance(kind, str):
        raise ValueError(f"shape_type is {repr(kind)[:60]}")
    try:
        label, group, points = _label(given), _group(given), _points(given)
        found, outline = _outline(kind, points)
    except ValueError as error:
        raise ValueError(f"a {kind[:60]}: {error}") from None
    mask = given.get("mask") if found == "mask" else ""
    extra = {k: v for k, v in given.items() if k not in _KNOWN and v not in _MEANS_NOTHING}
    if group is not None:
        extra["group_id"] = group
    return Shape(number, found, label, group, outline, mask if isinstance(mask, str) else "", extra)


def _label(given: Mapping[str, Any]) -> str:
    label = given.get("label")
    if isinstance(label, bool) or not isinstance(label, (str, int, float)) or label == "":
        raise ValueError(f"its label is {repr(label)[:60]}, expected a name")
    return str(label)


def _group(given: Mapping[str, Any]) -> int | float | str | None:
    group = given.get("group_id")
    if not isinstance(group, (int, float, str, type(None))):
        raise ValueError(f"group_id is {repr(group)[:60]}")
    return group


def _points(given: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the points, (V, 2) y, x."""
    points = given.get("points")
    if not isinstance(points, list):
        raise ValueError(f"its points are {repr(points)[:60]}, expected a list")
    for point in points:
        if not (isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))):
            raise ValueError(f"a point is {repr(point)[:60]}, expected two numbers of pixels")
    return boxes.points_from_xy(np.array(points, np.float64).reshape(-1, 2))


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that pixels can have; nan and infinity are none."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -_LARGEST <= value <= _LARGEST


def _outline(kind: str, points: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
    """Return what a shape is here, and its outline."""
    count = len(points)
    if kind in ("rectangle", "mask") and count == 2:
        return kind, _corners(points)
    if kind == "rectangle" and count == 4:
        corners = _corners(points)
        return ("rectangle", corners) if _is_box(points, corners) else ("polygon", points)
    if kind in ("rotation", "oriented_rectangle", "quadrilateral") and count == 4:
        return "polygon", points
    if kind == "circle" and count == 2:
        angle = np.arange(CIRCLE_VERTICES) * (math.tau / CIRCLE_VERTICES)
        radius = float(np.hypot(*(points[1] - points[0])))
        return "polygon", points[0] + radius * np.column_stack((np.sin(angle), np.cos(angle)))
    if kind == "polygon" and count >= 3:
        return "polygon", points
    if kind == "point" and count == 1:
        return "point", points
    raise ValueError(f"{count} points of this kind are not read as an object")


def _corners(points: NDArray[np.float64]) -> NDArray[np.float64]:
    (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0)
    return np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])


def _is_box(points: NDArray[np.float64], corners: NDArray[np.float64]) -> bool:
    """Return whether each of four corners has a point of its own."""
    near = np.abs(points[:, None] - corners).max(axis=-1) <= _AXIS_TOLERANCE  # (point, corner)
    return bool(near.any(axis=0).all())


def sides_of(content: Mapping[str, Any]) -> tuple[int, int]:
    """Return the (height, width) that a file gives, zeros where it gives none that is possible."""
    sides = [content.get(name) for name in ("imageHeight", "imageWidth")]
    if not all(_is_number(side) and side >= 1 for side in sides):  # type: ignore[operator]
        return 0, 0
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]


def embedded_size(data: str, file: Path) -> tuple[int, int]:
    """Return the (height, width) of an image that lies in its file as base64.

    Raises:
        DataError: it cannot be read.
    """
    with opened(io.BytesIO(_bytes(data)), f"{file}, imageData") as image:
        return image.height, image.width


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return b""  # which is no image either


def read_mask(shape: Shape, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask shape's mask in its image, (height, width).

    The PNG is of the part from the first corner on, the last row and column included.

    Raises:
        ValueError: not a PNG, nothing in it, an image too large or of unknown size.

    Reference: labelme/utils/shape.py, shapes_to_label.
    """
    if not all(size):
        raise ValueError("a mask in an image of unknown size")
    refusal = too_large(*size)
    if refusal:
        raise ValueError(f"a mask in an image that is too large: {refusal}")
    with opened(io.BytesIO(_bytes(shape.mask)), "the mask") as image:
        refusal = too_large(image.height, image.width)
        if refusal:
            raise ValueError(f"the mask is too large: {refusal}")
        part = np.asarray(image.convert("L")) > 0
    whole = np.zeros(size, bool)
    y, x = (int(start) for start in shape.outline[0])
    if not (-part.shape[0] < y < size[0] and -part.shape[1] < x < size[1]):
        raise ValueError(f"its corner x {x}, y {y} lies outside of the image")
    shown = part[max(0, -y) : size[0] - y, max(0, -x) : size[1] - x]
    whole[max(0, y) : max(0, y) + shown.shape[0], max(0, x) : max(0, x) + shown.shape[1]] = shown
    if not whole.any():
        raise ValueError("nothing is set in the mask")
    return whole
