"""Points found against points wanted, plainly: one detection after the other, one point after the
other.

Points are (image, key, (y, x), radius, crowd), detections (image, key, (y, x), score).
"""

import math


def distance(a, b):
    dy, dx = a[0] - b[0], a[1] - b[1]
    return math.sqrt(dy * dy + dx * dx)


def match(points, detections):
    """Return the detection that takes each point, None where none does, and what is excused."""
    taken_by = [None] * len(points)
    excused = set()
    for d in sorted(range(len(detections)), key=lambda d: -detections[d][3]):
        image, key, yx, _ = detections[d]
        best = None
        for t, (other_image, other_key, other, radius, crowd) in enumerate(points):
            if (image, key) != (other_image, other_key) or crowd or taken_by[t] is not None:
                continue
            away = distance(yx, other)
            if away <= radius and (best is None or away < distance(yx, points[best][2])):
                best = t
        if best is not None:
            taken_by[best] = d
        elif any(
            crowd and (image, key) == (other_image, other_key) and distance(yx, other) <= radius
            for other_image, other_key, other, radius, crowd in points
        ):
            excused.add(d)
    return taken_by, excused


def numbers(points, detections, threshold, key=None):
    """Return counts and errors of one key, or of all, matching only what reaches the threshold."""
    points = [p for p in points if key is None or p[1] == key]
    detections = [d for d in detections if d[3] >= threshold and (key is None or d[1] == key)]
    taken_by, excused = match(points, detections)
    errors, nearest = [], []
    for (image, key_, yx, _, crowd), by in zip(points, taken_by, strict=True):
        if crowd:
            continue
        if by is not None:
            errors.append(distance(yx, detections[by][2]))
        away = [distance(yx, d[2]) for d in detections if d[:2] == (image, key_)]
        nearest.append(min(away, default=None))
    return {
        "points": len(nearest),
        "detections": len(detections) - len(excused),
        "excused": len(excused),
        "hits": len(errors),
        "errors": errors,
        "nearest": [away for away in nearest if away is not None],
        "without": nearest.count(None),
    }


def average_precision(points, detections, key):
    """Return the area under the curve of one key, None where nothing is wanted."""
    points = [p for p in points if p[1] == key]
    detections = [d for d in detections if d[1] == key]
    wanted = sum(not p[4] for p in points)
    if not wanted:
        return None
    taken_by, excused = match(points, detections)
    hits, steps = 0, []  # (recall, precision)
    order = sorted(range(len(detections)), key=lambda d: -detections[d][3])
    order = [d for d in order if d not in excused]
    for n, d in enumerate(order, start=1):
        hits += d in taken_by
        steps.append((hits / wanted, hits / n))
    area, before = 0.0, 0.0
    for k, (recall, _) in enumerate(steps):
        area += (recall - before) * max(precision for _, precision in steps[k:])
        before = recall
    return area
