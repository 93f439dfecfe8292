"""LabelMe JSON: one file for each image, shapes drawn by hand.

polygon, rectangle (two corners), circle (centre and a point on it, drawn as a polygon of 36
vertices) and point. Shapes of one `group_id` and label are one object: polygons its parts, points
its keypoints, in the order of their labels. A point without a group is listed and dropped, as it
has no extent; so are lines.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.outlines import differs_from_outline
from ytrue.datasets.pairing import Pairing, image_ids
from ytrue.datasets.textfiles import read_bytes
from ytrue.errors import DataError, Problem

_PLACES: Final = ("*.json", "*/*.json", "*/*/*.json")
_CIRCLE_VERTICES: Final = 36
_OUTLINES: Final = ("polygon", "rectangle", "circle")


def recognises(source: Path) -> bool:
    """Return whether a file, or the first JSON file of a folder, is LabelMe's."""
    return bool(_files(source))


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source] if source.suffix.lower() == ".json" and _looks_like(source) else []
    for pattern in _PLACES:
        found = [path for path in sorted(source.glob(pattern)) if _looks_like(path)]
        if found:
            return found
    return []


def _looks_like(path: Path) -> bool:
    data = path.read_bytes()
    return b'"shapes"' in data and b'"imagePath"' in data


def read(
    source: Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    split: str | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """Read a folder of LabelMe files, or one file. Labels follow the sorted class names.

    Raises:
        DataError: no LabelMe file, or (one file only, or strict) an unreadable one.
    """
    del split, allow_outside
    files = _files(source)
    if not files:
        raise DataError(
            "no LabelMe JSON in it", where=source, do="name the folder of the JSON files"
        )
    pairing = Pairing(files, images)
    builder = DatasetBuilder(source, format="labelme", images=pairing.root, strict=strict)
    parsed: list[tuple[Path, dict[str, Any]]] = []
    for file in files:
        try:
            parsed.append((file, _parse(file)))
        except DataError as error:
            if len(files) == 1:
                raise
            builder.problem("annotation-invalid", str(error), "dropped", file=str(file))
    shapes = [s for _, content in parsed for s in content["shapes"] if isinstance(s, dict)]
    classes = sorted({str(s.get("label")) for s in shapes if _kind(s) in _OUTLINES})
    points = sorted(
        {
            str(s.get("label"))
            for s in shapes
            if _kind(s) == "point" and s.get("group_id") is not None
        }
    )
    ids = image_ids([file for file, _ in parsed])
    for file, content in parsed:
        _add(builder, pairing, file, ids[file], content, classes, points)
    return builder.finish(classes=classes, class_ids=classes, keypoint_names=points)


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(read_bytes(file))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not valid JSON ({error})", where=file, do="export it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError("no list of shapes in it", where=file, do="expected a LabelMe file")
    return content


def _kind(shape: Mapping[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon")


def _add(
    builder: DatasetBuilder, pairing: Pairing, file: Path, image_id: str, content: Mapping[str, Any],
    classes: Sequence[str], point_names: Sequence[str],
) -> None:  # fmt: skip
    file_name, renamed = pairing.find(file, str(content.get("imagePath") or ""))
    size = [content.get(name) for name in ("imageHeight", "imageWidth")]
    known = all(isinstance(side, (int, float)) and side > 0 for side in size)
    height, width = (int(side) if known and side is not None else 0 for side in size)
    embedded = content.get("imageData")
    if not (pairing.root / file_name).is_file() and isinstance(embedded, str) and embedded:
        detail = "the pixels are embedded in the file and lie nowhere else: save them as an image to train on it"
        builder.problem("image-embedded", detail, "kept", file=str(file), image_id=image_id)
        if not known:
            try:
                height, width = _embedded_size(embedded, file)
            except DataError as error:
                builder.problem(
                    "image-unreadable", str(error), "kept", file=str(file), image_id=image_id
                )
    row = builder.image(
        file=str(file), image_id=image_id, file_name=file_name, height=height, width=width
    )
    if renamed:
        detail = f"the file names {content.get('imagePath')!r}, {file_name!r} is used"
        builder.problem("image-renamed", detail, "kept", file=str(file), image_id=image_id)
    for group in _groups(builder, file, image_id, content["shapes"]):
        outlines = [(shape, outline) for shape, outline in group if _kind(shape) != "point"]
        if not outlines:
            builder.problem(
                "shape-unsupported", f"points of group {group[0][0].get('group_id')!r} without an outline or box",
                "dropped", file=str(file), image_id=image_id,
            )  # fmt: skip
            continue
        keypoints = np.zeros((len(point_names), 3)) if point_names else None
        for shape, outline in group:
            if _kind(shape) == "point" and keypoints is not None:
                name = str(shape.get("label"))
                if keypoints[point_names.index(name), 2]:
                    builder.problem(
                        "shape-unsupported", f"group {shape.get('group_id')!r} has two points {name!r}",
                        "dropped", file=str(file), image_id=image_id,
                    )  # fmt: skip
                    continue
                keypoints[point_names.index(name)] = (*outline[0], 2)
        every = np.concatenate([outline for _, outline in outlines])
        boxed = all(_kind(shape) == "rectangle" for shape, _ in outlines)
        builder.object(
            row,
            label=classes.index(str(outlines[0][0].get("label"))),
            box=(*every.min(axis=0), *every.max(axis=0)),
            polygons=[] if boxed else [outline for _, outline in outlines],
            keypoints=keypoints,
        )


def _embedded_size(data: str, file: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return image.size[1], image.size[0]
    except (OSError, ValueError):
        raise DataError(
            "the embedded image cannot be read", where=file, do="export it again"
        ) from None


_Group = list[tuple[Mapping[str, Any], NDArray[np.float64]]]
_Key = tuple[Any, ...]  # ("alone", number) or ("group", group id, label; None for points)


def _groups(
    builder: DatasetBuilder, file: Path, image_id: str, shapes: Sequence[Any]
) -> list[_Group]:
    """Return the shapes by object, each with its outline (V, 2) y, x.

    A group of outlines with several labels is several objects; its points go to the first.
    """
    groups: dict[_Key, _Group] = {}
    for number, shape in enumerate(shapes):
        try:
            outline = _outline(shape)
            group = shape.get("group_id")
            if not isinstance(group, (int, float, str, type(None))):
                raise ValueError(f"group_id is {group!r}")
        except (KeyError, TypeError, ValueError) as error:
            kind = _kind(shape) if isinstance(shape, dict) else type(shape).__name__
            builder.problem(
                "shape-unsupported", f"shape {number}, a {kind}: {error}", "dropped",
                file=str(file), image_id=image_id,
            )  # fmt: skip
            continue
        label = None if _kind(shape) == "point" else str(shape.get("label"))
        key: _Key = ("alone", number) if group is None else ("group", group, label)
        groups.setdefault(key, []).append((shape, outline))
    return _with_points(groups)


def _with_points(groups: Mapping[_Key, _Group]) -> list[_Group]:
    """Give the points of each group to the first outlined object of that group."""
    first = {
        key[1]: key for key in reversed(list(groups)) if key[0] == "group" and key[2] is not None
    }
    owned = {
        key: first[key[1]]
        for key in groups
        if key[0] == "group" and key[2] is None and key[1] in first
    }
    whole = {key: list(group) for key, group in groups.items() if key not in owned}
    for points, owner in owned.items():
        whole[owner] += groups[points]
    return list(whole.values())


def _outline(shape: Any) -> NDArray[np.float64]:
    if not isinstance(shape, dict):
        raise TypeError("not a JSON object")
    points = boxes.points_from_xy(np.array(shape["points"], np.float64).reshape(-1, 2))
    kind = _kind(shape)
    if not np.isfinite(points).all():
        raise ValueError("a coordinate that is not finite")
    if kind == "rectangle" and len(points) == 2:
        (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0)
        return np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
    if kind == "circle" and len(points) == 2:
        angle = np.arange(_CIRCLE_VERTICES) * (math.tau / _CIRCLE_VERTICES)
        radius = float(np.hypot(*(points[1] - points[0])))
        return np.asarray(points[0] + radius * np.column_stack((np.sin(angle), np.cos(angle))))
    if kind == "polygon" and len(points) >= 3:
        return points
    if kind == "point" and len(points) == 1:
        return points
    raise ValueError(f"{len(points)} points of this kind are not read as an object")


def write(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write one JSON for each image; returns what LabelMe cannot hold."""
    folder.mkdir(parents=True, exist_ok=True)
    lost: list[Problem] = []
    for index in range(len(dataset)):
        example = dataset[index]
        shapes: list[dict[str, Any]] = []
        for row in dataset.rows_of(index):
            lost += _lost(dataset, int(row), example.image_id)
            shapes += _shapes_of(dataset, int(row))
        name = Path(dataset.images.file_names[index])
        content: dict[str, Any] = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name.name,
            "imageData": None, "imageHeight": example.height, "imageWidth": example.width,
        }  # fmt: skip
        (folder / f"{name.stem}.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(content))
        )
    return lost


def _shapes_of(dataset: Dataset, row: int) -> list[dict[str, Any]]:
    objects = dataset.objects
    parts, label = objects.polygon(row), dataset.classes[objects.label[row]]
    x, y, w, h = objects.xywh[row].tolist()
    outlines = [("polygon", part.tolist()) for part in parts] or [
        ("rectangle", [[x, y], [x + w, y + h]])
    ]
    points = []
    if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
        names = dataset.keypoint_names or [f"point {k}" for k in range(objects.keypoints.shape[1])]
        points = [
            (name, [float(px), float(py)])
            for name, (px, py, v) in zip(names, objects.keypoints[row], strict=True)
            if v > 0
        ]
    group = row + 1 if len(outlines) > 1 or points else None
    shared: dict[str, Any] = {"group_id": group, "flags": {}}
    return [
        {"label": label, "points": outline, "shape_type": kind, **shared}
        for kind, outline in outlines
    ] + [
        {"label": name, "points": [point], "shape_type": "point", **shared}
        for name, point in points
    ]


def _lost(dataset: Dataset, row: int, image_id: int | str) -> list[Problem]:
    objects = dataset.objects
    hidden = objects.keypoints is not None and bool((objects.keypoints[row, :, 2] == 1).any())
    what = [
        name
        for name, is_lost in (
            ("mask", row in objects.rles),
            ("crowd flag", objects.crowd[row]),
            ("hidden keypoints: they are written as visible", hidden),
            ("box apart from the outline", differs_from_outline(objects, row)),
            ("extra fields", bool(objects.extra.get(row))),
        )
        if is_lost
    ]
    return [
        Problem(
            "field-lost",
            f"LabelMe holds no {name}",
            "dropped",
            str(dataset.source),
            image_id,
            objects.ids[row],
        )
        for name in what
    ]
