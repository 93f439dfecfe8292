"""A list of plain COCO annotations, from JSON text to columns, compiled.

Used for large files only. Making Python objects of a file's numbers is most of what loading it
costs; here none are made. The parser is strict: it accepts nothing that is not JSON, and whatever
is not plain (other fields, ids that are no integers, a box that is not four numbers, a number of
more than 15 digits) it leaves to the JSON decoder.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_EXACT: Final = 2**53
_NAMES: Final = (
    b"id", b"image_id", b"category_id", b"bbox", b"area", b"iscrowd", b"segmentation",
)  # fmt: skip
ID, IMAGE, CATEGORY, BOX, AREA, CROWD, SEGMENTATION = range(7)

_kernel = njit(nogil=True, cache=True, error_model="numpy")
# Called for every character or number: a call that is not inlined counts references each time.
_inlined = njit(nogil=True, cache=True, error_model="numpy", inline="always")


class Parsed(NamedTuple):
    """K annotations: ids (K, 3) int64 own, image's, category's; the rest as in `Objects`."""

    ids: NDArray[np.int64]
    xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.int8]
    points: NDArray[np.float64]  # x, y, x, y, ...
    part_lengths: NDArray[np.int64]  # numbers of each polygon part
    part_counts: NDArray[np.int64]  # parts of each annotation
    masks: NDArray[np.int64]  # (K, 2) where a mask's object begins and ends in the text, or 0, 0


def parse(block: bytes) -> Parsed | None:
    """Return the annotations of a JSON list, None where it is not one or not a plain one."""
    text = np.frombuffer(block, np.uint8)
    # A number takes a digit and a comma at least, an annotation its three ids and its box.
    most, rows = text.size // 2 + 1, text.size // 48 + 2
    parsed = Parsed(
        ids=np.empty((rows, 3), np.int64),
        xywh=np.empty((rows, 4)),
        area=np.empty(rows),
        crowd=np.empty(rows, np.int8),
        points=np.empty(most),
        part_lengths=np.empty(text.size // 8 + 1, np.int64),
        part_counts=np.empty(rows, np.int64),
        masks=np.empty((rows, 2), np.int64),
    )
    names, ends = np.frombuffer(b"".join(_NAMES), np.uint8), np.cumsum([0, *map(len, _NAMES)])
    k, n, q = _parse(text, names, ends, _POWERS, *parsed)
    if k < 0:
        return None
    lengths = {"points": n, "part_lengths": q}
    return Parsed(*(array[: lengths.get(f, k)] for f, array in parsed._asdict().items()))


_POWERS: Final = 10.0 ** np.arange(23)  # exact in float64


@_inlined
def _space(text, p):  # type: ignore[no-untyped-def]
    while p < text.size and (text[p] == 32 or text[p] == 10 or text[p] == 13 or text[p] == 9):
        p += 1
    return p


@_inlined
def _at(text, p, c):  # type: ignore[no-untyped-def]
    return p < text.size and text[p] == c


@_inlined
def _number(text, p, powers):  # type: ignore[no-untyped-def]
    """Return (value, whether it is an integer, where it ends); the end is -1 where it is not plain.

    A mantissa below 2^53 and a power of ten up to 10^22 are exact, so their quotient is the
    correctly rounded number (Clinger 1990).
    """
    size = text.size
    negative = p < size and text[p] == 45
    if negative:
        p += 1
    start, mantissa = p, np.int64(0)
    digit = np.int64(text[p]) - 48 if p < size else np.int64(-1)
    while digit >= 0 and digit <= 9:
        mantissa = mantissa * 10 + digit
        p += 1
        digit = np.int64(text[p]) - 48 if p < size else np.int64(-1)
    whole = p - start
    if whole == 0 or (whole > 1 and text[start] == 48):
        return 0.0, False, -1
    decimals = 0
    if digit == -2:  # a point
        p += 1
        digit = np.int64(text[p]) - 48 if p < size else np.int64(-1)
        while digit >= 0 and digit <= 9:
            mantissa = mantissa * 10 + digit
            p += 1
            decimals += 1
            digit = np.int64(text[p]) - 48 if p < size else np.int64(-1)
        if decimals == 0:
            return 0.0, False, -1
    if whole + decimals > 17 or mantissa >= _EXACT or digit == 53 or digit == 21:  # e, E
        return 0.0, False, -1
    value = mantissa / powers[decimals]
    return (-value if negative else value), decimals == 0, p


@_kernel
def _name(text, p, names, ends):  # type: ignore[no-untyped-def]
    """Return (which of the names, where it ends); -1 where it is none of them."""
    if not _at(text, p, 34):
        return -1, p
    end = p + 1
    while end < text.size and text[end] != 34 and text[end] != 92:
        end += 1
    if not _at(text, end, 34):
        return -1, p
    for which in range(ends.shape[0] - 1):
        length = ends[which + 1] - ends[which]
        if end - p - 1 != length:
            continue
        same = True
        for i in range(length):
            same = same and text[p + 1 + i] == names[ends[which] + i]
        if same:
            return which, end + 1
    return -1, p


@_kernel
def _polygons(text, p, powers, points, n, part_lengths, q):  # type: ignore[no-untyped-def]
    """Parse `[[x, y, ...], ...]` from p; return (end or -1, n, q)."""
    p = _space(text, p + 1)
    if _at(text, p, 93):
        return p + 1, n, q
    while True:
        if not _at(text, p, 91):
            return -1, n, q
        first = n
        p += 1
        while True:
            value, _, p = _number(text, _space(text, p), powers)
            if p < 0:
                return -1, n, q
            points[n] = value
            n += 1
            p = _space(text, p)
            if _at(text, p, 44):
                p += 1
            elif _at(text, p, 93):
                break
            else:
                return -1, n, q
        if n - first < 6 or (n - first) % 2 == 1:
            return -1, n, q
        part_lengths[q] = n - first
        q += 1
        p = _space(text, p + 1)
        if _at(text, p, 93):
            return p + 1, n, q
        if not _at(text, p, 44):
            return -1, n, q
        p = _space(text, p + 1)


@_kernel
def _mask(text, p):  # type: ignore[no-untyped-def]
    """Return where an object without objects inside ends, -1 where there is none."""
    p += 1
    while p < text.size:
        c = text[p]
        p += 1
        if c == 125:
            return p
        if c == 123:
            return -1
        if c == 34:
            while p < text.size and text[p] != 34:
                p += 2 if text[p] == 92 else 1
            p += 1
    return -1


@_kernel
def _parse(  # type: ignore[no-untyped-def]
    text, names, ends, powers, ids, xywh, area, crowd, points, part_lengths, part_counts, masks
):
    """Return (annotations, numbers, parts); the first is -1 where the text is not a plain list."""
    k = n = q = 0
    p = _space(text, 0)
    if not _at(text, p, 91):
        return -1, n, q
    p = _space(text, p + 1)
    while True:
        if not _at(text, p, 123):
            return -1, n, q
        area[k], crowd[k], part_counts[k], seen = np.nan, 0, 0, 0
        masks[k, 0] = masks[k, 1] = 0
        p += 1
        while True:
            which, p = _name(text, _space(text, p), names, ends)
            if which < 0 or seen >> which & 1:
                return -1, n, q
            seen |= 1 << which
            p = _space(text, p)
            if not _at(text, p, 58):
                return -1, n, q
            p = _space(text, p + 1)
            if which == SEGMENTATION:
                if _at(text, p, 123):
                    masks[k, 0] = p
                    p = _mask(text, p)
                    masks[k, 1] = p
                elif _at(text, p, 91):
                    before = q
                    p, n, q = _polygons(text, p, powers, points, n, part_lengths, q)
                    part_counts[k] = q - before
                else:
                    p = -1
            elif which == BOX:
                if not _at(text, p, 91):
                    return -1, n, q
                for side in range(4):
                    value, _, p = _number(text, _space(text, p + 1), powers)
                    if p < 0:
                        return -1, n, q
                    xywh[k, side] = value
                    p = _space(text, p)
                    if not _at(text, p, 44 if side < 3 else 93):
                        return -1, n, q
                p += 1
            else:
                value, whole, p = _number(text, p, powers)
                if p >= 0 and which == AREA:
                    area[k] = value
                elif p < 0 or not whole:
                    return -1, n, q
                elif which == CROWD:
                    crowd[k] = value != 0
                elif which <= CATEGORY:
                    ids[k, which] = np.int64(value)
            if p < 0:
                return -1, n, q
            p = _space(text, p)
            if _at(text, p, 44):
                p += 1
            elif _at(text, p, 125):
                break
            else:
                return -1, n, q
        if seen & 15 != 15:  # the three ids and the box
            return -1, n, q
        k += 1
        p = _space(text, p + 1)
        if _at(text, p, 93):
            return (k if _space(text, p + 1) == text.size else -1), n, q
        if not _at(text, p, 44):
            return -1, n, q
        p = _space(text, p + 1)
