"""Outlines as pixels, drawn by pycocotools, so that masks are COCO's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ytrue.annotations import Polygon
from ytrue.boxes import points_to_xy

Raster = dict[str, Any]
"""pycocotools' compressed form of a mask: {"size": [height, width], "counts": bytes}."""

_FARTHEST = 1e5  # pycocotools walks along every edge, in steps of a fifth of a pixel


def rasterise(outline: Polygon, height: int, width: int) -> Raster:
    """Return the pixels inside any part of an outline, as pycocotools draws them.

    Args:
        outline: parts of (V, 2) `(y, x)` pixels. Those with fewer than three vertices or with a
            coordinate that is not finite are left out.
        height, width: of the mask, pixels; what lies outside is cut off.
    """
    from pycocotools import mask as coco

    mask: Any = coco  # its stubs are narrower than what it takes
    # Fewer numbers than six are no polygon to pycocotools, four are a box.
    parts = [part for part in outline if len(part) > 2 and np.isfinite(part).all()]
    rings = [
        points_to_xy(part).astype(np.float64).clip(-_FARTHEST, _FARTHEST).ravel().tolist()
        for part in parts
    ]
    if not rings:
        nothing: Raster = mask.encode(np.zeros((height, width), np.uint8, order="F"))
        return nothing
    drawn: Raster = mask.merge(mask.frPyObjects(rings, height, width))
    return drawn
