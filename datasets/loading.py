"""`load`: find the format of a dataset from its files, and read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from ytrue.datasets.dataset import Dataset
from ytrue.datasets.textfiles import read_text
from ytrue.errors import DataError

FORMATS: Final = ("records", "coco", "voc", "yolo", "labelme")
"""Names of the formats, in the order in which files are tried; each is a module of this package
with `recognises(source)`, `read(source, images=, strict=, split=, allow_outside=)` and, but for
records, `write`."""


def load(
    source: str | Path,
    format: str | None = None,
    images: str | Path | None = None,
    strict: bool = False,
    *,
    split: str | None = None,
    allow_outside: bool = False,
    keypoint_flips: Sequence[tuple[int, int]] | None = None,
) -> Dataset:
    """Read an annotated dataset.

    Args:
        source: an annotation file, or the folder of a dataset.
        format: "coco", "voc", "yolo", "labelme", "shapes" (as `ytrue demo` writes it) or
            "records"; None: found from the files.
        images: the folder that image file names are relative to; None: found near the annotations.
        strict: raise with the first problem instead of listing it in `Dataset.problems`.
        split: only the images of this split ("train", "val", "test" or what the files call it);
            None: all, as one dataset, whose `splits` names them.
        allow_outside: read images that file names lead to outside the images folder, too.
        keypoint_flips: pairs of keypoints, by position, that a left-right flip swaps; () if none
            has a side; None: as the files say.

    Returns:
        The dataset, with `problems` telling everything that was odd and what was done about it.

    Raises:
        DataError: nothing there, no known format, no such split, an unreadable file; with `strict`
            any problem.

    Example:
        dataset = ytrue.datasets.load("annotations/instances_train2017.json")
        dataset[0].annotations.boxes  # (N, 4) float32 y_min, x_min, y_max, x_max
    """
    path, folder = Path(source), None if images is None else Path(images)
    if not path.exists():
        raise DataError("no such file or folder", where=path, do="check the path")
    if folder is not None and not folder.is_dir():
        raise DataError("no such images folder", where=folder, do="check the path")
    name = recognise(path) if format is None else format
    dataset: Dataset = format_module(name).read(
        path, images=folder, strict=strict, split=split, allow_outside=allow_outside
    )
    if split is not None:
        dataset = dataset.split(split)
    return dataset if keypoint_flips is None else with_flips(dataset, keypoint_flips)


def with_flips(dataset: Dataset, pairs: Sequence[tuple[int, int]]) -> Dataset:
    """Return the dataset with these pairs of keypoints swapped by a flip.

    Raises:
        ValueError: a pair that is none of two different keypoints, or a keypoint in two pairs.
    """
    count = dataset.num_keypoints
    flat = [int(k) for pair in pairs for k in pair]
    if (
        any(len(pair) != 2 for pair in pairs)
        or len(set(flat)) < len(flat)
        or not all(0 <= k < count for k in flat)
    ):
        raise ValueError(
            f"keypoint_flips={[tuple(pair) for pair in pairs]}: expected pairs of different "
            f"keypoints from 0 to {count - 1}, each keypoint once"
        )
    flips = tuple((int(a), int(b)) for a, b in pairs)
    problems = tuple(p for p in dataset.problems if p.kind != "flips-unknown")
    return replace(dataset, keypoint_flips=flips, problems=problems)


def recognise(path: Path) -> str:
    """Return the name of the format a file or folder is in.

    Raises:
        DataError: none recognises it.
    """
    for name in FORMATS:
        if format_module(name).recognises(path):
            return name
    if path.is_file():
        read_text(path)  # empty or in a foreign encoding: nothing could recognise it
    raise DataError(
        "no known annotation format found",
        where=path,
        do="expected COCO JSON, Pascal VOC XML, YOLO txt with data.yaml, LabelMe JSON or records; "
        "name the annotation file itself, or the format with --format",
    )


def format_module(name: str) -> ModuleType:
    """Return the module of a format."""
    if name not in (*FORMATS, "shapes"):
        raise DataError(
            f"format {name!r} is unknown", do=f"expected one of {', '.join(FORMATS)}, shapes"
        )
    return import_module(f"ytrue.datasets.{name}")
