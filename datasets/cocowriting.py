"""Writing COCO JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from ytrue.datasets.dataset import Dataset
from ytrue.datasets.skeletons import Flips, flips_of_names
from ytrue.errors import Problem
from ytrue.files import replace_file


def write(dataset: Dataset, path: Path) -> list[Problem]:
    """Write a dataset as one COCO JSON file; returns what it cannot hold (nothing)."""
    if path.suffix.lower() != ".json":
        path = path / "annotations.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def content(file: BinaryIO) -> None:
        file.write(b"{")
        for key, value in dataset.header.items():
            if key not in ("categories", "images", "annotations"):
                file.write(msgspec.json.encode(key) + b": " + msgspec.json.encode(value) + b",\n")
        file.write(b'"categories": ' + msgspec.json.encode(_category_records(dataset)))
        file.write(b',\n"images": [')
        _write_rows(file, (_image_record(dataset, i) for i in range(len(dataset))))
        file.write(b'],\n"annotations": [')
        _write_rows(file, (_annotation_record(dataset, row) for row in range(dataset.num_objects)))
        file.write(b"]}\n")

    replace_file(path, content)
    return []


def _write_rows(file: BinaryIO, records: Iterator[dict[str, Any]]) -> None:
    for position, record in enumerate(records):
        file.write((b",\n" if position else b"\n") + msgspec.json.encode(record))


def _category_records(dataset: Dataset) -> list[dict[str, Any]]:
    listed = dataset.header.get("categories") or []
    # Of two records with one id the first counts, as in reading.
    given = {r.get("id"): r for r in reversed(listed) if isinstance(r, dict)}
    records = []
    for class_id, name in zip(dataset.class_ids, dataset.classes, strict=True):
        record = given.get(class_id) or {"id": class_id, "name": name, "supercategory": ""}
        if dataset.keypoint_names and class_id not in given:
            record = record | {"keypoints": list(dataset.keypoint_names), "skeleton": []}
        records.append(_with_flips(record, dataset))
    return records


def _with_flips(record: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Return a category's record that tells the flips, where its landmarks' names do not."""
    names = record.get("keypoints")
    if not isinstance(names, list) or not names or tuple(names) != dataset.keypoint_names:
        return record
    flips = dataset.keypoint_flips
    if "flip_pairs" not in record and _as_set(flips_of_names(names)) == _as_set(flips):
        return record
    return record | {"flip_pairs": None if flips is None else [list(pair) for pair in flips]}


def _as_set(flips: Flips | None) -> set[frozenset[int]] | None:
    return None if flips is None else {frozenset(pair) for pair in flips}


def _image_record(dataset: Dataset, index: int) -> dict[str, Any]:
    images = dataset.images
    given = dataset.images.records[index] if dataset.format == "coco" else None
    return {
        **(given or {}),
        "id": images.ids[index] if given is None else given["id"],
        "file_name": images.file_names[index],
        "height": int(images.height[index]),
        "width": int(images.width[index]),
    }


def _annotation_record(dataset: Dataset, row: int) -> dict[str, Any]:
    objects = dataset.objects
    box = objects.xywh[row]
    area = float(objects.area[row])
    record: dict[str, Any] = {
        "id": objects.ids[row],
        "image_id": dataset.images.ids[objects.image[row]],
        "category_id": dataset.class_ids[objects.label[row]],
        "bbox": box.tolist(),
        "area": float(box[2] * box[3]) if np.isnan(area) else area,
        "iscrowd": int(objects.crowd[row]),
    }
    parts = objects.polygon(row)
    if row in objects.rles:
        size, counts = objects.rles[row]
        record["segmentation"] = {"size": list(size), "counts": counts}
    else:
        record["segmentation"] = [part.ravel().tolist() for part in parts]
    if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
        record["keypoints"] = objects.keypoints[row].ravel().tolist()
        record["num_keypoints"] = int((objects.keypoints[row, :, 2] > 0).sum())
    extra = objects.extra.get(row, {})
    if "num_keypoints" in extra:
        record["num_keypoints"] = extra["num_keypoints"]
    return {**extra, **record}
