"""Polygons of many COCO annotations, from JSON text to numbers, compiled.

Used for large files only: a tenth of a file's numbers would otherwise become Python objects for a
moment, which is what loading it costs. What is not plain polygons is left to the JSON decoder.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

PLAIN, OTHER, ODD = 0, 1, 2
"""A text holds polygons or nothing; it holds something else, a mask; it must be read with care."""

_POWERS: Final = 10.0 ** np.arange(23)  # exact in float64, so one division rounds once
_EXACT: Final = 2**53


@njit(nogil=True, cache=True, error_model="numpy")
def parse_polygons(text, starts, powers, points, lengths, counts, kinds):  # type: ignore[no-untyped-def]
    """Parse JSON texts such as `[[1, 2.5, 3, ...], [...]]`.

    text (T,) uint8, text k from starts[k] to starts[k + 1]. Writes the numbers to points, each
    part's count of numbers to lengths, each text's count of parts to counts (K,), and to kinds
    (K,) PLAIN, OTHER (a text that begins with a brace) or ODD (a part of fewer than 6 or an odd
    count of numbers, a number of more than 15 digits, anything unforeseen). Numbers are those a
    correct decimal conversion gives (Clinger 1990: a mantissa below 2^53 and a power of ten up to
    10^22 are exact, so one operation rounds once). Returns (numbers, parts) written.
    """
    n = parts = 0
    for k in range(starts.shape[0] - 1):
        counts[k] = 0
        kinds[k] = PLAIN
        position, end = starts[k], starts[k + 1]
        depth, first = 0, n
        while position < end:
            c = text[position]
            position += 1
            if c == 91:  # [
                depth += 1
                first = n
                if depth > 2:
                    kinds[k] = ODD
                    break
            elif c == 93:  # ]
                if depth == 2:
                    if n - first < 6 or (n - first) % 2 == 1:
                        kinds[k] = ODD
                        break
                    lengths[parts] = n - first
                    parts += 1
                    counts[k] += 1
                depth -= 1
            elif c == 45 or (c >= 48 and c <= 57):  # a number
                negative = c == 45
                if depth != 2:
                    kinds[k] = ODD
                    break
                mantissa = np.int64(0) if negative else np.int64(c) - 48
                decimals, digits, point = 0, 1, False
                while position < end:
                    c = text[position]
                    if c >= 48 and c <= 57:
                        mantissa = mantissa * 10 + (np.int64(c) - 48)
                        digits += 1
                        decimals += point
                    elif c == 46 and not point:
                        point = True
                    else:
                        break
                    position += 1
                if digits > 17 or mantissa >= _EXACT or decimals > 22 or c == 101 or c == 69:
                    kinds[k] = ODD
                    break
                value = mantissa / powers[decimals]
                points[n] = -value if negative else value
                n += 1
            elif c == 123 and depth == 0:  # {
                kinds[k] = OTHER
                break
            elif c != 44 and c != 32 and c != 10 and c != 13 and c != 9:
                # null stands for no polygon
                kinds[k] = PLAIN if c == 110 and depth == 0 else ODD
                break
    return n, parts


def powers() -> np.ndarray:
    """Return the powers of ten that the kernel divides by."""
    return _POWERS
