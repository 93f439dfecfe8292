"""A list of plain COCO annotations, from JSON text to columns, compiled.

Used for large files only. Making Python objects of a file's numbers is most of what loading it
costs; here none are made. The parser is strict: it accepts nothing that is not JSON, and whatever
is not plain (other fields, ids that are no integers, a box that is not four numbers, a number of
more than 15 digits) it leaves to the JSON decoder.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.cores import shared_pool
from ytrue.datasets.textfiles import BETWEEN
from ytrue.jit import borrowed, inlined_kernel, kernel

_NAMES: Final = (
    b"id", b"image_id", b"category_id", b"bbox", b"area", b"iscrowd", b"segmentation",
)  # fmt: skip
ID, IMAGE, CATEGORY, BOX, AREA, CROWD, SEGMENTATION = range(7)

# Positions and digits are unsigned, for numba checks a signed index for counting from the end;
# and as an unsigned and a signed integer make a float, so are the constants beside them.
_U: Final = np.uint64
_0, _1, _2, _9, _10, _17 = (_U(n) for n in (0, 1, 2, 9, 10, 17))
_ASCII_0: Final = _U(48)
_POINT, _LOWER_E, _UPPER_E = _U(2**64 - 2), _U(53), _U(21)  # less the code of 0
_EXACT: Final = _U(2**53)
_NOWHERE: Final = _U(2**64 - 1)
# A block of at least this many bytes is parsed in two threads.
_WORTH_TWO: Final = 2**17
_POWERS: Final = 10.0 ** np.arange(23)  # exact in float64


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


def parse(block: bytes) -> list[Parsed] | None:
    """Return the annotations of a JSON list in one or two parts, None where it is not plain.

    Two halves that are lists each, cut where an annotation ends, are the list: both are parsed at
    once. A cut that was none, inside a string say, leaves something open.
    """
    halves = BETWEEN.search(block, len(block) // 2) if len(block) > _WORTH_TWO else None
    if halves is not None:
        second = shared_pool().submit(_parsed, b"[" + block[halves.end() :], halves.end() - 1)
        first = _parsed(block[: halves.start() + 1] + b"]", 0)
        other = second.result()
        if first is not None and other is not None:
            return [first, other]
    whole = _parsed(block, 0)
    return None if whole is None else [whole]


def _parsed(block: bytes, offset: int) -> Parsed | None:
    """Parse one list; its first byte is the text's at `offset`, which places of masks count from."""
    # The byte after the text belongs to nothing, so that no step need look whether the text ends.
    text = np.frombuffer(block + b"\0", np.uint8)
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
    k, n, q = _parse(text, names, ends, _POWERS, parsed)
    if k < 0:
        return None
    parsed.masks[:k] += offset * (parsed.masks[:k, 1:] > 0)
    lengths = {"points": n, "part_lengths": q}
    return Parsed(*(array[: lengths.get(f, k)] for f, array in parsed._asdict().items()))


@inlined_kernel
def _space(text, p):  # type: ignore[no-untyped-def]
    while text[p] == 32 or text[p] == 10 or text[p] == 13 or text[p] == 9:
        p += _1
    return p


@inlined_kernel
def _number(text, p, powers):  # type: ignore[no-untyped-def]
    """Return (value, whether it is an integer, where it ends); _NOWHERE where it is not plain.

    A mantissa below 2^53 and a power of ten up to 10^22 are exact, so their quotient is the
    correctly rounded number (Clinger 1990).
    """
    negative = text[p] == 45
    if negative:
        p += _1
    start, mantissa, decimals = p, _0, _0
    digit = _U(text[p]) - _ASCII_0
    while digit <= _9:
        mantissa = mantissa * _10 + digit
        p += _1
        digit = _U(text[p]) - _ASCII_0
    whole = p - start
    plain = whole > _0 and (whole == _1 or text[start] != 48)
    fraction = digit == _POINT
    if fraction:
        p += _1
        start = p
        digit = _U(text[p]) - _ASCII_0
        while digit <= _9:
            mantissa = mantissa * _10 + digit
            p += _1
            digit = _U(text[p]) - _ASCII_0
        decimals = p - start
        plain = plain and decimals > _0
    plain = plain and whole + decimals <= _17 and mantissa < _EXACT
    plain = plain and digit != _LOWER_E and digit != _UPPER_E
    value = 0.0
    if plain:
        value = np.float64(np.int64(mantissa)) / powers[decimals]
    return (-value if negative else value), not fraction, (p if plain else _NOWHERE)


@kernel
def _name(text, p, names, ends):  # type: ignore[no-untyped-def]
    """Return (which of the names, where it ends); -1 where it is none of them."""
    if text[p] != 34:
        return -1, p
    first = p + _1
    end = first
    # Names are short: nothing longer can be one of them.
    while text[end] != 34 and text[end] != 92 and text[end] != 0:
        end += _1
    if text[end] != 34:
        return -1, p
    for which in range(ends.shape[0] - 1):
        length = ends[which + 1] - ends[which]
        if end - first != _U(length):
            continue
        same = True
        for i in range(length):
            same = same and text[first + _U(i)] == names[ends[which] + i]
        if same:
            return which, end + _1
    return -1, p


@kernel
def _polygons(text, p, powers, points, n, part_lengths, q):  # type: ignore[no-untyped-def]
    """Parse `[[x, y, ...], ...]` from p; return (end or _NOWHERE, n, q)."""
    p = _space(text, p + _1)
    if text[p] == 93:
        return p + _1, n, q
    while True:
        if text[p] != 91:
            return _NOWHERE, n, q
        first = n
        p += _1
        while True:
            value, _, p = _number(text, _space(text, p), powers)
            if p == _NOWHERE:
                return _NOWHERE, n, q
            points[n] = value
            n += 1
            p = _space(text, p)
            if text[p] == 93:
                break
            if text[p] != 44:
                return _NOWHERE, n, q
            p += _1
        if n - first < 6 or (n - first) % 2 == 1:
            return _NOWHERE, n, q
        part_lengths[q] = n - first
        q += 1
        p = _space(text, p + _1)
        if text[p] == 93:
            return p + _1, n, q
        if text[p] != 44:
            return _NOWHERE, n, q
        p = _space(text, p + _1)


@kernel
def _mask(text, p):  # type: ignore[no-untyped-def]
    """Return where an object without objects inside ends, _NOWHERE where there is none."""
    last = _U(text.size) - _1
    p += _1
    while p < last:
        c = text[p]
        p += _1
        if c == 125:
            return p
        if c == 123:
            return _NOWHERE
        if c == 34:
            while p < last and text[p] != 34:
                p += _2 if text[p] == 92 else _1
            p += _1
    return _NOWHERE


@kernel
def _parse(text, names, ends, powers, parsed):  # type: ignore[no-untyped-def]
    """Return (annotations, numbers, parts); the first is -1 where the text is not a plain list."""
    return _parse_borrowed(
        borrowed(text), borrowed(names), borrowed(ends), borrowed(powers), borrowed(parsed)
    )


@kernel
def _parse_borrowed(text, names, ends, powers, parsed):  # type: ignore[no-untyped-def]
    ids, xywh, area, crowd, points, part_lengths, part_counts, masks = parsed
    k = n = q = 0
    p = _space(text, _0)
    if text[p] != 91:
        return -1, n, q
    p = _space(text, p + _1)
    while True:
        if text[p] != 123:
            return -1, n, q
        area[k], crowd[k], part_counts[k], seen = np.nan, 0, 0, 0
        masks[k, 0] = masks[k, 1] = 0
        p += _1
        while True:
            which, p = _name(text, _space(text, p), names, ends)
            if which < 0 or seen >> which & 1:
                return -1, n, q
            seen |= 1 << which
            p = _space(text, p)
            if text[p] != 58:
                return -1, n, q
            p = _space(text, p + _1)
            if which == SEGMENTATION:
                if text[p] == 123:
                    masks[k, 0] = p
                    p = _mask(text, p)
                    masks[k, 1] = p
                elif text[p] == 91:
                    before = q
                    p, n, q = _polygons(text, p, powers, points, n, part_lengths, q)
                    part_counts[k] = q - before
                else:
                    return -1, n, q
            elif which == BOX:
                if text[p] != 91:
                    return -1, n, q
                for side in range(4):
                    value, _, p = _number(text, _space(text, p + _1), powers)
                    if p == _NOWHERE:
                        return -1, n, q
                    xywh[k, side] = value
                    p = _space(text, p)
                    if text[p] != (44 if side < 3 else 93):
                        return -1, n, q
                p += _1
            else:
                value, whole, p = _number(text, p, powers)
                if p == _NOWHERE or (which != AREA and not whole):
                    return -1, n, q
                if which == AREA:
                    area[k] = value
                elif which == CROWD:
                    crowd[k] = value != 0
                else:
                    ids[k, which] = np.int64(value)
            if p == _NOWHERE:
                return -1, n, q
            p = _space(text, p)
            if text[p] == 125:
                break
            if text[p] != 44:
                return -1, n, q
            p += _1
        if seen & 15 != 15:  # the three ids and the box
            return -1, n, q
        k += 1
        p = _space(text, p + _1)
        if text[p] == 93:
            at_end = _space(text, p + _1) == _U(text.size) - _1
            return (k if at_end else -1), n, q
        if text[p] != 44:
            return -1, n, q
        p = _space(text, p + _1)
