"""CenterNetEncoder's rules one by one, every Gaussian as an array of the whole map; and its peaks."""

import numpy as np

from reference.matching import kinds
from reference.yolo import Kinds, Object, locate


def gaussian_radius(det_size, min_overlap, correct):
    """xingyizhou/CenterNet src/lib/utils/image.py, gaussian_radius, line by line.

    `correct`: with the roots of the three equations, as princeton-vl/CornerNet#37 and mmdetection
    have them.
    """
    height, width = det_size

    a1 = 1
    b1 = height + width
    c1 = width * height * (1 - min_overlap) / (1 + min_overlap)
    sq1 = np.sqrt(b1**2 - 4 * a1 * c1)
    r1 = (b1 - sq1) / (2 * a1) if correct else (b1 + sq1) / 2

    a2 = 4
    b2 = 2 * (height + width)
    c2 = (1 - min_overlap) * width * height
    sq2 = np.sqrt(b2**2 - 4 * a2 * c2)
    r2 = (b2 - sq2) / (2 * a2) if correct else (b2 + sq2) / 2

    a3 = 4 * min_overlap
    b3 = -2 * min_overlap * (height + width)
    c3 = (min_overlap - 1) * width * height
    sq3 = np.sqrt(b3**2 - 4 * a3 * c3)
    r3 = (b3 + sq3) / (2 * a3) if correct else (b3 + sq3) / 2
    return min(r1, r2, r3)


def gaussian(shape, row, column, radius):
    """(H, W) float64: gaussian2D and the window of draw_umich_gaussian, of the same file."""
    sigma = (2 * radius + 1) / 6
    y, x = np.ogrid[: shape[0], : shape[1]]
    y, x = y - row, x - column
    values = np.exp(-(x * x + y * y) / (2 * sigma * sigma))
    values[values < np.finfo(values.dtype).eps * values.max()] = 0
    return np.where((abs(y) <= radius) & (abs(x) <= radius), values, 0)


def encode(encoder, annotations):
    """Return the target and the N outcomes."""
    (height, width), stride = encoder.image_size, encoder.stride
    rows, columns = -(-height // stride), -(-width // stride)
    target = {
        "state": np.zeros((rows, columns), np.int8),
        "label": np.full((rows, columns), -1, np.int32),
        "heatmap": np.zeros((rows, columns, encoder.num_classes), np.float32),
        "size": np.zeros((rows, columns, 2), np.float32),
        "offset": np.zeros((rows, columns, 2), np.float32),
        "object": np.full((rows, columns), -1, np.int32),
    }
    outcome = kinds(Kinds(encoder), annotations)
    taking_part = [
        Object(encoder, i, annotations.boxes[i], annotations.labels[i])
        for i, word in enumerate(outcome)
        if word == "match"
    ]
    for one in sorted(taking_part, key=lambda one: one.rank(encoder)):  # whoever comes first keeps
        row, dy = locate(one.centre[0], height, rows)
        column, dx = locate(one.centre[1], width, columns)
        tall, wide = one.height * rows / height, one.width * columns / width
        radius = gaussian_radius(
            (np.ceil(tall), np.ceil(wide)), encoder.min_overlap, encoder.radius == "correct"
        )
        heat = target["heatmap"][..., one.label]
        drawn = gaussian((rows, columns), row, column, max(0, int(radius)))
        np.maximum(heat, drawn.astype(np.float32), out=heat)
        outcome[one.index] = "taken" if target["state"][row, column] == 1 else "matched"
        if outcome[one.index] == "matched":
            target["state"][row, column] = 1
            target["label"][row, column], target["object"][row, column] = one.label, one.index
            target["size"][row, column] = tall, wide
            target["offset"][row, column] = dy, dx
    ignored = crowded(encoder, annotations, outcome, rows, columns)
    if encoder.padding == "ignore" and annotations.content is not None:
        y, x = centres(encoder, rows, columns)
        top, left, bottom, right = annotations.content
        ignored |= ~((y >= top) & (y < bottom) & (x >= left) & (x < right))
    target["state"][ignored & (target["state"] != 1)] = -1
    return target, outcome


def centres(encoder, rows, columns):
    """(H, 1) y and (1, W) x of the cells' centres, float32 pixels."""
    height, width = encoder.image_size
    y, x = (np.arange(rows) + 0.5) * (height / rows), (np.arange(columns) + 0.5) * (width / columns)
    return y.astype(np.float32)[:, None], x.astype(np.float32)[None]


def crowded(encoder, annotations, outcome, rows, columns):
    """(H, W) the cells whose centre is in a crowd."""
    found = np.zeros((rows, columns), bool)
    if encoder.crowd != "ignore":
        return found
    y, x = centres(encoder, rows, columns)
    masks = annotations.masks or [None] * len(annotations)
    for box, mask, word in zip(annotations.boxes, masks, outcome, strict=True):
        if word == "crowd" and mask is not None:
            found |= mask.decode()[np.floor(y).astype(int), np.floor(x).astype(int)] > 0
        elif word == "crowd":
            found |= (y >= box[0]) & (y < box[2]) & (x >= box[1]) & (x < box[3])
    return found


def peaks(values, lowest):
    """(row, column, class) of every peak, in this order."""
    rows, columns, classes = values.shape
    out = []
    for row, column, c in np.ndindex(rows, columns, classes):
        near = [
            (y, x)
            for y in range(row - 1, row + 2)
            for x in range(column - 1, column + 2)
            if 0 <= y < rows and 0 <= x < columns
        ]
        highest = max(values[y, x, c] for y, x in near)
        first = next((y, x) for y, x in near if values[y, x, c] == highest)
        if first == (row, column) and highest >= lowest:
            out.append((row, column, c))
    return out
