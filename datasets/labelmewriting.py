"""Datasets as LabelMe JSON, one file an image."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from ytrue.datasets import losses
from ytrue.datasets.dataset import Dataset, Objects
from ytrue.datasets.outlines import TOLERANCE, differs_from_outline
from ytrue.datasets.splits import in_usual_order, is_split_name
from ytrue.errors import Problem
from ytrue.files import replace_file
from ytrue.rle import RLE
from ytrue.words import counted


def write(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write one JSON for each image, into the folder of its split; returns what LabelMe cannot hold."""
    folder.mkdir(parents=True, exist_ok=True)
    lost = [*losses.unused_classes(dataset, "LabelMe"), *_lost_of_whole(dataset)]
    names = image_names(dataset)
    first_group = 1 + max((g for g in _groups(dataset) if isinstance(g, int)), default=0)
    for index in range(len(dataset)):
        example = dataset[index]
        shapes: list[dict[str, Any]] = []
        for row in dataset.rows_of(index).tolist():
            lost += _lost(dataset, row, example.image_id)
            shapes += _shapes_of(dataset, row, first_group + row)
        name = Path(names[index])
        given = dataset.images.records[index] if dataset.format == "labelme" else None
        content: dict[str, Any] = {
            "version": "5.5.0", "flags": {}, **(given or {}), "shapes": shapes,
            "imagePath": name.name, "imageData": None, "imageHeight": example.height,
            "imageWidth": example.width,
        }  # fmt: skip
        file = folder / name.with_suffix(".json")
        file.parent.mkdir(exist_ok=True)
        replace_file(file, partial(_put, content))
    return lost


def image_names(dataset: Dataset) -> list[str]:
    """Return where each image belongs: beside its JSON, in the folder of its first split, if any."""
    splits = dataset.images.splits or [()] * len(dataset)
    return [
        str(Path(next(filter(is_split_name, in_usual_order(found)), ""), Path(name).name))
        for found, name in zip(splits, dataset.images.file_names, strict=True)
    ]


def _lost_of_whole(dataset: Dataset) -> Iterator[Problem]:
    for split in dataset.splits:
        if not is_split_name(split):
            yield losses.lost(dataset, f"LabelMe holds no split {split!r}: no folder tells it")
    several = [len(set(filter(is_split_name, splits))) > 1 for splits in dataset.images.splits]
    if any(several):
        detail = f"LabelMe holds one split an image: {counted(sum(several), 'image')} of several"
        yield losses.lost(dataset, f"{detail} are written as of the first")
    names = list(dataset.keypoint_names)
    if not names or dataset.objects.keypoints is None:
        return
    seen = np.nan_to_num(dataset.objects.keypoints[:, :, 2]).max(axis=0, initial=0) > 0
    absent = [name for name, is_seen in zip(names, seen, strict=True) if not is_seen]
    if absent:
        said = ", ".join(map(repr, absent[:3])) + (", ..." if len(absent) > 3 else "")
        yield losses.lost(dataset, f"LabelMe holds no keypoints that no object shows: {said}")
    if names != sorted(names):
        detail = "LabelMe holds no order of keypoints: they are read back by name"
        yield losses.lost(dataset, detail)


def _put(content: dict[str, Any], file: BinaryIO) -> None:
    file.write(msgspec.json.format(msgspec.json.encode(content)))


def _groups(dataset: Dataset) -> list[Any]:
    return [_extra(dataset, row).get("group_id") for row in dataset.objects.extra]


def _extra(dataset: Dataset, row: int) -> Mapping[str, Any]:
    """Return an object's further fields, as far as they are LabelMe's."""
    return dataset.objects.extra.get(row, {}) if dataset.format == "labelme" else {}


def _shapes_of(dataset: Dataset, row: int, free_group: int) -> list[dict[str, Any]]:
    objects = dataset.objects
    outlines = _outlines(dataset, row)
    points = []
    if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
        names = dataset.keypoint_names or [f"point {k}" for k in range(objects.keypoints.shape[1])]
        points = [
            (name, [float(px), float(py)])
            for name, (px, py, v) in zip(names, objects.keypoints[row], strict=True)
            if v > 0
        ]
    group = free_group if len(outlines) > 1 or points else None
    shared = {"group_id": group, "flags": {}, **_extra(dataset, row)}
    label = dataset.classes[objects.label[row]]
    return [{"label": label, **outline, **shared} for outline in outlines] + [
        {"label": name, "points": [point], "shape_type": "point", **shared, "flags": {}}
        for name, point in points
    ]


def _outlines(dataset: Dataset, row: int) -> list[dict[str, Any]]:
    """Return what an object's outline is made of: its mask, its polygons, else its box."""
    objects = dataset.objects
    if row in objects.rles and (mask := RLE.from_coco(*objects.rles[row]).decode()).any():
        return [_mask(mask)]
    x, y, w, h = objects.xywh[row].tolist()
    parts = objects.polygon(row)
    return [{"points": part.tolist(), "shape_type": "polygon"} for part in parts] or [
        {"points": [[x, y], [x + w, y + h]], "shape_type": "rectangle"}
    ]


def _mask(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """Return a mask as LabelMe has it: the part that is set, as PNG, and its first and last pixel."""
    from PIL import Image

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (y0, y1), (x0, x1) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    png = io.BytesIO()
    Image.fromarray(mask[y0 : y1 + 1, x0 : x1 + 1] * np.uint8(255)).save(png, "PNG")
    data = base64.b64encode(png.getvalue()).decode("ascii")
    return {"points": [[x0, y0], [x1, y1]], "shape_type": "mask", "mask": data}


def _lost(dataset: Dataset, row: int, image_id: int | str) -> list[Problem]:
    objects = dataset.objects
    hidden = objects.keypoints is not None and bool((objects.keypoints[row, :, 2] == 1).any())
    what = [
        name
        for name, is_lost in (
            ("box apart from the mask", row in objects.rles and not _is_tight(objects, row)),
            ("crowd flag", objects.crowd[row]),
            ("hidden keypoints: they are written as visible", hidden),
            ("box apart from the outline", differs_from_outline(objects, row)),
            ("extra fields", bool(objects.extra.get(row)) and not _extra(dataset, row)),
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


def _is_tight(objects: Objects, row: int) -> bool:
    """Return whether an object's box is the one around its mask."""
    mask = RLE.from_coco(*objects.rles[row]).decode()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return False
    tight = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
    return bool(np.abs(objects.xywh[row] - tight).max() <= TOLERANCE)
