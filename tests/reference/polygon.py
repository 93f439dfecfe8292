"""PolygonEncoder's rules one by one, in plain loops over objects and vertices."""

import math
from itertools import pairwise

import numpy as np

from reference import yolo


def cut(ring, box):
    """The ring (list of (y, x) floats) inside a box, side by side."""
    for axis, sign, edge in ((0, 1, box[0]), (1, 1, box[1]), (0, -1, box[2]), (1, -1, box[3])):
        out = []
        for here, there in zip(ring, ring[1:] + ring[:1], strict=True):
            a, b = sign * (here[axis] - edge), sign * (there[axis] - edge)
            if a >= 0:
                out.append(here)
            if a * b < 0:
                other = here[1 - axis] + a / (a - b) * (there[1 - axis] - here[1 - axis])
                out.append((edge, other) if axis == 0 else (other, edge))
        ring = out
    return ring


def area(ring):
    y, x = ring[0]
    total = 0.0
    for here, there in pairwise(ring[1:]):
        total += (here[0] - y) * (there[1] - x) - (here[1] - x) * (there[0] - y)
    return abs(total) / 2


def hull(points):
    """Corners of the convex hull (Andrew's chains), from the lowest y and x on."""
    points = sorted(set(points))
    if len(points) < 3:
        return points

    def cross(o, a, b):
        return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])

    chains = []
    for ordered in (points, points[::-1]):
        chain = []
        for point in ordered:
            while len(chain) > 1 and cross(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains += chain[:-1]
    return chains[:1] + chains[:0:-1]


def rings_of(objects, k):
    """The parts of object k's outline as lists of float pairs."""
    if objects.polygons is not None and objects.polygons[k]:
        parts = objects.polygons[k]
    elif objects.masks is not None and objects.masks[k] is not None:
        parts = trace(objects.masks[k].decode())
    else:
        parts = ()
    return [[tuple(map(float, point)) for point in part] for part in parts]


def trace(pixels):
    """Outer outlines of 8-connected regions: holes filled, then edges followed."""
    regions = label(pixels)
    out = []
    for region in range(1, regions.max(initial=0) + 1):
        one = np.pad(regions == region, 1)
        outside = label(~one, corners=False)
        filled = np.pad(outside != outside[0, 0], 1)[1:-1, 1:-1]
        out.append(loop(filled[1:-1, 1:-1]))
    return out


def label(pixels, corners=True):
    regions, n = np.zeros(pixels.shape, int), 0
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)] + [(1, 1), (1, -1), (-1, 1), (-1, -1)] * corners
    for start in zip(*np.nonzero(pixels), strict=True):
        if regions[start]:
            continue
        n += 1
        stack, regions[start] = [start], n
        while stack:
            row, column = stack.pop()
            for down, right in steps:
                at = row + down, column + right
                inside = 0 <= at[0] < pixels.shape[0] and 0 <= at[1] < pixels.shape[1]
                if inside and pixels[at] and not regions[at]:
                    regions[at] = n
                    stack.append(at)
    return regions


def loop(filled):
    """The corners of one region without holes, in order: its pixels' loose edges, end to end."""
    edges = {}
    for row, column in np.argwhere(filled).tolist():
        corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        beside = [(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)]
        for i, (r, c) in enumerate(beside):
            inside = 0 <= r < filled.shape[0] and 0 <= c < filled.shape[1]
            if not (inside and filled[r, c]):
                edges.setdefault(corners[i], []).append(corners[(i + 1) % 4])
    start = min(edges)
    at, step, out = (start[0], start[1] + 1), (0, 1), []
    edges[start].remove(at)
    while True:
        left = (at[0] - step[1], at[1] + step[0])
        there = left if left in edges[at] else edges[at][0] if edges[at] else None
        turned = (0, 1) if there is None else (there[0] - at[0], there[1] - at[1])
        if turned != step:
            out.append((float(at[0]), float(at[1])))
        if there is None:
            return out
        edges[at].remove(there)
        at, step = there, turned
        edges.setdefault(at, [])


def chosen_ring(encoder, objects, k, box):
    rings = rings_of(objects, k)
    finite = [ring for ring in rings if all(map(math.isfinite, sum(ring, ())))]
    if encoder.part_rule == "hull" and len(rings) > 1:
        points = [p for ring in rings for p in ring if all(map(math.isfinite, p))]
        return cut(hull(points), box)
    cuts = [ring for ring in (cut(ring, box) for ring in finite) if ring]
    return max(cuts, key=area, default=[])


def crossing(angle, ring):
    """The distance from the origin at which a ray at an angle last crosses a ring, 0 if nowhere."""
    sine, cosine = math.sin(angle), math.cos(angle)
    found = [0.0]
    for (ay, ax), (by, bx) in zip(ring, ring[1:] + ring[:1], strict=True):
        a, b = cosine * ay - sine * ax, cosine * by - sine * bx
        if a * b < 0:
            share = a / (a - b)
            y, x = ay + share * (by - ay), ax + share * (bx - ax)
            found.append(sine * y + cosine * x)
    return max(found)


def polar(bins, ring, box, points="vertices"):
    """(V, 3) of a ring around the centre of a box."""
    out = np.zeros((bins, 3), np.float32)
    y, x = box[0] + (box[2] - box[0]) / 2, box[1] + (box[3] - box[1]) / 2
    diagonal = math.sqrt((box[2] - box[0]) ** 2 + (box[3] - box[1]) ** 2)
    best = {}
    for vertex in np.float32(ring).tolist():
        dy, dx = y - vertex[0], x - vertex[1]
        distance = math.sqrt(dy * dy + dx * dx)
        if distance == 0:
            continue
        angle = math.atan2(dy, dx)
        place = (angle + 2 * math.pi if angle < 0 else angle) * (bins / (2 * math.pi))
        place = 0.0 if place >= bins else place
        v = math.floor(place)
        if v not in best or (-distance, place) < best[v]:
            best[v] = (-distance, place)
    for v, (distance, place) in best.items():
        inside = min(np.float32(place - v), np.nextafter(np.float32(1), np.float32(0)))
        out[v] = -distance / diagonal, inside, 1
    around = [(y - vertex[0], x - vertex[1]) for vertex in np.float32(ring).tolist()]
    for v in set(range(bins)) - best.keys() if points == "outline" else ():
        distance = crossing((v + 0.5) * 2 * math.pi / bins, around)
        if distance > 0:
            out[v] = distance / diagonal, 0.5, 1
    return out


def encode(encoder, objects):
    target, outcome = yolo.encode(encoder.boxes, objects)
    shape = encoder.spec["polygon"][0]
    target["polygon"] = np.zeros(shape, np.float32)
    for place in np.argwhere(target["state"] == 1):
        k = int(target["object"][tuple(place)])
        box = yolo.cut(encoder.boxes, objects.boxes[k]).tolist()
        ring = chosen_ring(encoder, objects, k, box)
        target["polygon"][tuple(place)] = polar(encoder.bins, ring, box, encoder.points)
    return target, outcome
