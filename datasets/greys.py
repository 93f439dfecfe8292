"""Grey images of more than 8 bits: one rule for what is white, whatever an image holds.

16 bits: 65535 is white. Floats: 1 is white. A TIFF that says its largest sample (MaxSampleValue or
SMaxSampleValue) is believed. 32-bit integers that do not say so are refused, as nothing tells what
is white; so are values outside of 0 to white. The rule never looks at the brightest pixel, so that
equal values are equal greys in every image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_SAMPLE_TAGS: Final = (341, 281)  # TIFF's SMaxSampleValue and MaxSampleValue
_WHITE_16: Final = 65535.0


def is_deep(mode: str) -> bool:
    """Return whether a Pillow mode holds grey values of more than 8 bits."""
    return mode.startswith(("I", "F"))


def white_of(image: Image) -> float:
    """Return the value that is white in an image for which `is_deep`.

    Raises:
        ValueError: 32-bit integers that do not say it.
    """
    said = _said_by_tags(image)
    if said:
        return said
    if image.mode == "F":
        return 1.0
    # Pillow gives 16-bit PNM, and older ones 16-bit PNG, as 32-bit integers scaled to 16 bits.
    if image.mode != "I" or image.format in ("PPM", "PNG"):
        return _WHITE_16
    raise ValueError(
        "grey values of 32-bit integers, of which nothing tells what is white: save it with 8 or 16 "
        "bits, or with a MaxSampleValue"
    )


def _said_by_tags(image: Image) -> float:
    tags: Any = getattr(image, "tag_v2", {})
    for tag in _MAX_SAMPLE_TAGS:
        value = tags.get(tag)
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, (int, float)) and 0 < first < np.inf:
            return float(first)
    return 0.0


def eight_bit(image: Image) -> NDArray[np.uint8]:
    """Return an image for which `is_deep` as (height, width, 3) uint8.

    Raises:
        ValueError: nothing tells what is white, or a value lies outside of 0 to white.
    """
    white = white_of(image)
    values = np.asarray(image)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= -white / 510 and high <= white + white / 510):  # nan fails, rounding passes
        raise ValueError(
            f"grey values from {low:g} to {high:g}, expected 0 to {white:g}: scale them, or save "
            "it with 8 or 16 bits"
        )
    grey = np.multiply(values, 255.0 / white, dtype=np.float32).clip(0, 255).round()
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
