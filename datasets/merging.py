"""`merged`: the splits of one dataset, each read from a file of its own, as one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.dataset import Dataset, Id, Images, Objects
from ytrue.errors import DataError, Problem


def merged(parts: Mapping[str, Dataset], source: Path) -> Dataset:
    """Return the splits as one dataset, whose images know their split.

    Classes are united by id. Ids stay as they are where no two splits share one; else the split's
    name is put before: train/17. File names become relative to `source` where the splits' images
    lie in different folders of it.

    Args:
        parts: name -> the dataset of that split, one at least.
        source: the folder they come from.

    Raises:
        DataError: an id stands for classes of two names, or the splits have different keypoints.
    """
    names_of = _classes(parts, source)
    ids = tuple(sorted(names_of, key=lambda i: (isinstance(i, str), i)))
    first = _same_keypoints(parts, source)
    problems = [problem for dataset in parts.values() for problem in dataset.problems]
    parts, said = _unique_ids(parts, source)
    label_of = {class_id: label for label, class_id in enumerate(ids)}
    categories = [
        record
        for dataset in parts.values()
        for record in dataset.header.get("categories") or []
        if isinstance(record, dict)
    ]
    known = {record.get("id"): record for record in reversed(categories)}
    return replace(
        first,
        source=source,
        classes=tuple(names_of[i] for i in ids),
        class_ids=ids,
        images=_images(parts, source),
        objects=_objects(list(parts.values()), label_of),
        problems=(*problems, *said),
        header={**first.header, "categories": [known[i] for i in ids if i in known]},
    )


def _classes(parts: Mapping[str, Dataset], source: Path) -> dict[Id, str]:
    names: dict[Id, str] = {}
    for split, dataset in parts.items():
        for class_id, name in zip(dataset.class_ids, dataset.classes, strict=True):
            if names.setdefault(class_id, name) != name:
                raise DataError(
                    f"category {class_id!r} is {name!r} in {split} and {names[class_id]!r} in "
                    "another split",
                    where=source,
                    do="name one of the files, or number the categories alike",
                )
    return names


def _same_keypoints(parts: Mapping[str, Dataset], source: Path) -> Dataset:
    """Return a split that tells the keypoints of all."""
    having = [dataset for dataset in parts.values() if dataset.num_keypoints]
    first = having[0] if having else next(iter(parts.values()))
    for other in having:
        if (other.keypoint_names, other.num_keypoints) != (
            first.keypoint_names,
            first.num_keypoints,
        ):
            raise DataError(
                f"{other.source.name} has other keypoints than {first.source.name}",
                where=source,
                do="name one of the files",
            )
    return first


def _unique_ids(
    parts: Mapping[str, Dataset], source: Path
) -> tuple[dict[str, Dataset], list[Problem]]:
    """Return the splits with ids of which each is one's, and what was done for that."""
    done, said = dict(parts), []
    images = [set(dataset.images.ids) for dataset in parts.values()]
    objects = [set(dataset.objects.ids) for dataset in parts.values()]
    for noun, ids in (("image", images), ("annotation", objects)):
        if len(set(chain.from_iterable(ids))) == sum(map(len, ids)):
            continue
        for split, dataset in done.items():
            done[split] = _prefixed(dataset, split, noun)
        detail = f"splits number their {noun}s alike: an {noun}'s id is now SPLIT/ID, as train/1"
        said.append(Problem("ids-prefixed", detail, "kept", str(source)))
    return done, said


def _prefixed(dataset: Dataset, split: str, noun: str) -> Dataset:
    if noun == "image":
        ids: list[Id] = [f"{split}/{i}" for i in dataset.images.ids]
        return replace(dataset, images=replace(dataset.images, ids=ids))
    ids = [f"{split}/{i}" for i in dataset.objects.ids]
    return replace(dataset, objects=replace(dataset.objects, ids=ids))


def _images(parts: Mapping[str, Dataset], source: Path) -> Images:
    columns = [dataset.images for dataset in parts.values()]
    splits = [(split,) for split, dataset in parts.items() for _ in range(len(dataset))]
    return Images(
        ids=_joined(c.ids for c in columns),
        file_names=_file_names(columns, source),
        paths=_joined(c.paths for c in columns),
        height=np.concatenate([c.height for c in columns]),
        width=np.concatenate([c.width for c in columns]),
        records=_joined(c.records for c in columns),
        splits=splits,
    )


def _file_names(columns: Sequence[Images], source: Path) -> list[str]:
    names, paths = _joined(c.file_names for c in columns), _joined(c.paths for c in columns)
    roots = {
        path[: -len(name)] for path, name in zip(paths, names, strict=True) if path.endswith(name)
    }
    if len(roots) == 1:
        return names
    inside = f"{source}{os.sep}"
    return [
        Path(path).relative_to(source).as_posix() if path.startswith(inside) else name
        for path, name in zip(paths, names, strict=True)
    ]


def _joined(columns: Any) -> list[Any]:
    return list(chain.from_iterable(columns))


def _objects(parts: Sequence[Dataset], label_of: Mapping[Id, int]) -> Objects:
    columns = [dataset.objects for dataset in parts]
    images = _starts([len(dataset) for dataset in parts])
    rows = _starts([len(c) for c in columns])
    points = _starts([len(c.points) for c in columns])
    polygons = _starts([len(c.parts) - 1 for c in columns])
    labels = [
        np.array([label_of[i] for i in dataset.class_ids], np.int32)[dataset.objects.label]
        if len(dataset.objects)
        else np.zeros(0, np.int32)
        for dataset in parts
    ]
    return Objects(
        ids=_joined(c.ids for c in columns),
        image=np.concatenate([c.image + n for c, n in zip(columns, images, strict=True)]),
        label=np.concatenate(labels),
        crowd=np.concatenate([c.crowd for c in columns]),
        xywh=np.concatenate([c.xywh for c in columns]),
        area=np.concatenate([c.area for c in columns]),
        points=np.concatenate([c.points for c in columns]),
        parts=_offsets([c.parts for c in columns], points),
        first_part=_offsets([c.first_part for c in columns], polygons),
        keypoints=_keypoints(parts),
        rles={r + n: v for c, n in zip(columns, rows, strict=True) for r, v in c.rles.items()},
        extra={r + n: v for c, n in zip(columns, rows, strict=True) for r, v in c.extra.items()},
    )


def _starts(counts: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(counts).tolist()[:-1]]


def _offsets(columns: Sequence[NDArray[np.int64]], starts: Sequence[int]) -> NDArray[np.int64]:
    """Return columns of 0 and where each thing ends as one."""
    moved = [column[1:] + start for column, start in zip(columns, starts, strict=True)]
    return np.concatenate((np.zeros(1, np.int64), *moved))


def _keypoints(parts: Sequence[Dataset]) -> NDArray[np.float64] | None:
    count = max(dataset.num_keypoints for dataset in parts)
    if all(dataset.objects.keypoints is None for dataset in parts):
        return None
    return np.concatenate(
        [
            np.full((len(d.objects), count, 3), np.nan)
            if d.objects.keypoints is None
            else d.objects.keypoints
            for d in parts
        ]
    )
