"""The rules of `KeypointGridEncoder` point by point and cell by cell, in plain NumPy."""

from collections import defaultdict

import numpy as np

f32 = np.float32


def locate(value, side, count):
    """Cell and offset of one coordinate."""
    if value >= side:
        return count - 1, f32(1)
    place = min(f32(f32(value * f32(count)) / f32(side)), f32(count))
    cell = min(int(np.floor(place)), count - 1)
    return cell, f32(place - f32(cell))


def kind(encoder, annotations, k, point):
    """Outcome of one point, before slots are dealt out."""
    y, x, visibility = point
    height, width = encoder.image_size
    top, left, bottom, right = annotations.content or (0, 0, height, width)
    if not visibility > 0:
        return "unlabelled"
    if annotations.crowd[k]:
        return "crowd"
    if encoder.hidden == "skip" and visibility < 2:
        return "hidden"
    if not (np.isfinite(y) and np.isfinite(x)):
        return "not-finite"
    if not (0 <= y <= height and 0 <= x <= width):
        return "outside"
    if not (top <= y <= bottom and left <= x <= right):
        return "padding"
    return "matched"


def encode(encoder, annotations):
    """Return the target and the outcome of every point."""
    P, C = encoder.points_per_cell, encoder.num_classes
    cells = sum(rows * columns for rows, columns in encoder.grid)
    target = {
        "state": np.zeros((cells, P), np.int8),
        "offset": np.zeros((cells, P, 2), f32),
        "label": np.zeros((cells, P, C), f32),
        "object": np.full((cells, P), -1, np.int32),
    }
    keypoints = annotations.keypoints
    if keypoints is None:
        keypoints = np.zeros((len(annotations), 0, 3), f32)
    outcome = {}
    for k, landmarks in enumerate(keypoints):
        for landmark, point in enumerate(landmarks):
            outcome[k, landmark] = kind(encoder, annotations, k, point)
    taught = [key for key, word in outcome.items() if word == "matched"]
    served = set()
    first = 0
    for rows, columns in encoder.grid:
        wanting = defaultdict(list)
        for k, landmark in taught:
            y, x, visibility = keypoints[k, landmark]
            row, dy = locate(y, encoder.image_size[0], rows)
            column, dx = locate(x, encoder.image_size[1], columns)
            distance = f32(f32((dy - f32(0.5)) ** 2) + f32((dx - f32(0.5)) ** 2))
            cost = distance if visibility >= 2 else f32(distance + f32(1))
            label = landmark if encoder.classes == "landmark" else annotations.labels[k]
            place = (first + row * columns + column, landmark if encoder.slots == "fixed" else None)
            wanting[place].append((cost, label, y, x, k, landmark, dy, dx))
        for (cell, only), points in wanting.items():
            points.sort()
            kept = points[: P if only is None else 1]
            kept.sort(key=lambda point: point[1:])
            for slot, (_, label, _, _, k, landmark, dy, dx) in enumerate(kept, only or 0):
                target["state"][cell, slot] = 1
                target["offset"][cell, slot] = dy, dx
                target["label"][cell, slot, label] = 1
                target["object"][cell, slot] = k
                served.add((k, landmark))
        first += rows * columns
    if len(encoder.grid) == 1:
        target = {
            name: array.reshape(*encoder.grid[0], *array.shape[1:])
            for name, array in target.items()
        }
    words = [
        "taken" if word == "matched" and key not in served else word
        for key, word in outcome.items()
    ]
    return target, words
