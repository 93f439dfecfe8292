"""Synthetic shapes: a seeded dataset on disk, for the demo and for tests.

JPEG images of squares, discs, triangles and stars over textured backgrounds, and one COCO JSON
with boxes, polygons, keypoints, a crowd region as RLE and, when asked, bad annotations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ytrue.datasets import coco
from ytrue.datasets.dataset import Dataset
from ytrue.errors import DataError
from ytrue.rle import RLE

FILE: Final = "shapes.json"
CLASSES: Final = {1: "square", 2: "disc", 5: "triangle", 9: "star"}
"""Category ids in the file (with gaps, as in COCO) and names."""
KEYPOINTS: Final = ("left", "top", "right", "bottom")
"""The outermost points of a shape; a left-right flip swaps the first and the third."""
_OVERSAMPLING: Final = 2
_COLOURS: Final = ((214, 69, 65), (65, 131, 215), (38, 166, 91), (244, 179, 80), (142, 68, 173))


@dataclass(frozen=True)
class _Shape:
    category: int
    outline: NDArray[np.float64]  # (V, 2) x, y pixels
    colour: tuple[int, int, int]

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        (x_min, y_min), (x_max, y_max) = self.outline.min(axis=0), self.outline.max(axis=0)
        return float(x_min), float(y_min), float(x_max), float(y_max)


def write_shapes(
    folder: str | Path,
    *,
    num_images: int = 60,
    image_size: tuple[int, int] = (384, 512),
    seed: int = 0,
    bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a dataset of shapes and return its annotation file.

    Args:
        folder: where `images/` and the JSON go; made if missing.
        num_images: how many images.
        image_size: (height, width) pixels.
        seed: equal seeds give equal files.
        bad: add annotations of ten kinds that a reader must find.
        progress: called with (images done, images in all).
    """
    root = Path(folder)
    (root / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        rng = np.random.default_rng((seed, index))
        shapes = _scene(rng, image_size)
        crowd = _crowd(rng, image_size) if index % 6 == 5 else []
        picture = _draw(rng, image_size, [*crowd, *shapes])
        name = f"shapes_{index:05d}.jpg"
        picture.save(root / "images" / name, quality=90)
        height, width = image_size
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for k, shape in enumerate(shapes):
            annotations.append(_record(len(annotations) + 1, index + 1, shape, shapes[k + 1 :]))
        if crowd:
            annotations.append(_crowd_record(len(annotations) + 1, index + 1, crowd, image_size))
        if progress:
            progress(index + 1, num_images)
    if bad:
        _add_bad(images, annotations, image_size)
    content = {
        "info": {"description": "synthetic shapes", "seed": seed, "version": "1"},
        "licenses": [],
        "categories": [
            {
                "id": i,
                "name": name,
                "supercategory": "shape",
                "keypoints": list(KEYPOINTS),
                "skeleton": [],
            }
            for i, name in CLASSES.items()
        ],
        "images": images,
        "annotations": annotations,
    }
    file = root / FILE
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def recognises(source: Path) -> bool:
    """Return whether the folder was made by `write_shapes`."""
    return source.is_dir() and (source / FILE).is_file()


def read(
    source: Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    allow_outside: bool = False,
) -> Dataset:
    """Read a folder that `write_shapes` made.

    Raises:
        DataError: not such a folder.
    """
    del allow_outside
    if not recognises(source):
        raise DataError(
            f"no {FILE} in it", where=source, do="make one with ytrue demo, or name another format"
        )
    return coco.read(source / FILE, images=images, strict=strict)


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> list[_Shape]:
    shapes: list[_Shape] = []
    for _ in range(int(rng.integers(1, 9))):
        for _ in range(20):  # tries to find room
            shape = _shape(rng, size)
            if all(_overlap(shape.xyxy, other.xyxy) < 0.25 for other in shapes):
                shapes.append(shape)
                break
    return shapes


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> _Shape:
    height, width = size
    radius = math.exp(rng.uniform(math.log(8), math.log(min(size) * 0.32)))
    centre = np.array((rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)))
    category = int(rng.choice(list(CLASSES)))
    colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
    return _Shape(
        category, centre + radius * _unit_outline(category, rng.uniform(0, math.tau)), colour
    )


def _unit_outline(category: int, turn: float) -> NDArray[np.float64]:
    """Return (V, 2) vertices on the unit circle, but for the star's inner ones."""
    name = CLASSES[category]
    count = {"square": 4, "disc": 36, "triangle": 3, "star": 10}[name]
    angles = turn + np.arange(count) * (math.tau / count)
    radius = np.where(np.arange(count) % 2 == 1, 0.45, 1.0) if name == "star" else np.ones(count)
    return np.stack((np.cos(angles) * radius, np.sin(angles) * radius), axis=1)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(width, 0) * max(height, 0) / smaller


def _crowd(rng: np.random.Generator, size: tuple[int, int]) -> list[_Shape]:
    """Return a cluster of many small discs."""
    height, width = size
    centre = np.array((rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height))
    shapes = []
    for _ in range(60):
        place = centre + rng.normal(0, min(size) * 0.07, 2)
        if 6 < place[0] < width - 6 and 6 < place[1] < height - 6:
            shapes.append(_Shape(2, place + 4 * _unit_outline(2, 0.0), (240, 240, 240)))
    return shapes


def _draw(rng: np.random.Generator, size: tuple[int, int], shapes: list[_Shape]) -> Image.Image:
    height, width = size
    image = Image.fromarray(_background(rng, size))
    image = image.resize((width * _OVERSAMPLING, height * _OVERSAMPLING), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        points = [(float(x) * _OVERSAMPLING, float(y) * _OVERSAMPLING) for x, y in shape.outline]
        edge = tuple(int(c * 0.6) for c in shape.colour)
        draw.polygon(points, fill=shape.colour, outline=edge)
    image = image.resize((width, height), Image.Resampling.BOX)
    noise = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _background(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return smooth blotches in muted colours."""
    height, width = size
    coarse = rng.uniform(60, 190, (max(2, height // 48), max(2, width // 48), 1))
    tint = rng.uniform(-25, 25, (1, 1, 3))
    small = Image.fromarray((coarse + tint).clip(0, 255).astype(np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _record(
    annotation_id: int, image_id: int, shape: _Shape, above: list[_Shape]
) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = shape.xyxy
    outline = shape.outline.round(2)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": shape.category,
        "bbox": [round(v, 2) for v in (x_min, y_min, x_max - x_min, y_max - y_min)],
        "area": round(_polygon_area(outline), 2),
        "iscrowd": 0,
        "segmentation": [outline.ravel().tolist()],
        **_keypoints(outline, above),
    }


def _keypoints(outline: NDArray[np.float64], above: list[_Shape]) -> dict[str, Any]:
    ends = (
        outline[:, 0].argmin(),
        outline[:, 1].argmin(),
        outline[:, 0].argmax(),
        outline[:, 1].argmax(),
    )
    flat: list[float] = []
    for x, y in outline[list(ends)]:
        hidden = any(_inside(s.outline, x, y) for s in above)
        flat += [float(x), float(y), 1 if hidden else 2]
    return {"keypoints": flat, "num_keypoints": len(ends)}


def _inside(outline: NDArray[np.float64], x: float, y: float) -> bool:
    """Return whether a point lies in a polygon, by crossings of a ray."""
    ax, ay = outline.T
    bx, by = np.roll(outline, -1, axis=0).T
    crosses = (ay > y) != (by > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = ax + (y - ay) * (bx - ax) / (by - ay)
    return bool(np.count_nonzero(crosses & (x < at)) % 2)


def _polygon_area(outline: NDArray[np.float64]) -> float:
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _crowd_record(
    annotation_id: int, image_id: int, shapes: list[_Shape], size: tuple[int, int]
) -> dict[str, Any]:
    mask = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(mask)
    for shape in shapes:
        draw.polygon([tuple(point) for point in shape.outline.tolist()], fill=1)
    pixels = np.asarray(mask)
    ys, xs = np.nonzero(pixels)
    x, y = int(xs.min()), int(ys.min())
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 2,
        "bbox": [x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y],
        "area": int(pixels.sum()),
        "iscrowd": 1,
        "segmentation": RLE.from_mask(pixels).to_coco(),
    }


def _add_bad(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], size: tuple[int, int]
) -> None:
    """Append what a reader must find: one of each kind."""
    height, width = size
    image, first = images[0]["id"], annotations[0]
    count = len(annotations)

    def add(**fields: Any) -> None:
        record = {
            "id": count + 1000 + len(annotations),
            "image_id": image,
            "category_id": 1,
            "iscrowd": 0,
        }
        annotations.append(record | fields)

    add(bbox=[120, 80, -40, 30])
    add(bbox=[50, 60, 0, 25])
    add(bbox=[width + 10, 20, 30, 30])
    add(bbox=[width - 30, 40, 31.5, 30])
    add(bbox=[width - 20, 90, 90, 40])
    add(bbox=[20, 20, 30, 30], category_id=77)
    add(bbox=[20, 20, 30, 30], image_id=10**6)
    add(bbox=[200, 30, 30, 30], segmentation=[[200, 30, 230, 60]])
    add(bbox=first["bbox"], category_id=first["category_id"])
    add(bbox=[240, 60, 20, 20], id=first["id"])
    for offset, (name, sides) in enumerate(
        {
            "not_there.jpg": (height, width),
            "../outside.jpg": (height, width),
        }.items()
    ):
        images.append(
            {"id": 9000 + offset, "file_name": name, "height": sides[0], "width": sides[1]}
        )
        add(bbox=[10, 10, 40, 40], image_id=9000 + offset)
