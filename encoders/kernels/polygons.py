"""Outlines around the centres of boxes: cut to the box, then the farthest vertex of every angle.

Geometry is float64 throughout: vertices are float32 pixels, so that differences are exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.objects import MATCHED, POSITIVE
from ytrue.jit import borrowed, kernel

TURN = 2.0 * np.pi
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
# Cutting by one side leaves at most one and a half times as many vertices: 1.5^4 for all four.
GROWTH, SLACK = 6, 16
NO_BIN = -1
NO_VERTEX = -1


class Outlines(NamedTuple):
    """The outlines of N objects: Q parts with M vertices in all."""

    yx: NDArray[np.float32]  # (M, 2)
    starts: NDArray[np.int64]  # (Q + 1,) first vertex of each part
    parts: NDArray[np.int64]  # (N + 1,) first part of each object


class Vertices(NamedTuple):
    """What is left of the outlines in the boxes; object k has `counts[k]` from `first[k]` on."""

    yx: NDArray[np.float32]  # (room, 2)
    bin: NDArray[np.int32]  # (room,) NO_BIN on the centre, where there is no angle
    kept: NDArray[np.bool_]  # (room,) the farthest of its bin
    first: NDArray[np.int64]  # (N + 1,)
    counts: NDArray[np.int64]  # (N,)
    part: NDArray[np.int64]  # (N,) the part it is of, -1 where it is of none or of several


@kernel
def describe(first, end, hull, fill, bins, kind, boxes, outlines, vertices, polar):  # type: ignore[no-untyped-def]
    """Write vertices and polar (N, V, 3) float32 of the objects first to end (exclusive).

    hull: of several parts take the convex hull, else the largest; fill: bins without a vertex hold
    a point of the outline; bins V; kind (N,) int8 and boxes (N, 4) float32 as `encode_images` wrote
    them to its record.
    """
    longest = 0
    for k in range(first, end):
        start = outlines.starts[outlines.parts[k]]
        longest = max(longest, outlines.starts[outlines.parts[k + 1]] - start)
    room = GROWTH * longest + SLACK
    source, other, best = np.empty((room, 2)), np.empty((room, 2)), np.empty((room, 2))
    radius, place, farthest = np.empty(bins), np.empty(bins), np.empty(bins, np.int64)
    _describe_borrowed(
        first, end, hull, fill, kind, boxes, outlines, vertices, polar, source, other, best,
        radius, place, farthest,
    )  # fmt: skip


@kernel
def _describe_borrowed(  # type: ignore[no-untyped-def]
    first, end, hull, fill, kind, boxes, outlines, vertices, polar, source, other, best, radius,
    place, farthest,
):  # fmt: skip
    kind, boxes, polar = borrowed(kind), borrowed(boxes), borrowed(polar)
    outlines, vertices = borrowed(outlines), borrowed(vertices)
    source, other, best = borrowed(source), borrowed(other), borrowed(best)
    radius, place, farthest = borrowed(radius), borrowed(place), borrowed(farthest)
    for k in range(first, end):
        polar[k] = 0
        vertices.counts[k], vertices.part[k] = 0, -1
        if kind[k] != MATCHED:
            continue
        begin, stop = outlines.parts[k], outlines.parts[k + 1]
        if hull and stop - begin > 1:
            n = _hull(outlines.yx, outlines.starts[begin], outlines.starts[stop], source)
            count = cut_to_box(n, boxes[k], source, other)
            best[:count] = source[:count]
        else:
            count = _largest(k, begin, stop, boxes[k], outlines, vertices, source, other, best)
        at = vertices.first[k]
        vertices.counts[k] = count
        vertices.yx[at : at + count] = best[:count]
        _bin(at, count, boxes[k], vertices, radius, place, farthest, polar[k])
        if fill:
            _fill(at, count, boxes[k], vertices, radius, farthest, polar[k])


@kernel
def _largest(k, begin, stop, box, outlines, vertices, source, other, best):  # type: ignore[no-untyped-def]
    """Write the part of the largest area in the box to best; return its number of vertices."""
    count, largest = 0, -1.0
    for part in range(begin, stop):
        n = outlines.starts[part + 1] - outlines.starts[part]
        source[:n] = outlines.yx[outlines.starts[part] : outlines.starts[part + 1]]
        if not _finite(n, source):
            continue
        n = cut_to_box(n, box, source, other)
        area = _area(n, source)
        if n > 0 and area > largest:
            count, largest = n, area
            best[:n] = source[:n]
            vertices.part[k] = part - begin
    return count


@kernel
def _finite(n, points):  # type: ignore[no-untyped-def]
    finite = True
    for i in range(n):
        finite &= np.isfinite(points[i, 0]) & np.isfinite(points[i, 1])
    return finite


@kernel
def _area(n, points):  # type: ignore[no-untyped-def]
    """Return the area of a ring (the shoelace formula, about its first vertex)."""
    twice = 0.0
    for i in range(1, n - 1):
        ay, ax = points[i, 0] - points[0, 0], points[i, 1] - points[0, 1]
        by, bx = points[i + 1, 0] - points[0, 0], points[i + 1, 1] - points[0, 1]
        twice += ay * bx - ax * by
    return abs(twice) / 2.0


@kernel
def cut_to_box(n, box, points, other):  # type: ignore[no-untyped-def]
    """Cut the ring of the first n points to a box, in place; return how many there are then.

    Side by side (Sutherland and Hodgman 1974): y_min, x_min, y_max, x_max. points, other (room, 2)
    float64. A concave ring that falls apart is left in one piece, joined along the border.
    """
    for side in range(4):
        axis, sign, edge = side % 2, 1.0 if side < 2 else -1.0, np.float64(box[side])
        outside = 0
        for i in range(n):
            outside += sign * (points[i, axis] - edge) < 0.0
        if outside == 0:
            continue
        m = 0
        for i in range(n):
            j = i + 1 if i + 1 < n else 0
            here, there = sign * (points[i, axis] - edge), sign * (points[j, axis] - edge)
            if here >= 0.0:
                other[m, 0], other[m, 1] = points[i, 0], points[i, 1]
                m += 1
            # A ring that touches the border has its vertex there already.
            if (here > 0.0 and there < 0.0) or (here < 0.0 and there > 0.0):
                share = here / (here - there)
                across = points[i, 1 - axis]
                other[m, axis] = edge
                other[m, 1 - axis] = across + share * (points[j, 1 - axis] - across)
                m += 1
        points[:m] = other[:m]
        n = m
    return n


@kernel
def _hull(yx, begin, stop, hull):  # type: ignore[no-untyped-def]
    """Write the corners of the convex hull of some finite vertices to hull; return how many.

    By wrapping (Jarvis 1973), from the lowest y and x on; of vertices in one line the farthest.
    """
    start = -1
    for i in range(begin, stop):
        if np.isfinite(yx[i, 0]) and np.isfinite(yx[i, 1]):
            lower = start < 0 or yx[i, 0] < yx[start, 0]
            if lower or (yx[i, 0] == yx[start, 0] and yx[i, 1] < yx[start, 1]):
                start = i
    n, here = 0, start
    while here >= 0 and n < stop - begin:
        hull[n, 0], hull[n, 1] = yx[here, 0], yx[here, 1]
        n += 1
        here = _next_corner(yx, begin, stop, here)
        if here >= 0 and yx[here, 0] == yx[start, 0] and yx[here, 1] == yx[start, 1]:
            break
    return n


@kernel
def _next_corner(yx, begin, stop, here):  # type: ignore[no-untyped-def]
    """Return the vertex that all others are on one side of, seen from `here`; -1 without another."""
    y, x, chosen = np.float64(yx[here, 0]), np.float64(yx[here, 1]), -1
    dy, dx = 0.0, 0.0
    for i in range(begin, stop):
        ey, ex = yx[i, 0] - y, yx[i, 1] - x
        if not (np.isfinite(ey) and np.isfinite(ex)) or (ey == 0.0 and ex == 0.0):
            continue
        turn = dy * ex - dx * ey
        farther = turn == 0.0 and ey * ey + ex * ex > dy * dy + dx * dx
        if chosen < 0 or turn > 0.0 or farther:
            chosen, dy, dx = i, ey, ex
    return chosen


@kernel
def _bin(at, count, box, vertices, radius, place, farthest, polar):  # type: ignore[no-untyped-def]
    """Keep the farthest vertex of each bin; of equally far ones that of the smaller angle."""
    y, x, diagonal = _middle(box)
    radius[:] = 0.0
    farthest[:] = NO_VERTEX
    for i in range(at, at + count):
        vertices.kept[i] = False
        vertices.bin[i] = NO_BIN
        dy, dx = y - vertices.yx[i, 0], x - vertices.yx[i, 1]
        distance = np.sqrt(dy * dy + dx * dx)
        if distance == 0.0:
            continue
        chosen, inside = angle_bin(dy, dx, radius.size)
        vertices.bin[i] = chosen
        nearer = distance == radius[chosen] and inside < place[chosen]
        if distance > radius[chosen] or nearer:
            radius[chosen], place[chosen], farthest[chosen] = distance, inside, i
            polar[chosen, 0] = distance / diagonal
            polar[chosen, 1] = min(np.float32(inside), BELOW_ONE)
            polar[chosen, 2] = np.float32(1)
    for v in range(radius.size):
        if farthest[v] != NO_VERTEX:
            vertices.kept[farthest[v]] = True


@kernel
def _fill(at, count, box, vertices, radius, farthest, polar):  # type: ignore[no-untyped-def]
    """Give bins without a vertex the farthest point where the outline crosses their middle.

    An edge is looked at in the bins strictly between those of its ends, as these hold a vertex.
    """
    y, x, diagonal = _middle(box)
    bins = radius.size
    for i in range(at, at + count):
        j = i + 1 if i + 1 < at + count else at
        first, last = vertices.bin[i], vertices.bin[j]
        ay, ax = y - vertices.yx[i, 0], x - vertices.yx[i, 1]
        by, bx = y - vertices.yx[j, 0], x - vertices.yx[j, 1]
        turn = ax * by - ay * bx
        if first == NO_BIN or last == NO_BIN or turn == 0.0:
            continue  # on a ray, which the bins of its ends hold
        if turn < 0.0:
            first, last = last, first
        between = (last - first - 1) % bins
        if 2 * between > bins:
            continue  # in one bin, but for rounding: no edge spans more than half a turn
        reach = max(np.sqrt(ay * ay + ax * ax), np.sqrt(by * by + bx * bx))
        for step in range(between):
            v = (first + 1 + step) % bins
            if farthest[v] != NO_VERTEX:
                continue
            angle = (v + 0.5) * (TURN / bins)
            across = np.cos(angle) * (by - ay) - np.sin(angle) * (bx - ax)
            distance = min(turn / across, reach) if across != 0.0 else 0.0
            if distance > radius[v]:
                radius[v] = distance
                polar[v, 0] = distance / diagonal
                polar[v, 1] = np.float32(0.5)
                polar[v, 2] = np.float32(1)


@kernel
def _middle(box):  # type: ignore[no-untyped-def]
    """Return the centre (y, x) of a box and its diagonal."""
    height, width = np.float64(box[2]) - box[0], np.float64(box[3]) - box[1]
    diagonal = np.sqrt(height * height + width * width)
    return np.float64(box[0]) + height / 2.0, np.float64(box[1]) + width / 2.0, diagonal


@kernel
def angle_bin(dy, dx, bins):  # type: ignore[no-untyped-def]
    """Return the bin of the angle of (dy, dx) and where it lies inside, in [0, 1), float64.

    Bin v holds the angles from v to v + 1 parts of a full turn. A full turn itself, to which tiny
    negative angles are rounded, is the angle 0.
    """
    angle = np.arctan2(dy, dx)
    if angle < 0.0:
        angle += TURN
    place = angle * (bins / TURN)
    chosen = int(place)
    if chosen >= bins:
        return 0, 0.0
    return chosen, place - chosen


@kernel
def write_images(first, end, starts, polar, state, owner, polygon):  # type: ignore[no-untyped-def]
    """Write polar to the places that own an object, 0 to all others, of images first to end.

    starts (B + 1,) first object of each image; state (B, P) int8 and owner (B, P) int32 as the box
    target has them; polygon (B, P, V, 3) float32.
    """
    starts, polar, state = borrowed(starts), borrowed(polar), borrowed(state)
    owner, polygon = borrowed(owner), borrowed(polygon)
    for image in range(first, end):
        polygon[image] = 0
        for place in range(state.shape[1]):
            if state[image, place] == POSITIVE:
                polygon[image, place] = polar[starts[image] + owner[image, place]]
    return 0
