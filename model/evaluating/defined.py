"""Averages that may not be defined: nan in arrays, None in reports."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of the values that are defined, None without any."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def median(values: NDArray[np.float64]) -> float | None:
    """Return the median of the values that are defined, None without any."""
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if defined.size else None


def or_none(value: float) -> float | None:
    """Return a number, None for nan."""
    return None if np.isnan(value) else float(value)


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole, None where the whole is 0."""
    return part / whole if whole else None
