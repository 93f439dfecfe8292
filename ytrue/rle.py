"""Run-length encoded masks, as COCO stores them: column by column, zeros first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError
from ytrue.limits import too_large


@dataclass(frozen=True, eq=False, slots=True)
class RLE:
    """A binary mask of (height, width) pixels as run lengths.

    Attributes:
        height, width: size of the mask, pixels.
        counts: (R,) int64 run lengths in column-major order, beginning with a run of zeros
            (which may have length 0); they sum to height * width.

    Raises:
        DataError: a run that is negative or no whole number, or runs that do not sum to
            height * width.
    """

    height: int
    width: int
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        counts = _whole_runs(self.counts)
        object.__setattr__(self, "counts", counts)
        # Summed as floats, which do not wrap around: four runs of 2**62 are 0 in 64 bits.
        total = float(counts.sum(dtype=np.float64))
        if self.height < 0 or self.width < 0:
            raise _unusable(f"a mask of {self.height}x{self.width} pixels")
        if (counts < 0).any():
            raise _unusable(f"a mask run of {int(counts.min())} pixels")
        if total > 2**62 or int(counts.sum()) != self.height * self.width:
            raise _unusable(
                f"mask runs sum to {int(total)}, a {self.height}x{self.width} mask has "
                f"{self.height * self.width} pixels"
            )

    @classmethod
    def from_mask(cls, mask: NDArray[np.generic]) -> RLE:
        """Encode a (height, width) array; every non-zero pixel counts as set."""
        if mask.ndim != 2:
            raise ValueError(f"a mask has two axes (height, width), this one has {mask.shape}")
        flat = (mask != 0).ravel(order="F")
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        bounds = np.concatenate(([0], edges, [flat.size])) if flat.size else np.zeros(1, np.int64)
        counts = np.diff(bounds)
        if flat.size and flat[0]:
            counts = np.concatenate(([0], counts))
        return cls(mask.shape[0], mask.shape[1], counts)

    @classmethod
    def from_coco(cls, size: Sequence[int], counts: str | bytes | Sequence[int]) -> RLE:
        """Read either COCO form: a list of runs, or the compressed string.

        Raises:
            DataError: a size or runs that no mask has, or more pixels than `max_pixels`.

        Reference: cocodataset/cocoapi common/maskApi.c, rleFrString.
        """
        height, width = _sides(size)
        refused = too_large(height, width)
        if refused:
            raise DataError(refused)
        if isinstance(counts, (str, bytes)):
            text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
            return cls(height, width, _runs_from_string(text, height * width))
        return cls(height, width, _whole_runs(counts))

    def to_coco(self) -> dict[str, object]:
        """Return COCO's uncompressed form, {"size": [height, width], "counts": [...]}."""
        return {"size": [self.height, self.width], "counts": self.counts.tolist()}

    def decode(self) -> NDArray[np.uint8]:
        """Return the (height, width) uint8 mask of zeros and ones."""
        ones = np.arange(self.counts.size) % 2 == 1
        flat = np.repeat(ones.astype(np.uint8), self.counts)
        return np.ascontiguousarray(flat.reshape(self.width, self.height).T)

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """(y_min, x_min, y_max, x_max) of the set pixels, from the runs; None where none is set."""
        ends = np.cumsum(self.counts)[1::2]
        starts = ends - self.counts[1::2]
        starts, ends = starts[ends > starts], ends[ends > starts]
        if not len(ends):
            return None
        first, last = starts // self.height, (ends - 1) // self.height  # columns
        x_min, x_max = int(first[0]), int(last[-1]) + 1
        if (first < last).any():  # a run from one column into the next is set at both edges
            return 0, x_min, self.height, x_max
        y_min, y_max = (starts % self.height).min(), ((ends - 1) % self.height).max() + 1
        return int(y_min), x_min, int(y_max), x_max

    @property
    def area(self) -> int:
        """Number of set pixels."""
        return int(self.counts[1::2].sum())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RLE)
            and (self.height, self.width) == (other.height, other.width)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]


def _sides(size: Sequence[int]) -> tuple[int, int]:
    """Return (height, width) as a file has them: two whole numbers from 0 below 2**31."""
    sides = list(size) if isinstance(size, (list, tuple)) else []
    if len(sides) != 2 or not all(
        isinstance(side, (int, float)) and not isinstance(side, bool) and 0 <= side < 2**31
        for side in sides
    ):
        raise _unusable(f"a mask of size {str(size)[:60]}, expected [height, width]")
    if any(side != int(side) for side in sides):
        raise _unusable(f"a mask of size {sides}, expected whole numbers")
    return int(sides[0]), int(sides[1])


def _whole_runs(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Return run lengths as an array; refuse what is no list of whole numbers below 2**63."""
    try:
        array = np.asarray(counts)
    except ValueError:  # lists of different lengths
        array = np.zeros((), object)
    whole = array.dtype.kind in "iu" or (
        array.dtype.kind == "f" and (array == np.trunc(array)).all()
    )
    if array.ndim != 1 or not (whole or array.size == 0) or not (np.abs(array) < 2**63).all():
        raise _unusable(f"mask runs are {str(counts)[:60]}, expected whole numbers of pixels")
    return np.ascontiguousarray(array, np.int64)


def _unusable(what: str) -> DataError:
    return DataError(what, do="export this annotation's segmentation again")


def _runs_from_string(text: bytes, pixels: int) -> NDArray[np.int64]:
    """Decode COCO's string: 5 bits a character, bit 5 goes on, bit 4 of the last is the sign.

    `pixels` of the mask bound every number and every partial sum, so that none wraps around: each
    step is shorter than what it would have to leap over.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise _unusable("the compressed mask string is cut short or holds a foreign character")
    last = (codes & 0x20) == 0
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    digit = np.arange(codes.size) - np.repeat(starts, np.diff(np.append(starts, codes.size)))
    if digit.max() > 11:
        raise _unusable("the compressed mask string holds a number beyond all measure")
    runs = np.add.reduceat((codes & 0x1F) << (5 * digit), starts)
    negative = (codes[last] & 0x10) != 0
    runs = np.where(negative, runs - (np.int64(1) << (5 * (digit[last] + 1))), runs)
    beyond = (np.abs(runs) > pixels).any()
    # From the fourth on, a number is the difference to the run before last.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if beyond or (runs < 0).any() or (runs > pixels).any():
        raise _unusable("the compressed mask string holds a run that is longer than the mask")
    return runs
