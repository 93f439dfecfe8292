"""How large a thing may be that a few bytes of a file ask memory for."""

from __future__ import annotations

import os
from typing import Final

from ytrue.errors import DataError

MAX_PIXELS: Final = 500_000_000
"""Pixels of an image or a mask, unless the environment says otherwise."""

MAX_COORDINATE: Final = 1e9
"""Pixels from the image's corner: what lies further away is a mistake, and float32, which encoders
compute in, tells positions there 64 pixels apart."""

VARIABLE: Final = "YTRUE_MAX_PIXELS"


def max_pixels() -> int:
    """Return how many pixels an image or a mask may have.

    The environment variable YTRUE_MAX_PIXELS raises or lowers it. It decides what is refused, never
    what anything is read as.

    Raises:
        DataError: the variable holds no whole number above 0.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return MAX_PIXELS
    if given.isdecimal() and 0 < len(given) <= 18 and int(given) > 0:
        return int(given)
    raise DataError(
        f"{VARIABLE}={given}: no whole number of pixels", do="set it to one above 0, or unset it"
    )


def too_large(height: int, width: int) -> str:
    """Return why pixels of this size are refused and what raises the limit; "" where they are not."""
    if height * width <= max_pixels():
        return ""
    return (
        f"{height}x{width} (height x width) are more than {max_pixels():,} pixels; "
        f"{VARIABLE} raises the limit"
    )
