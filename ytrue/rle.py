"""Run-length encoded masks, as COCO stores them: column by column, zeros first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class RLE:
    """A binary mask of (height, width) pixels as run lengths.

    Attributes:
        height, width: size of the mask, pixels.
        counts: (R,) int64 run lengths in column-major order, beginning with a run of zeros
            (which may have length 0); they sum to height * width.

    Raises:
        DataError: a negative run, or runs that do not sum to height * width.
    """

    height: int
    width: int
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        counts = np.ascontiguousarray(self.counts, np.int64)
        object.__setattr__(self, "counts", counts)
        if (counts < 0).any() or int(counts.sum()) != self.height * self.width:
            raise DataError(
                f"mask runs sum to {int(counts.sum())}, a {self.height}x{self.width} mask has "
                f"{self.height * self.width} pixels",
                do="export this annotation's segmentation again",
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

        Reference: cocodataset/cocoapi common/maskApi.c, rleFrString.
        """
        if isinstance(counts, (str, bytes)):
            text = counts.encode("latin-1") if isinstance(counts, str) else counts
            return cls(int(size[0]), int(size[1]), _runs_from_string(text))
        return cls(int(size[0]), int(size[1]), np.asarray(counts, np.int64))

    def to_coco(self) -> dict[str, object]:
        """Return COCO's uncompressed form, {"size": [height, width], "counts": [...]}."""
        return {"size": [self.height, self.width], "counts": self.counts.tolist()}

    def decode(self) -> NDArray[np.uint8]:
        """Return the (height, width) uint8 mask of zeros and ones."""
        ones = np.arange(self.counts.size) % 2 == 1
        flat = np.repeat(ones.astype(np.uint8), self.counts)
        return np.ascontiguousarray(flat.reshape(self.width, self.height).T)

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


def _runs_from_string(text: bytes) -> NDArray[np.int64]:
    """Decode COCO's string: 5 bits a character, bit 5 goes on, bit 4 of the last is the sign."""
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise DataError(
            "the compressed mask string is cut short or holds a foreign character",
            do="export this annotation's segmentation again",
        )
    last = (codes & 0x20) == 0
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    digit = np.arange(codes.size) - np.repeat(starts, np.diff(np.append(starts, codes.size)))
    runs = np.add.reduceat((codes & 0x1F) << (5 * digit), starts)
    negative = (codes[last] & 0x10) != 0
    runs = np.where(negative, runs - (np.int64(1) << (5 * (digit[last] + 1))), runs)
    # From the fourth on, a number is the difference to the run before last.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
