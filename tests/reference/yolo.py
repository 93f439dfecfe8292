"""YoloEncoder's rules one by one, in plain loops over objects and whole anchors x objects matrices."""

import math

import numpy as np

from reference.matching import iou_matrix, kinds, mask_overlap


def cut(encoder, box):
    height, width = encoder.image_size
    y_min, x_min, y_max, x_max = box
    zero = np.float32(0)
    return np.array(
        [max(y_min, zero), max(x_min, zero), min(y_max, height), min(x_max, width)], np.float32
    )


def locate(value, side, count):
    """Cell and float32 offset of a float32 coordinate in [0, side]."""
    side, count = np.float32(side), np.float32(count)
    place = count if value >= side else min(value * count / side, count)
    cell = min(np.floor(place), count - np.float32(1))
    return int(cell), np.float32(place - cell)


def anchor_boxes(encoder):
    """(P, 4) float32: level, row, column, slot."""
    out = []
    for (rows, columns), anchors in zip(encoder.grid, encoder.anchors, strict=True):
        step_y, step_x = encoder.image_size[0] / rows, encoder.image_size[1] / columns
        for row in range(rows):
            for column in range(columns):
                y, x = (row + 0.5) * step_y, (column + 0.5) * step_x
                for tall, wide in anchors:
                    out.append((y - tall / 2, x - wide / 2, y + tall / 2, x + wide / 2))
    return np.array(out, np.float32)


class Object:
    def __init__(self, encoder, index, box, label):
        self.index, self.label = index, int(label)
        self.box = cut(encoder, box)
        y_min, x_min, y_max, x_max = self.box.tolist()  # float64 from here on
        self.height, self.width = y_max - y_min, x_max - x_min
        half = np.float32(0.5)
        self.centre = (
            self.box[0] * half + self.box[2] * half, self.box[1] * half + self.box[3] * half
        )  # fmt: skip
        self.places = {}  # place -> (down, right, level, slot)
        self.second = False

    def rank(self, encoder):
        area = self.height * self.width
        sign = -1 if encoder.collision == "larger" else 1
        return (sign * area, *self.box.tolist(), self.label, self.index)

    def cells(self, encoder):
        """(first cell of the level, rows, columns, row, column, dy, dx) by level."""
        first, out = 0, []
        for rows, columns in encoder.grid:
            row, dy = locate(self.centre[0], encoder.image_size[0], rows)
            column, dx = locate(self.centre[1], encoder.image_size[1], columns)
            out.append((first, rows, columns, row, column, dy, dx))
            first += rows * columns
        return out

    def candidates(self, encoder):
        """(IoU, level, slot, place) of the anchors of its cells, by level and slot."""
        out = []
        for level, (first, _, columns, row, column, _, _) in enumerate(self.cells(encoder)):
            for slot, (tall, wide) in enumerate(encoder.anchors[level]):
                shared = min(self.height, tall) * min(self.width, wide)
                iou = shared / (self.height * self.width + tall * wide - shared)
                place = (first + row * columns + column) * len(encoder.anchors[0]) + slot
                out.append((iou, level, slot, place))
        return out

    def wishes(self, encoder):
        found = self.candidates(encoder)
        if encoder.match == "best":
            return [max(found, key=lambda one: one[0])]  # the first of equals
        out = []
        for one in found:
            tall, wide = encoder.anchors[one[1]][one[2]]
            y, x = self.height / tall, self.width / wide
            if max(y, 1 / y, x, 1 / x) < encoder.ratio:
                out.append(one)
        return out

    def beside(self, encoder, level):
        """(down, right) steps to the neighbours that share it."""
        _, rows, columns, row, column, dy, dx = self.cells(encoder)[level]
        steps = []
        if dy != 0.5:
            down = -1 if dy < 0.5 else 1
            if 0 <= row + down < rows:
                steps.append((min(dy, np.float32(1) - dy), 0, (down, 0)))
        if dx != 0.5:
            right = -1 if dx < 0.5 else 1
            if 0 <= column + right < columns:
                steps.append((min(dx, np.float32(1) - dx), 1, (0, right)))
        return [step for _, _, step in sorted(steps)[: encoder.neighbours]]


def encode(encoder, annotations):
    """Return the target and the N outcomes."""
    words = kinds(Kinds(encoder), annotations)
    taking_part = [
        Object(encoder, i, annotations.boxes[i], annotations.labels[i])
        for i, word in enumerate(words)
        if word == "match"
    ]
    ranked = sorted(taking_part, key=lambda one: one.rank(encoder))
    owner = {}  # place -> object
    # Rules 2 and 3: by rank, so that whoever comes first keeps.
    for one in ranked:
        for _, level, slot, place in one.wishes(encoder):
            if place not in owner:
                owner[place] = one
                one.places[place] = (0, 0, level, slot)
    # Rule 4.
    for one in [one for one in ranked if not one.places]:
        free = [c for c in one.candidates(encoder) if c[3] not in owner]
        if free:
            _, level, slot, place = max(free, key=lambda c: c[0])
            owner[place] = one
            one.places[place] = (0, 0, level, slot)
            one.second = True
    # Rule 5.
    own = {one: dict(one.places) for one in ranked}
    for one in ranked:
        for place, (_, _, level, slot) in own[one].items():
            for down, right in one.beside(encoder, level):
                columns = encoder.grid[level][1]
                there = place + (down * columns + right) * len(encoder.anchors[0])
                if there not in owner:
                    owner[there] = one
                    one.places[there] = (down, right, level, slot)
    target = write(encoder, annotations, ranked, words)
    shape = encoder.spec["state"][0]
    target = {name: a.reshape(*shape, *a.shape[1:]) for name, a in target.items()}
    outcome = list(words)
    for one in ranked:
        outcome[one.index] = "taken" if not one.places else "forced" if one.second else "matched"
    return target, outcome


class Kinds:
    """What `kinds` asks of an encoder."""

    degenerate = "report"

    def __init__(self, encoder):
        self.image_size = encoder.image_size


def write(encoder, annotations, ranked, words):
    anchors = anchor_boxes(encoder)
    count = len(anchors)
    state, label = np.zeros(count, np.int8), np.full(count, -1, np.int32)
    box, owner = np.zeros((count, 4), np.float32), np.full(count, -1, np.int32)
    if ranked and encoder.ignore_iou < 1:
        iou = iou_matrix(np.stack([one.box for one in ranked]), anchors)
        state[(iou > np.float32(encoder.ignore_iou)).any(axis=0)] = -1
    for one in ranked:
        for place, (down, right, level, slot) in one.places.items():
            *_, dy, dx = one.cells(encoder)[level]
            tall, wide = encoder.anchors[level][slot]
            state[place], label[place], owner[place] = 1, one.label, one.index
            box[place] = (
                dy - np.float32(down), dx - np.float32(right),
                math.log(one.height / tall), math.log(one.width / wide),
            )  # fmt: skip
    if encoder.crowd == "ignore":
        masks = annotations.masks or [None] * len(words)
        for k, word in enumerate(words):
            if word == "crowd":
                covered = covers(annotations.boxes[k], masks[k], anchors, encoder.crowd_ioa)
                state[covered & (state != 1)] = -1
    return {"state": state, "label": label, "box": box, "object": owner}


def covers(box, mask, anchors, share):
    sides = anchors[:, 2:] - anchors[:, :2]
    if mask is not None:
        exact = anchors.astype(np.float64)
        area = (exact[:, 2] - exact[:, 0]) * (exact[:, 3] - exact[:, 1])
        least = np.float64(np.float32(share)) * (1 - 1e-9)
        return mask_overlap(mask.decode(), anchors) / area >= least
    height = np.minimum(anchors[:, 2], box[2]) - np.maximum(anchors[:, 0], box[0])
    width = np.minimum(anchors[:, 3], box[3]) - np.maximum(anchors[:, 1], box[1])
    shared = np.where((height > 0) & (width > 0), height * width, np.float32(0))
    has_extent = box[2] > box[0] and box[3] > box[1]
    return (shared / (sides[:, 0] * sides[:, 1]) >= np.float32(share)) & has_extent
