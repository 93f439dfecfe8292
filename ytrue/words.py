"""Words for people: counts with their nouns, and foreign text made harmless."""

from __future__ import annotations

import re
from typing import Final

# Control characters, ends of lines, marks that turn the reading direction, halves of characters.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Return text of a file in one line that no terminal obeys: control characters as escapes.

    Example:
        printable("two\nlines")  # r"two\nlines"
    """
    return _UNPRINTABLE.sub(
        lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text)
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 image", "1,200 images", "2 classes" of plural="classes"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
