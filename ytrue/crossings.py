"""The pixels inside an outline as run lengths, in the arithmetic of pycocotools, without its walk.

pycocotools (cocodataset/cocoapi common/maskApi.c, rleFrPoly) takes vertices in fifths of a pixel, walks
along every edge in such steps, and keeps of a walk the places where it passes the middle of a column.
Here these are computed, and of the columns in the frame alone: the same places, at a cost that a
vertex far away cannot raise.
"""

import numpy as np

from ytrue.jit import kernel

SCALE = 5.0


@kernel
def runs_of(xy, starts, height, width):  # type: ignore[no-untyped-def]
    """Return the run lengths (R,) int64, zeros first, column by column, of the union of rings.

    xy (V, 2) float64 pixels, below 1e12 in size; starts (Q + 1,) int64 first vertex of each ring.
    """
    room = 0
    for ring in range(starts.shape[0] - 1):
        room = max(room, _room(xy[starts[ring] : starts[ring + 1]], width))
    found = np.empty(room, np.int64)
    rings = starts.shape[0] - 1
    low, high = np.empty(16, np.int64), np.empty(16, np.int64)  # first and last + 1 of what is set
    n = 0
    for ring in range(rings):
        count = _cross(xy[starts[ring] : starts[ring + 1]], height, width, found)
        places = _odd(found[:count], height * width)
        while n + places.shape[0] // 2 > low.shape[0]:
            low, high = np.append(low, low), np.append(high, high)
        for i in range(0, places.shape[0], 2):
            low[n], high[n] = places[i], places[i + 1]
            n += 1
    low, high = low[:n], high[:n]
    if rings > 1:  # of one ring they are in order, and apart
        low.sort()
        high.sort()
    return _runs(low, high, height * width)


@kernel
def _room(xy, width):  # type: ignore[no-untyped-def]
    """Return how many places a ring can have at most."""
    room = 0
    for i in range(xy.shape[0]):
        across = abs(xy[i, 0] - xy[i - 1, 0]) + 2.0
        room += int(min(across, float(width)))
    return room


@kernel
def _cross(xy, height, width, found):  # type: ignore[no-untyped-def]
    """Write the places, column * height + row, where a ring passes the middle of a column."""
    n = 0
    for i in range(xy.shape[0]):
        j = i + 1 if i + 1 < xy.shape[0] else 0
        x, y = int(SCALE * xy[i, 0] + 0.5), int(SCALE * xy[i, 1] + 0.5)
        end_x, end_y = int(SCALE * xy[j, 0] + 0.5), int(SCALE * xy[j, 1] + 0.5)
        across, down = abs(end_x - x), abs(end_y - y)
        if (across >= down and x > end_x) or (across < down and y > end_y):
            x, y, end_x, end_y = end_x, end_y, x, y
        first = max(-((2 - min(x, end_x)) // 5), 0)
        last = min((max(x, end_x) - 3) // 5, width - 1)
        for column in range(first, last + 1):
            before = 5 * column + 2  # the fifth left of the middle
            if across >= down:
                slope = (end_y - y) / across
                one = int(y + slope * (before - x) + 0.5)
                other = int(y + slope * (before + 1 - x) + 0.5)
                step = min(one, other)
            else:
                step = y + _last_before(x, (end_x - x) / down, down, before)
            row = min(max((step + 0.5) / SCALE - 0.5, 0.0), float(height))
            found[n] = column * height + int(np.ceil(row))
            n += 1
    return n


@kernel
def _last_before(x, slope, down, before):  # type: ignore[no-untyped-def]
    """Return the last of the steps 0 to `down` of a steep edge on the side where it starts."""
    low, high = 0, down
    while high - low > 1:
        middle = (low + high) // 2
        right = int(x + slope * middle + 0.5) > before
        if right == (slope > 0):
            high = middle
        else:
            low = middle
    return low


@kernel
def _odd(places, size):  # type: ignore[no-untyped-def]
    """Return those of the places, 0 to `size`, that are there an odd number of times, in order."""
    if places.shape[0] > size // 16:  # cheaper to count than to sort
        odd = np.zeros(size + 1, np.bool_)
        for place in places:
            odd[place] = not odd[place]
        return np.flatnonzero(odd)
    ordered = np.sort(places)
    n, i = 0, 0
    while i < ordered.shape[0]:
        if i + 1 < ordered.shape[0] and ordered[i] == ordered[i + 1]:
            i += 2
            continue
        ordered[n] = ordered[i]
        n += 1
        i += 1
    return ordered[:n]


@kernel
def _runs(low, high, size):  # type: ignore[no-untyped-def]
    """Return the runs of what lies between any low and its high, each in order."""
    runs = np.empty(2 * low.shape[0] + 1, np.int64)
    n, at, i = 0, 0, 0
    while i < low.shape[0]:
        first = i
        # Sorted apart, a gap is where as many have ended as have begun.
        while i + 1 < low.shape[0] and low[i + 1] <= high[i]:
            i += 1
        runs[n], runs[n + 1] = low[first] - at, high[i] - low[first]
        n, at, i = n + 2, high[i], i + 1
    if at < size:
        runs[n] = size - at
        n += 1
    return runs[:n]
