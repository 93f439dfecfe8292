"""Run-length encoded masks on coarser cells and back, without the pixels in between."""

from __future__ import annotations

import numpy as np

from ytrue.jit import borrowed, kernel


@kernel
def write_masks(runs, starts, height, width, stride, masks, seen):  # type: ignore[no-untyped-def]
    """Write to masks (N, h, w) uint8, which are 0, the cells that each mask covers by half or more.

    Where a mask covers no cell by half: the cell of which it covers most pixels, of several the
    first. runs (R,) int64 run lengths, zeros first, column by column; starts (N + 1,) each mask's
    first run; height, width of the masks and stride of the cells, pixels; seen (N,) bool, whether a
    mask has a pixel.
    """
    # Of each cell that are set, of the mask at hand, less those of the cell above: a run changes few.
    pixels = np.zeros((masks.shape[1] + 1, masks.shape[2]), np.int32)
    window = np.empty(4, np.int64)  # of the cells that it touches
    _write_borrowed(runs, starts, height, width, stride, masks, seen, pixels, window)


@kernel
def _write_borrowed(runs, starts, height, width, stride, masks, seen, pixels, window):  # type: ignore[no-untyped-def]
    runs, starts, masks, seen = borrowed(runs), borrowed(starts), borrowed(masks), borrowed(seen)
    pixels, window = borrowed(pixels), borrowed(window)
    for mask in range(len(starts) - 1):
        window[0], window[1], window[2], window[3] = height, width, 0, 0
        position = 0
        for run in range(starts[mask], starts[mask + 1]):
            stop = position + runs[run]
            if (run - starts[mask]) % 2 == 1 and stop > position:
                _count(position, stop, height, stride, pixels, window)
            position = stop
        seen[mask] = window[2] > 0
        if seen[mask]:
            _set(height, width, stride, pixels, window, masks, mask)


@kernel
def _count(position, stop, height, stride, pixels, window):  # type: ignore[no-untyped-def]
    """Add the pixels from position to stop (exclusive) to their cells and widen the window."""
    while position < stop:
        column = position // height
        row = position - column * height
        last = min(height, row + stop - position)
        position += last - row
        first, end, across = row // stride, (last - 1) // stride, column // stride
        window[0], window[1] = min(window[0], first), min(window[1], across)
        window[2], window[3] = max(window[2], end + 1), max(window[3], across + 1)
        in_first = min(last, (first + 1) * stride) - row
        pixels[first, across] += in_first
        if end == first:
            pixels[first + 1, across] -= in_first
            continue
        in_end = last - end * stride
        pixels[first + 1, across] += stride - in_first
        pixels[end, across] += in_end - stride
        pixels[end + 1, across] -= in_end


@kernel
def _set(height, width, stride, pixels, window, masks, mask):  # type: ignore[no-untyped-def]
    """Set the cells of one mask and clear its counts."""
    top, left, bottom, right = window
    narrow = masks.shape[2] - 1  # of the cells of a row the last may be narrower
    any_set = np.uint8(0)
    for row in range(top, bottom):
        tall = min(stride, height - row * stride)
        # Of slices, whose indices none can be negative, the compiler makes vector instructions.
        counts, cells = pixels[row, left:right], masks[mask, row, left:right]
        if row > top:
            above = pixels[row - 1, left:right]
            for i in range(counts.shape[0]):
                counts[i] += above[i]
        half = np.int32((tall * stride + 1) // 2)
        for i in range(counts.shape[0]):
            cells[i] = np.uint8(counts[i] >= half)
            any_set |= cells[i]
        if right > narrow:
            half = np.int32((tall * (width - narrow * stride) + 1) // 2)
            cells[-1] = np.uint8(counts[-1] >= half)
            any_set |= cells[-1]
    if not any_set:
        _set_fullest(pixels, window, masks, mask)
    pixels[top : bottom + 1, left:right] = 0


@kernel
def _set_fullest(pixels, window, masks, mask):  # type: ignore[no-untyped-def]
    """Set the cell with most pixels, of several the first."""
    most, best_row, best_column = 0, 0, 0
    for row in range(window[0], window[2]):
        for column in range(window[1], window[3]):
            if pixels[row, column] > most:
                most, best_row, best_column = pixels[row, column], row, column
    masks[mask, best_row, best_column] = 1


@kernel
def draw(values, box, stride, height, width, runs):  # type: ignore[no-untyped-def]
    """Write the mask of a map of values in a box as run lengths; return how many there are.

    A pixel is set where its centre lies in the box and the value there is above 0, interpolated
    linearly between the centres of the four nearest cells; beyond the outermost centres the value
    stays as it is there.

    values (h, w) float32; box (y_min, x_min, y_max, x_max); stride of the cells, height and width
    of the mask, pixels; runs (room,) int64, with room for one of each pixel in the box, one more of
    each column, and one.
    """
    top, bottom = _centres(box[0], box[2], height)
    left, right = _centres(box[1], box[3], width)
    count, start, was = 0, 0, False
    for column in range(left, right):
        for row in range(top, bottom):
            y, x = (row + 0.5) / stride - 0.5, (column + 0.5) / stride - 0.5
            now = _interpolated(values, y, x) > 0.0
            if now != was:
                position = column * height + row
                runs[count] = position - start
                count, start, was = count + 1, position, now
        goes_on = bottom - top == height and column + 1 < right  # at the top of the next column
        if was and not goes_on:
            position = column * height + bottom
            runs[count] = position - start
            count, start, was = count + 1, position, False
    if start == height * width:
        return count
    runs[count] = height * width - start
    return count + 1


@kernel
def _centres(low, high, size):  # type: ignore[no-untyped-def]
    """Return the first pixel whose centre lies in [low, high), and the first beyond."""
    first = min(max(np.ceil(np.float64(low) - 0.5), 0.0), float(size))
    last = min(max(np.ceil(np.float64(high) - 0.5), 0.0), float(size))
    return int(first), int(last)


@kernel
def _interpolated(values, y, x):  # type: ignore[no-untyped-def]
    y = min(max(y, 0.0), values.shape[0] - 1.0)
    x = min(max(x, 0.0), values.shape[1] - 1.0)
    row, column = int(y), int(x)
    down, right = min(row + 1, values.shape[0] - 1), min(column + 1, values.shape[1] - 1)
    v, u = y - row, x - column
    upper = values[row, column] * (1.0 - u) + values[row, right] * u
    lower = values[down, column] * (1.0 - u) + values[down, right] * u
    return upper * (1.0 - v) + lower * v
