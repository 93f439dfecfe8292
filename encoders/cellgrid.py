"""`CellGrid`: regular grids of cells over the network input. Counts and order derive from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.arguments import items_of, whole_numbers
from ytrue.encoders.grid import boxes_of, frame_size, lattice_of
from ytrue.encoders.kernels.cellcentres import MIDDLE, CellCentres
from ytrue.encoders.kernels.cells import COLUMNS, FIRST, Cells

GridLike = Literal["global"] | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class CellGrid:
    """One or several grids of (rows, columns) cells, each of which divides the whole frame evenly.

    A cell is `height / rows` by `width / columns` pixels. Cells are flattened grid (in the order
    given), row, column.

    Args:
        image_size: (height, width) of the network input in pixels; one number for a square.
        grid: (rows, columns), several of them, or "global": one cell, the whole image.
        stride: instead, the pixels of a cell's side, one number for each grid: the grid has
            `ceil(side / stride)` cells along each axis. Where the stride does not divide the side,
            cells are a little smaller than it, as google/automl's anchors have it.

    Raises:
        ValueError: both or neither of `grid` and `stride`, or numbers below 1, or one grid twice.

    Example:
        >>> CellGrid((256, 192), stride=(8, 16)).grid
        ((32, 24), (16, 12))
    """

    image_size: tuple[int, int]
    grid: tuple[tuple[int, int], ...]

    def __init__(
        self,
        image_size: int | Sequence[int],
        grid: GridLike | None = None,
        *,
        stride: int | Sequence[int] | None = None,
    ) -> None:
        size = frame_size(image_size)
        if (grid is None) == (stride is None):
            raise ValueError(f"grid={grid!r}, stride={stride!r}: expected one of the two")
        counts = _grids(grid) if grid is not None else _from_strides(size, strides_of(stride))
        if len(set(counts)) != len(counts):
            raise ValueError(f"the same grid twice in {counts}: expected each once")
        object.__setattr__(self, "image_size", size)
        object.__setattr__(self, "grid", counts)

    def __len__(self) -> int:
        """Return the number of cells, of all grids together."""
        return self.offsets[-1]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of each grid's first cell, and the number of cells at the end."""
        counts = [rows * columns for rows, columns in self.grid]
        return tuple(int(offset) for offset in np.concatenate(([0], np.cumsum(counts))))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return what each grid is called: "32x24"."""
        return tuple(f"{rows}x{columns}" for rows, columns in self.grid)

    @cached_property
    def cells(self) -> Cells:
        """The same facts for the kernels."""
        height, width = self.image_size
        levels = np.column_stack((np.array(self.grid, np.int64), self.offsets[:-1]))
        return Cells(levels=levels, height=np.float32(height), width=np.float32(width))

    @cached_property
    def centres(self) -> CellCentres:
        """The centres of the cells for the kernels, as `points` has them."""
        counts = np.array(self.grid, np.int64)
        sides = zip(counts, self.sides, strict=True)
        y, x = zip(*(map(_centres, *level) for level in sides), strict=True)
        before = counts.cumsum(axis=0) - counts
        return CellCentres(
            levels=np.column_stack((counts, self.offsets[:-1], before)),
            per_pixel=1.0 / self.sides,
            y=np.concatenate(y),
            x=np.concatenate(x),
        )

    @cached_property
    def boxes(self) -> NDArray[np.float32]:
        """(cells, 4) float32 the cells as boxes, pixels, read-only."""
        shapes = [[(tall, wide)] for tall, wide in self.sides.tolist()]
        return boxes_of(lattice_of(self.grid, self.sides, shapes, MIDDLE, "float32"))

    @cached_property
    def sides(self) -> NDArray[np.float64]:
        """(L, 2) height and width of each grid's cells, pixels."""
        return np.divide(self.image_size, self.grid, dtype=np.float64)

    def level_of_places(self, per_cell: int) -> NDArray[np.int8]:
        """Return the pyramid level of each of `per_cell` places of every cell, read-only.

        The level of a grid is log2 of its cells' height, rounded.
        """
        levels = np.round(np.log2(self.sides[:, 0])).astype(np.int8)
        level = np.repeat(levels, np.diff(self.offsets) * per_cell)
        level.flags.writeable = False
        return level

    def level(self, cell: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the grid that each cell belongs to."""
        return np.searchsorted(self.offsets[1:], cell, side="right").astype(np.int64)

    def split(self, array: NDArray[Any], *, behind: int) -> dict[str, NDArray[Any]]:
        """Return name of the grid -> (..., rows, columns, *) of an array (..., cells, *).

        Args:
            array: of all grids' cells.
            behind: how many axes * is.
        """
        axis = array.ndim - behind - 1
        ahead, rest = array.shape[:axis], array.shape[axis + 1 :]
        parts = np.split(array, self.offsets[1:-1], axis=axis)
        return {
            name: part.reshape(*ahead, *counts, *rest)
            for name, counts, part in zip(self.names, self.grid, parts, strict=True)
        }

    def points(
        self, cell: NDArray[np.integer], offset: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Return the (..., 2) float32 points (y, x), pixels, at offsets (y, x) in [0, 1] of cells.

        Computed in float64 and rounded once: `(cell + offset) * side / count`.
        """
        return self.exact_points(cell, offset).astype(np.float32)

    def exact_points(
        self, cell: NDArray[np.integer], offset: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return `points` before they are rounded to float32."""
        level = self.level(cell)
        table = self.cells.levels[level]
        row, column = np.divmod(cell - table[..., FIRST], table[..., COLUMNS])
        corner = np.stack((row, column), axis=-1)
        points: NDArray[np.float64] = (corner + offset.astype(np.float64)) * self.sides[level]
        return points


def _centres(count: int, side: float) -> NDArray[np.float32]:
    return ((np.arange(count) + MIDDLE) * side).astype(np.float32)


def _grids(grid: Any) -> tuple[tuple[int, int], ...]:
    if isinstance(grid, str) and grid == "global":
        return ((1, 1),)
    words = '(rows, columns) of at least 1, several of them, or "global"'
    items = items_of(grid) or []
    one = all(items_of(item) is None for item in items)
    pairs = [whole_numbers("grid", pair, words) for pair in ([grid] if one else items)]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError(f"grid={grid!r}: expected {words}")
    return tuple((rows, columns) for rows, columns in pairs)


def _from_strides(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the grid of each stride; where two are one, say which strides are left."""
    grids = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    if len(set(grids)) < len(grids):
        kept = [stride for k, stride in enumerate(strides) if grids.index(grids[k]) == k]
        rest = ",".join(map(str, kept))
        raise ValueError(
            f"stride={strides}: an input of {size[0]}x{size[1]} has the same grid of cells for two "
            f"of them; leave the coarser out (stride={rest}), or take a larger input"
        )
    return tuple(grids)


def strides_of(stride: Any) -> tuple[int, ...]:
    """Return one stride, or several, as ints.

    Raises:
        ValueError: they are no whole pixels of at least 1.
    """
    return whole_numbers("stride", stride, "whole pixels of at least 1")
