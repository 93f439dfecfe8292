"""FCOSEncoder's rules on whole objects x points matrices, in float32 NumPy."""

import numpy as np

from reference.matching import kinds
from reference.yolo import Kinds, cut


def points_of(encoder):
    """(P, 2) float32 points, (P,) level: level, row, column."""
    height, width = encoder.image_size
    points, levels = [], []
    for level, stride in enumerate(encoder.stride):
        rows, columns = -(-height // stride), -(-width // stride)
        for row in range(rows):
            for column in range(columns):
                points.append(((row + 0.5) * (height / rows), (column + 0.5) * (width / columns)))
                levels.append(level)
    return np.array(points).astype(np.float32), np.array(levels)


def candidates(encoder, boxes, points, level):
    """(N, P) bool, and the float32 distances (4, N, P): top, left, bottom, right."""
    y, x = points.T
    y_min, x_min, y_max, x_max = boxes.T[..., None]
    distances = np.stack((y - y_min, x - x_min, y_max - y, x_max - x))
    inside = distances.min(axis=0) > 0
    bounds = np.float32([0, *encoder.ranges, np.inf])
    far = distances.max(axis=0)
    of_size = (far > bounds[level]) & (far <= bounds[level + 1])
    if encoder.center_radius is None:
        return inside & of_size, distances
    half = np.float32(0.5)
    reach = (encoder.center_radius * np.array(encoder.stride)).astype(np.float32)[level]
    near = (abs(y - (y_min * half + y_max * half)) < reach) & (
        abs(x - (x_min * half + x_max * half)) < reach
    )
    return inside & of_size & near, distances


def encode(encoder, annotations):
    """Return the target, the N outcomes and the (N, P) candidates."""
    points, level = points_of(encoder)
    n, count = len(annotations), len(points)
    words = kinds(Kinds(encoder), annotations)
    matched = np.array([word == "match" for word in words], bool)
    boxes = np.zeros((n, 4), np.float32)
    for k in np.flatnonzero(matched):
        boxes[k] = cut(encoder, annotations.boxes[k])
    asked, distances = candidates(encoder, boxes, points, level)
    asked &= matched[:, None]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest = np.where(asked, area[:, None], np.inf)
    owner = np.full(count, -1, np.int32)
    held = asked.any(axis=0)
    if n:
        owner[held] = smallest.argmin(axis=0)[held]  # the first of equals
    at = np.flatnonzero(held)
    top, left, bottom, right = distances[:, owner[at], at]
    stride = np.float32(encoder.stride)[level[at]]
    label, box = np.full(count, -1, np.int32), np.zeros((count, 4), np.float32)
    centerness, state = np.zeros(count, np.float32), np.zeros(count, np.int8)
    state[at], label[at] = 1, annotations.labels[owner[at]]
    box[at] = np.stack((top, left, bottom, right), axis=1) / stride[:, None]
    across = np.minimum(left, right) / np.maximum(left, right)
    centerness[at] = np.sqrt(across * (np.minimum(top, bottom) / np.maximum(top, bottom)))
    state[ignored(encoder, annotations, words, points) & (state == 0)] = -1
    positives = np.bincount(owner[at], minlength=n)
    outcome = [
        word
        if word != "match"
        else "matched" if positives[k]
        else "taken" if asked[k].any()
        else "no-point"
        for k, word in enumerate(words)
    ]  # fmt: skip
    target = {"state": state, "label": label, "box": box, "centerness": centerness, "object": owner}
    return target, outcome, asked


def ignored(encoder, annotations, words, points):
    """(P,) bool: in a crowd or, where asked, in padding."""
    y, x = points.T
    out = np.zeros(len(points), bool)
    if encoder.crowd == "ignore":
        masks = annotations.masks or [None] * len(annotations)
        for box, mask, word in zip(annotations.boxes, masks, words, strict=True):
            if word == "crowd" and mask is not None:
                out |= mask.decode()[y.astype(int), x.astype(int)] > 0
            elif word == "crowd":
                out |= (y >= box[0]) & (y < box[2]) & (x >= box[1]) & (x < box[3])
    if encoder.padding == "ignore":
        y_min, x_min, y_max, x_max = annotations.content or (0, 0, *encoder.image_size)
        out |= (y < y_min) | (y >= y_max) | (x < x_min) | (x >= x_max)
    return out
