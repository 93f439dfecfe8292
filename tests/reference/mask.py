"""MaskEncoder's rules one by one, on masks of the input's size."""

import math

import numpy as np
from pycocotools import mask as coco

from ytrue.rle import RLE


def pixels_of(encoder, objects, k):
    """The mask of object k, (height, width) bool; None where it has none."""
    height, width = encoder.image_size
    if objects.crowd[k] or not np.isfinite(objects.boxes[k]).all():
        return None
    if objects.polygons is not None and objects.polygons[k]:
        drawn = np.zeros((height, width), bool)
        for part in objects.polygons[k]:
            if len(part) > 2 and np.isfinite(part).all():
                ring = part[:, ::-1].astype(float).ravel().tolist()
                coded = coco.frPyObjects([ring], height, width)[0]
                drawn |= RLE.from_coco(coded["size"], coded["counts"]).decode().astype(bool)
        return drawn
    if objects.masks is not None and objects.masks[k] is not None:
        return objects.masks[k].decode().astype(bool)
    return None


def cells_of(encoder, pixels):
    """The cells that are half covered, or the one that is covered most."""
    rows, columns = encoder.cells
    stride = encoder.stride
    counts = np.zeros((rows, columns), int)
    cells = np.zeros((rows, columns), np.uint8)
    for row in range(rows):
        for column in range(columns):
            cell = pixels[
                row * stride : (row + 1) * stride, column * stride : (column + 1) * stride
            ]
            counts[row, column] = cell.sum()
            cells[row, column] = cell.mean() >= 0.5
    if counts.any() and not cells.any():
        cells.flat[counts.argmax()] = 1
    return cells


def encode(encoder, objects):
    """masks, mask_state and mask_box."""
    masks = np.zeros((len(objects), *encoder.cells), np.uint8)
    state = np.full(len(objects), -1, np.int8)
    boxes = np.zeros((len(objects), 4), np.float32)
    for k in range(len(objects)):
        pixels = pixels_of(encoder, objects, k)
        if pixels is not None and pixels.any():
            masks[k], state[k] = cells_of(encoder, pixels), 1
            limit = np.tile(encoder.image_size, 2).astype(np.float32)
            boxes[k] = np.clip(objects.boxes[k], 0, limit) / np.float32(encoder.stride)
    return {"masks": masks, "mask_state": state, "mask_box": boxes}


def drawn(values, box, stride, height, width):
    """The pixels in a box where values of cells, interpolated linearly, are above 0."""
    out = np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            y, x = row + 0.5, column + 0.5
            if box[0] <= y < box[2] and box[1] <= x < box[3]:
                out[row, column] = between(values, y / stride - 0.5, x / stride - 0.5) > 0
    return out


def between(values, y, x):
    last = np.array(values.shape) - 1
    y, x = np.clip((y, x), 0, last).tolist()
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, last[0]), min(left + 1, last[1])
    upper = np.float64(values[top, left]) * (1 - (x - left)) + values[top, right] * (x - left)
    lower = np.float64(values[bottom, left]) * (1 - (x - left)) + values[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)
