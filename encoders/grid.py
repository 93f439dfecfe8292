"""`AnchorGrid`: where anchors stand. Counts, order and boxes derive from here only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.arguments import items_of, numbers_of, whole_numbers
from ytrue.encoders.kernels.lattice import Lattice, fill_boxes, fill_edges
from ytrue.errors import check_choice, check_number, check_whole

Stride = Literal["fractional", "power", "floor"]
Precision = Literal["float32", "float64"]
AspectRatio = float | tuple[float, float]
Shape = tuple[float, float]

_STRIDES: Final = ("fractional", "power", "floor")
_PRECISIONS: Final = ("float32", "float64")


@dataclass(frozen=True)
class AnchorGrid:
    """Anchors of every level's cells, flattened by level (fine to coarse), row, column, slot.

    A level has `ceil(image size / 2^level)` cells along each axis. In a cell, slots run over the
    octaves, and within an octave over the aspect ratios. An anchor of octave o and ratio r has
    the height `anchor_scale * stride_y * 2^(o / num_scales) / sqrt(r)` and the width
    `anchor_scale * stride_x * 2^(o / num_scales) * sqrt(r)`.

    Args:
        image_size: (height, width) of the network input in pixels; one number for a square.
        min_level, max_level: finest and coarsest level; level l has the stride 2^l.
        num_scales: octaves in a cell.
        aspect_ratios: width / height of each anchor of an octave, or (width factor, height
            factor) pairs; one number for one anchor.
        anchor_scale: anchor side in strides; one number or one for each level.
        shapes: explicit (height, width) pixels of the anchors in a cell, in slot order, for each
            level; replaces the three arguments above.
        stride: pixels between cells. "fractional": image size / cells, as google/automl;
            "power": 2^level, where a convolution with "same" padding looks (fizyr, detectron2);
            "floor": image size // cells, as keras-hub. All are equal where 2^max_level divides
            the image size.
        cell_offset: of the centre inside its cell, in cells.
        precision: dtype of `boxes`, and so of matching.

    Numbers may be NumPy's, and sequences arrays: the same anchors.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        google/automl efficientdet/tf2/anchors.py.

    Example:
        >>> AnchorGrid(512).boxes.shape
        (49104, 4)
    """

    image_size: tuple[int, int]
    min_level: int = 3
    max_level: int = 7
    num_scales: int = 3
    aspect_ratios: tuple[AspectRatio, ...] = (1.0, 2.0, 0.5)
    anchor_scale: float | tuple[float, ...] = 4.0
    shapes: tuple[tuple[Shape, ...], ...] | None = None
    stride: Stride = "fractional"
    cell_offset: float = 0.5
    precision: Precision = "float32"

    def __init__(
        self,
        image_size: int | Sequence[int],
        min_level: int = 3,
        max_level: int = 7,
        num_scales: int = 3,
        aspect_ratios: float | Sequence[float | Sequence[float]] = (1.0, 2.0, 0.5),
        anchor_scale: float | Sequence[float] = 4.0,
        *,
        shapes: Sequence[Sequence[Sequence[float]]] | None = None,
        stride: Stride = "fractional",
        cell_offset: float = 0.5,
        precision: Precision = "float32",
    ) -> None:
        values: dict[str, Any] = {
            "image_size": frame_size(image_size),
            "min_level": check_whole("min_level", min_level, 0),
            "max_level": check_whole("max_level", max_level, 0),
            "num_scales": check_whole("num_scales", num_scales, 1),
            "aspect_ratios": _aspect_ratios(aspect_ratios),
            "anchor_scale": _anchor_scale(anchor_scale),
            "shapes": None if shapes is None else _shapes(shapes),
            "stride": stride,
            "cell_offset": check_number("cell_offset", cell_offset),
            "precision": precision,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        levels = self.max_level - self.min_level + 1
        if not 0 <= self.min_level <= self.max_level <= 16:
            raise ValueError(
                f"min_level={self.min_level}, max_level={self.max_level}: "
                "expected 0 <= min_level <= max_level <= 16"
            )
        if not self.aspect_ratios:
            raise ValueError("aspect_ratios is empty: expected at least one width / height")
        if isinstance(self.anchor_scale, tuple) and len(self.anchor_scale) != levels:
            raise ValueError(
                f"anchor_scale has {len(self.anchor_scale)} entries, expected one for each of the "
                f"{levels} levels"
            )
        if self.shapes is not None and len(self.shapes) != levels:
            raise ValueError(
                f"shapes has {len(self.shapes)} entries, expected one for each of the {levels} "
                f"levels {self.min_level} to {self.max_level}"
            )
        check_choice("stride", self.stride, _STRIDES)
        check_choice("precision", self.precision, _PRECISIONS)
        if not 0 <= self.cell_offset <= 1:
            raise ValueError(f"cell_offset={self.cell_offset}: expected a number in [0, 1]")

    def __getstate__(self) -> dict[str, Any]:
        return self.config()

    def __setstate__(self, state: dict[str, Any]) -> None:
        AnchorGrid.__init__(self, **state)

    def config(self) -> dict[str, Any]:
        """Return the arguments as plain JSON values; equal config, equal anchors."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}

    @property
    def levels(self) -> tuple[int, ...]:
        """The pyramid levels, fine to coarse."""
        return tuple(range(self.min_level, self.max_level + 1))

    @cached_property
    def cells(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level."""
        height, width = self.image_size
        return tuple((-(-height // 2**level), -(-width // 2**level)) for level in self.levels)

    @cached_property
    def strides(self) -> tuple[tuple[float, float], ...]:
        """(y, x) pixels between the cells of each level."""
        return tuple(
            (
                self._stride(self.image_size[0], rows, level),
                self._stride(self.image_size[1], columns, level),
            )
            for level, (rows, columns) in zip(self.levels, self.cells, strict=True)
        )

    def _stride(self, side: int, count: int, level: int) -> float:
        if self.stride == "power":
            return float(2**level)
        return float(side // count) if self.stride == "floor" else side / count

    @cached_property
    def anchor_shapes(self) -> tuple[tuple[Shape, ...], ...]:
        """(height, width) pixels of the anchors in a cell, in slot order, for each level."""
        if self.shapes is not None:
            return self.shapes
        scales = self.anchor_scale
        if not isinstance(scales, tuple):
            scales = (scales,) * len(self.levels)
        return tuple(
            tuple(
                _anchor_shape(stride, scale * 2 ** (octave / self.num_scales), ratio)
                for octave in range(self.num_scales)
                for ratio in self.aspect_ratios
            )
            for stride, scale in zip(self.strides, scales, strict=True)
        )

    @cached_property
    def level_offsets(self) -> tuple[int, ...]:
        """Index of each level's first anchor, and the number of anchors at the end."""
        counts = [
            rows * columns * len(shapes)
            for (rows, columns), shapes in zip(self.cells, self.anchor_shapes, strict=True)
        ]
        return tuple(int(offset) for offset in np.concatenate(([0], np.cumsum(counts))))

    def __len__(self) -> int:
        return self.level_offsets[-1]

    @cached_property
    def lattice(self) -> Lattice:
        """The same facts as arrays, for the kernels."""
        return lattice_of(
            self.cells, self.strides, self.anchor_shapes, self.cell_offset, self.precision
        )

    @cached_property
    def boxes(self) -> NDArray[Any]:
        """(A, 4) `(y_min, x_min, y_max, x_max)` pixels in `precision`, read-only."""
        return boxes_of(self.lattice)

    @cached_property
    def anchor_level(self) -> NDArray[np.int8]:
        """(A,) the pyramid level of each anchor, read-only."""
        level = np.repeat(np.array(self.levels, np.int8), np.diff(self.level_offsets))
        level.flags.writeable = False
        return level


def lattice_of(
    cells: Sequence[tuple[int, int]],
    strides: Sequence[tuple[float, float]] | NDArray[np.float64],
    anchor_shapes: Sequence[Sequence[Shape]],
    cell_offset: float,
    precision: str,
) -> Lattice:
    """Return the arrangement of L levels' anchors for the kernels.

    Args:
        cells: L (rows, columns).
        strides: L (y, x) pixels between cells.
        anchor_shapes: for each level the (height, width) pixels of a cell's anchors.
        cell_offset: of the centre inside its cell, in cells.
        precision: dtype of the edges, and so of matching.
    """
    per_cell = np.array([len(shapes) for shapes in anchor_shapes])
    anchors = np.prod(cells, axis=1) * per_cell
    levels = np.column_stack((cells, anchors.cumsum() - anchors, per_cell))
    strides = np.asarray(strides, np.float64)
    level_of = np.repeat(np.arange(len(per_cell)), per_cell)
    slots = np.concatenate([np.arange(count) for count in per_cell])
    sizes = np.array([shape for shapes in anchor_shapes for shape in shapes])
    counts = levels[level_of, :2]  # (S, 2) rows and columns
    y_edges, x_edges = (
        _edges(cell_offset, counts[:, axis], strides[level_of, axis], sizes[:, axis], precision)
        for axis in (0, 1)
    )
    shapes = np.column_stack((levels[level_of], counts.cumsum(axis=0) - counts))
    shapes[:, 2] += slots
    areas = sizes.prod(axis=1)
    by_area = np.argsort(areas, kind="stable")
    return Lattice(
        levels=levels,
        strides=strides,
        offset=cell_offset,
        areas=areas[by_area],
        sizes=np.column_stack((sizes, 1.0 / strides[level_of]))[by_area],
        shapes=shapes[by_area],
        y_edges=y_edges,
        x_edges=x_edges,
    )


def _edges(
    cell_offset: float,
    counts: NDArray[np.int64],
    strides: NDArray[np.float64],
    sides: NDArray[np.float64],
    precision: str,
) -> NDArray[Any]:
    edges, first = np.empty(2 * int(counts.sum()), precision), 0
    for count, stride, side in zip(counts, strides, sides, strict=True):
        end = first + 2 * count
        fill_edges(cell_offset, stride, side, edges[first:end])
        first = end
    return edges


def boxes_of(lattice: Lattice) -> NDArray[Any]:
    """Return (A, 4) the anchors' boxes in the precision of the lattice, read-only."""
    anchors = int(lattice.levels[:, :2].prod(axis=1) @ lattice.levels[:, 3])
    boxes = np.empty((anchors, 4), lattice.y_edges.dtype)
    bits = np.dtype(f"u{boxes.itemsize}")
    y_edges, x_edges = lattice.y_edges.view(bits), lattice.x_edges.view(bits)
    fill_boxes(lattice.levels, y_edges, x_edges, boxes.reshape(-1).view(bits))
    boxes.flags.writeable = False
    return boxes


def frame_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) in whole pixels; one number means a square.

    Raises:
        ValueError: anything else.
    """
    words = "(height, width) in whole pixels of at least 1"
    sides = whole_numbers("image_size", image_size, words)
    if len(sides) > 2 or (len(sides) == 1 and items_of(image_size) is not None):
        raise ValueError(f"image_size={image_size!r}: expected {words}")
    return sides[0], sides[-1]


def _aspect_ratios(ratios: Any) -> tuple[AspectRatio, ...]:
    """Return the ratios; one number is one ratio."""
    items = items_of(ratios)
    return tuple(map(_aspect_ratio, [ratios] if items is None else items))


def _aspect_ratio(ratio: Any) -> AspectRatio:
    numbers = numbers_of(ratio)
    if len(numbers) not in (1, 2) or not _all_sides(numbers):
        raise ValueError(
            f"aspect_ratios holds {ratio!r}: expected width / height above 0, or a "
            "(width factor, height factor) pair"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _anchor_scale(scale: Any) -> float | tuple[float, ...]:
    numbers = numbers_of(scale)
    if not numbers or not _all_sides(numbers):
        raise ValueError(f"anchor_scale={scale!r}: expected numbers above 0")
    return numbers[0] if items_of(scale) is None else numbers


def _shapes(shapes: Any) -> tuple[tuple[Shape, ...], ...]:
    return tuple(map(_level_shapes, items_of(shapes) or ()))


def _level_shapes(level: Any) -> tuple[Shape, ...]:
    pairs = [numbers_of(shape) for shape in items_of(level) or ()]
    if not pairs or not all(len(pair) == 2 and _all_sides(pair) for pair in pairs):
        raise ValueError(
            f"shapes holds {level!r}: expected at least one (height, width) above 0 a level"
        )
    return tuple((pair[0], pair[1]) for pair in pairs)


def _all_sides(numbers: Sequence[float]) -> bool:
    return all(0 < number < math.inf for number in numbers)


def _anchor_shape(stride: tuple[float, float], scale: float, ratio: AspectRatio) -> Shape:
    wide, tall = ratio if isinstance(ratio, tuple) else (math.sqrt(ratio), 1.0 / math.sqrt(ratio))
    return scale * stride[0] * tall, scale * stride[1] * wide


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
