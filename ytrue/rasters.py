"""Outlines as pixels, as pycocotools draws them, so that masks are COCO's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.boxes import points_to_xy
from ytrue.crossings import runs_of_each

Raster = dict[str, Any]
"""pycocotools' compressed form of a mask: {"size": [height, width], "counts": bytes}."""

Parts = Sequence[NDArray[np.floating[Any]]]
"""The parts of one outline, each (V, 2) `(y, x)` pixels."""

_NO_VERTICES: Final = np.zeros((0, 2), np.float32)


def rasterise(outline: Parts, height: int, width: int) -> Raster:
    """Return the pixels inside any part of an outline, as pycocotools draws them.

    Args:
        outline: parts of (V, 2) `(y, x)` pixels. Those with fewer than three vertices or with a
            coordinate that is not finite are left out.
        height, width: of the mask, pixels; what lies outside is cut off.
    """
    from pycocotools import mask as coco

    mask: Any = coco  # its stubs are narrower than what it takes
    (runs,) = runs_of_outlines([outline], height, width)
    drawn: Raster = mask.frPyObjects(
        {"size": [height, width], "counts": runs.tolist()}, height, width
    )
    return drawn


def runs_of_outlines(outlines: Sequence[Parts], height: int, width: int) -> list[NDArray[np.int64]]:
    """Return the run lengths of each outline's pixels, zeros first, column by column.

    What `rasterise` draws; of an outline with nothing to draw one run of zeros.
    """
    parts = [part for outline in outlines for part in outline]
    xy = points_to_xy(np.concatenate([*parts, _NO_VERTICES])).astype(np.float64)
    runs, firsts = runs_of_each(
        np.ascontiguousarray(xy),
        _starts([len(part) for part in parts]),
        _starts([len(outline) for outline in outlines]),
        height,
        width,
    )
    bounds = firsts.tolist()
    return [runs[a:b] for a, b in pairwise(bounds)]


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
