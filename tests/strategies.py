"""Every hypothesis strategy of the suite."""

import numpy as np
from hypothesis import strategies as st

from ytrue import Annotations
from ytrue.encoders import (
    AnchorEncoder,
    AnchorGrid,
    BoxCoder,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    YoloEncoder,
)


@st.composite
def grids(draw):
    """Small grids of all kinds: non-square, not divisible, few or many levels and shapes."""
    min_level = draw(st.integers(2, 4))
    max_level = draw(st.integers(min_level, 6))
    size = (draw(st.integers(9, 130)), draw(st.integers(9, 130)))
    return AnchorGrid(
        size,
        min_level,
        max_level,
        draw(st.integers(1, 3)),
        draw(st.sampled_from([(1.0, 2.0, 0.5), (1.0,), (0.3, 3.0), ((1.4, 0.7), (0.7, 1.4))])),
        draw(st.sampled_from([4.0, 1.0, 2.5])),
        stride=draw(st.sampled_from(["fractional", "power", "floor"])),
        cell_offset=draw(st.sampled_from([0.5, 0.0])),
        precision=draw(st.sampled_from(["float32", "float32", "float64"])),
    )


@st.composite
def encoders(draw, grid=None, **fixed):
    """Encoders with every rule in every setting."""
    force = draw(st.sampled_from(["greedy", "greedy", "argmax", "none"]))
    negative, positive = draw(st.sampled_from([(0.4, 0.5), (0.5, 0.5), (0.2, 0.7), (0.05, 0.1)]))
    floors = [0.0, 0.3] + ([-1.0] if force == "argmax" else [])
    options = {
        "matcher": draw(st.sampled_from(["iou", "iou", "atss", "center-prior"])),
        "top_k": draw(st.sampled_from([9, 1, 4, 30])),
        "positive_iou": positive,
        "negative_iou": negative,
        "force": force,
        "min_force_iou": draw(st.sampled_from(floors)),
        "crowd": draw(st.sampled_from(["ignore", "ignore", "negative"])),
        "crowd_ioa": draw(st.sampled_from([0.5, 0.1, 1.0])),
        "padding": draw(st.sampled_from(["negative", "ignore", "ignore-positive"])),
        "degenerate": draw(st.sampled_from(["report", "report", "match"])),
        "coder": draw(
            st.sampled_from(
                [BoxCoder(), BoxCoder(std=(0.1, 0.1, 0.2, 0.2)), BoxCoder("corner", (0.2,) * 4)]
            )
        ),
        "union_epsilon": draw(st.sampled_from([0.0, 1e-7])),
    }
    return AnchorEncoder(draw(grids()) if grid is None else grid, 5, **(options | fixed))


def _an_anchor(draw, grid):
    return grid.boxes[draw(st.integers(0, len(grid) - 1))].astype(np.float64)


def _random_box(draw, grid):
    height, width = grid.image_size
    y, x = draw(st.floats(-0.3, 1.2)) * height, draw(st.floats(-0.3, 1.2)) * width
    return np.array(
        [y, x, y + draw(st.floats(0.01, 1.5)) * height, x + draw(st.floats(0.01, 1.5)) * width]
    )


def _tiny_box(draw, grid):
    height, width = grid.image_size
    y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return np.array(
        [y, x, y + draw(st.sampled_from([0.01, 1, 3])), x + draw(st.sampled_from([0.01, 1, 3]))]
    )


def _exact_overlap(draw, grid):
    """A box inside an anchor whose IoU is a threshold exactly, in real numbers."""
    box = _an_anchor(draw, grid)
    share = draw(st.sampled_from([0.5, 0.4, 0.2]))
    return np.array([box[0], box[1], box[0] + (box[2] - box[0]) * share, box[3]])


def _dusted_anchor(draw, grid):
    return _an_anchor(draw, grid) + draw(st.sampled_from([1e-7, -1e-5, 1e-4, -0.002]))


def _whole_pixels(draw, grid):
    return np.round(_random_box(draw, grid))


def _outside(draw, grid):
    height, width = grid.image_size
    return np.array([height + 1.0, width + 2.0, height + 30.0, width + 50.0]) * draw(
        st.sampled_from([1, -1, 1e6])
    )


def _degenerate(draw, grid):
    box = _random_box(draw, grid)
    kind = draw(st.sampled_from(["line", "point", "inverted", "nan", "inf"]))
    if kind == "line":
        box[2] = box[0]
    elif kind == "point":
        box[2:] = box[:2]
    elif kind == "inverted":
        box = box[[2, 1, 0, 3]]
    else:
        box[draw(st.integers(0, 3))] = float(kind)
    return box


def _huge(draw, grid):
    return np.array([-1.0, -1.0, 1.0, 1.0]) * draw(st.sampled_from([1e3, 1e7, 3e9]))


_BOXES = [
    _random_box, _random_box, _tiny_box, _an_anchor, _exact_overlap, _dusted_anchor,
    _whole_pixels, _outside, _degenerate, _huge,
]  # fmt: skip


@st.composite
def annotations(draw, grid, max_objects=12, crowds=True, degenerate=True, points=False):
    """Objects that provoke ties, exact thresholds, collisions and everything rule 6 names."""
    kinds = [_point_box] * 5 * points + (_BOXES if degenerate else _BOXES[:7])
    boxes = []
    for _ in range(draw(st.integers(0, max_objects))):
        if boxes and draw(st.integers(0, 4)) == 0:
            boxes.append(boxes[draw(st.integers(0, len(boxes) - 1))])  # a duplicate
        else:
            boxes.append(draw(st.sampled_from(kinds))(draw, grid))
    n = len(boxes)
    with np.errstate(over="ignore"):
        array = np.array(boxes, np.float32).reshape(n, 4)
    height, width = grid.image_size
    crowd = np.array([draw(st.integers(0, 5)) == 0 and crowds for _ in range(n)], bool)
    masks = None
    if crowds and crowd.any() and draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        masks = [
            (rng.random((height, width)) < rng.random()).astype(np.uint8)
            if crowd[k] and rng.random() < 0.7
            else None
            for k in range(n)
        ]
    content = None
    if draw(st.booleans()):
        content = (
            0.0,
            0.0,
            float(draw(st.integers(1, height))),
            float(draw(st.integers(1, width))),
        )
    labels = np.array([draw(st.integers(0, 4)) for _ in range(n)], np.int32)
    return Annotations(array, labels, crowd, masks=masks, content=content)


@st.composite
def crowds(draw, grid, max_objects=60):
    """Many objects in one spot: equal, nearly equal, of one size or one area, or all over each other."""
    height, width = grid.image_size
    count, rng = draw(st.integers(2, max_objects)), np.random.default_rng(draw(st.integers(0, 999)))
    spot = rng.uniform(0, 1, 2) * (height, width)
    side = draw(st.sampled_from([1.0, 14.0, 40.0, 1000.0])) * rng.uniform(0.5, 1, 2)
    kind = draw(st.sampled_from(["equal", "nearly", "one size", "one area", "any", "frame"]))
    low, size = np.tile(spot, (count, 1)), np.tile(side, (count, 1))
    if kind == "nearly":
        low += rng.normal(0, 1e-4, (count, 2))
    elif kind == "one size":
        low += rng.integers(0, 9, (count, 2))
    elif kind == "one area":
        size *= np.exp(np.outer(rng.normal(0, 0.5, count), (1, -1)))
    elif kind == "any":
        low, size = low + rng.uniform(0, 9, (count, 2)), size * rng.uniform(0.1, 1, (count, 2))
    elif kind == "frame":
        low, size = low * 0, np.tile((height, width), (count, 1)) + rng.integers(0, 2, (count, 2))
    labels, crowd = rng.integers(0, 5, count), rng.random(count) < 0.03
    return Annotations(np.hstack((low, low + size)), labels, crowd)


@st.composite
def keypoint_encoders(draw, **fixed):
    """Encoders over one or several grids, also such as do not divide the frame."""
    image_size = (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    pair = st.tuples(st.integers(1, 9), st.integers(1, 9))
    grid = draw(st.sampled_from(["one", "several", "global", "stride"]))
    places = {
        "one": lambda: {"grid": draw(pair)},
        "several": lambda: {"grid": draw(st.lists(pair, min_size=1, max_size=3, unique=True))},
        "global": lambda: {"grid": "global"},
        "stride": lambda: {"stride": draw(st.sampled_from([8, 16, 7]))},
    }
    options = {
        "slots": draw(st.sampled_from(["any", "fixed"])),
        "classes": draw(st.sampled_from(["landmark", "object"])),
        "hidden": draw(st.sampled_from(["teach", "teach", "skip"])),
    } | fixed
    each = options["slots"] == "fixed" and options["classes"] == "landmark"
    options = {
        "num_classes": 5,
        "points_per_cell": 5 if each else draw(st.integers(3, 6)),
    } | options
    if options["slots"] == "any" and "points_per_cell" not in fixed:
        options["points_per_cell"] = draw(st.integers(1, 4))
    return KeypointGridEncoder(image_size, **places[grid](), **options)


def _coordinate(draw, side, counts):
    """Anywhere, on borders of cells, on the image's borders, outside, nowhere."""
    kind = draw(st.sampled_from(["any", "any", "border", "zero", "far", "whole", "odd", "shared"]))
    count = draw(st.sampled_from(counts))
    return {
        "any": lambda: draw(st.floats(0, 1, width=32)) * side,
        "border": lambda: draw(st.integers(0, count)) * side / count,
        "zero": lambda: draw(st.sampled_from([0.0, -0.0])),
        "far": lambda: float(side),
        "whole": lambda: float(draw(st.integers(0, side))),
        "odd": lambda: draw(
            st.sampled_from([np.nan, np.inf, -np.inf, -1e-6, -1.0, side + 1e-3, side * 2.0, 1e30])
        ),
        "shared": lambda: draw(st.sampled_from([0.25, 0.5, 0.75])) * side,
    }[kind]()


@st.composite
def posed(draw, encoder, max_objects=6):
    """Objects with keypoints that collide, coincide, lie on borders, outside or nowhere."""
    count = draw(st.integers(1, 3))
    n = draw(st.integers(0, max_objects))
    height, width = encoder.image_size
    rows, columns = zip(*encoder.grid, strict=True)
    points = np.zeros((n, count, 3), np.float32)
    for k, landmark in np.ndindex(n, count):
        if k and draw(st.integers(0, 5)) == 0:
            points[k, landmark] = points[draw(st.integers(0, k - 1)), landmark]
        else:
            points[k, landmark, 0] = _coordinate(draw, height, rows)
            points[k, landmark, 1] = _coordinate(draw, width, columns)
            points[k, landmark, 2] = draw(st.sampled_from([0, 1, 2, 2, 2]))
    content = None
    if draw(st.integers(0, 3)) == 0:
        content = (
            0.0,
            0.0,
            float(draw(st.integers(1, height))),
            float(draw(st.integers(1, width))),
        )
    crowd = np.array([draw(st.integers(0, 7)) == 0 for _ in range(n)], bool)
    labels = np.array([draw(st.integers(0, encoder.num_classes - 1)) for _ in range(n)], np.int32)
    boxes = np.zeros((n, 4), np.float32)
    return Annotations(
        boxes, labels, crowd, keypoints=None if draw(st.integers(0, 9)) == 0 else points,
        content=content,
    )  # fmt: skip


@st.composite
def yolo_encoders(draw, **fixed):
    """Encoders of one or several levels, also such as do not divide the frame; equal anchors too."""
    image_size = (draw(st.integers(4, 90)), draw(st.integers(4, 90)))
    pair = st.tuples(st.integers(1, 9), st.integers(1, 9))
    grid = draw(st.lists(pair, min_size=1, max_size=3, unique=True))
    side = st.sampled_from([1.0, 6.5, 8.0, 16.0, 20.0, 33.3, 64.0, 200.0])
    per_cell = draw(st.integers(1, 3))
    level = st.lists(st.tuples(side, side), min_size=per_cell, max_size=per_cell)
    options = {
        "match": draw(st.sampled_from(["best", "ratio"])),
        "ratio": draw(st.sampled_from([4.0, 1.5])),
        "neighbours": draw(st.sampled_from([0, 0, 1, 2])),
        "collision": draw(st.sampled_from(["larger", "smaller"])),
        "ignore_iou": draw(st.sampled_from([0.5, 0.2, 1.0])),
        "crowd": draw(st.sampled_from(["ignore", "ignore", "negative"])),
        "crowd_ioa": draw(st.sampled_from([0.5, 0.1, 1.0])),
    } | fixed
    anchors = [draw(level) for _ in grid]
    return YoloEncoder(image_size, anchors, grid=grid, num_classes=5, **options)


@st.composite
def fcos_encoders(draw, **fixed):
    """Encoders of one to three levels, also such as do not divide the frame, in every setting."""
    image_size = (draw(st.integers(9, 130)), draw(st.integers(9, 130)))
    stride = draw(st.sampled_from([(8,), (4, 8), (8, 16), (4, 8, 16), (3, 7, 12), (4, 6)]))
    bounds = {1: [()], 2: [(16,), (7.3,), (64,)], 3: [(16, 32), (0.1, 60.5), (8, 9)]}
    options = {
        "ranges": draw(st.sampled_from([None, *bounds[len(stride)]])),
        "center_radius": draw(st.sampled_from([1.5, None, 0.5, 0.3, 2.7])),
        "crowd": draw(st.sampled_from(["ignore", "ignore", "negative"])),
        "padding": draw(st.sampled_from(["negative", "ignore"])),
    } | fixed
    # Levels of one grid are refused: a frame of at least two cells of the coarser level has none.
    image_size = tuple(max(side, 2 * stride[-1] + 1) for side in image_size)
    return FCOSEncoder(image_size, 5, stride=stride, **options)


@st.composite
def centernet_encoders(draw, **fixed):
    """Encoders of few or many cells, also such as do not divide the frame."""
    options = {
        "stride": draw(st.sampled_from([1, 4, 4, 7, 16])),
        "radius": draw(st.sampled_from(["correct", "published"])),
        "min_overlap": draw(st.sampled_from([0.7, 0.3, 0.01, 1.0])),
        "collision": draw(st.sampled_from(["larger", "smaller"])),
        "crowd": draw(st.sampled_from(["ignore", "ignore", "negative"])),
        "padding": draw(st.sampled_from(["negative", "ignore"])),
    } | fixed
    image_size = (draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    return CenterNetEncoder(image_size, 5, **options)


def _point_box(draw, grid):
    """Borders on points, and distances of whole strides and halves of them."""
    points = (grid.boxes[:, :2] + grid.boxes[:, 2:]) / 2
    y, x = points[draw(st.integers(0, len(points) - 1))].astype(np.float64)
    step = st.sampled_from([0.0, 0.5, 4.0, 8.0, 12.0, 16.0, 20.0, 32.0, 64.0, 1e-4])
    return np.array([y - draw(step), x - draw(step), y + draw(step), x + draw(step)])


def scattered(rng, count, side, classes=5, largest=0.8):
    """Objects of sides from 2 pixels to a share of the frame's, some of them beyond its border."""
    size = np.exp(rng.uniform(np.log(2), np.log(side * largest), (count, 2)))
    low = rng.uniform(-0.1 * side, side, (count, 2))
    return Annotations(np.hstack((low, low + size)), rng.integers(0, classes, count))


class Places:
    """What `annotations` asks of a grid, of an encoder whose `boxes` are those of its positions."""

    def __init__(self, encoder):
        self.image_size, self.boxes = encoder.image_size, encoder.boxes

    def __len__(self):
        return len(self.boxes)


@st.composite
def polygon_encoders(draw, **fixed):
    """Encoders of outlines on small grids."""
    options = {
        "bins": draw(st.sampled_from([3, 4, 8, 24, 36])),
        "part_rule": draw(st.sampled_from(["largest", "hull"])),
        "points": draw(st.sampled_from(["vertices", "outline"])),
    } | fixed
    return PolygonEncoder(draw(yolo_encoders()), **options)


@st.composite
def mask_encoders(draw):
    """Encoders of masks on small frames, cells that do not divide them too."""
    size = (draw(st.integers(8, 70)), draw(st.integers(8, 70)))
    grid = AnchorGrid(size, min_level=3, max_level=4, num_scales=1, aspect_ratios=(1.0, 2.0))
    return MaskEncoder(AnchorEncoder(grid, 5), stride=draw(st.sampled_from([1, 2, 4, 5, 16])))


def _around_box(draw, box, kind):
    """A ring of vertices that has something to do with a box."""
    y_min, x_min, y_max, x_max = box
    cy, cx = (y_min + y_max) / 2, (x_min + x_max) / 2
    if kind == "rectangle":
        return [(y_min, x_min), (y_min, x_max), (y_max, x_max), (y_max, x_min)]
    if kind == "star":
        n = draw(st.integers(3, 40))
        angle = np.arange(n) * 2 * np.pi / n
        reach = np.array([draw(st.sampled_from([0.3, 0.5, 1.0, 1.4])) for _ in range(n)])
        return np.stack(
            (cy + np.sin(angle) * reach * (y_max - y_min) / 2,
             cx + np.cos(angle) * reach * (x_max - x_min) / 2), axis=1,
        )  # fmt: skip
    if kind == "whole":  # many on axes, diagonals, the centre and the origin
        whole = st.integers(-3, 20)
        return [(draw(whole), draw(whole)) for _ in range(draw(st.integers(1, 8)))]
    if kind == "centre":
        return [(cy, cx), (0, 0), (cy, x_max), (np.nextafter(np.float32(cy), 1e9), x_min)]
    ring = np.array([(y_min, x_min), (y_max, x_max), (y_max, x_min)])
    ring[draw(st.integers(0, 2)), draw(st.integers(0, 1))] = draw(st.sampled_from([np.nan, np.inf]))
    return ring


@st.composite
def outlined(draw, encoder, max_objects=6):
    """Objects with polygons of none to three parts, some with masks instead."""
    boxes = encoder.boxes
    grid = boxes.grid if isinstance(boxes, AnchorEncoder) else Places(boxes)
    objects = draw(annotations(grid, max_objects=max_objects))
    kinds = st.sampled_from(["rectangle", "star", "star", "whole", "centre", "wild"])
    polygons = [
        [
            np.asarray(_around_box(draw, np.nan_to_num(box, posinf=50, neginf=-50), draw(kinds)))
            for _ in range(draw(st.integers(0, 3)))
        ]
        for box in objects.boxes.astype(np.float64).clip(-1e6, 1e6)
    ]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    masks = [
        (rng.random(encoder.image_size) < 0.6) if rng.random() < 0.5 else None for _ in polygons
    ]
    return objects.replace(
        polygons=draw(st.sampled_from([None, polygons])), masks=draw(st.sampled_from([None, masks]))
    )
