"""Polygon outlines beside boxes: a question that more than one writer asks."""

from __future__ import annotations

from typing import Final

import numpy as np

from ytrue.datasets.dataset import Objects

TOLERANCE: Final = 0.05
"""Pixels: less is rounding of the file's numbers."""


def differs_from_outline(objects: Objects, row: int) -> bool:
    """Return whether an object's box is not the tight box around its polygon parts."""
    parts = objects.polygon(row)
    if not parts:
        return False
    points = np.concatenate(parts)
    low, high = points.min(axis=0), points.max(axis=0)
    tight = np.concatenate((low, high - low))
    return bool(np.abs(tight - objects.xywh[row]).max() > TOLERANCE)
