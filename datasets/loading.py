"""`load`: find the format of a dataset from its files, and read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from ytrue.datasets.building import raise_first
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.foreign import JSON, kind_of
from ytrue.datasets.imagesets import is_list, split_of
from ytrue.datasets.plainfiles import open_plain, read_plain
from ytrue.datasets.surveying import LISTED, survey, unread_files
from ytrue.datasets.textfiles import check_start, read_json
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
    one_based: bool | None = None,
) -> Dataset:
    """Read an annotated dataset.

    Args:
        source: an annotation file, the folder of a dataset, or a list in VOC's `ImageSets`: that
            split.
        format: "coco", "voc", "yolo", "labelme", "shapes" (as `ytrue demo` writes it) or
            "records"; None: found from the files.
        images: the folder that image file names are relative to; None: found near the annotations.
        strict: raise with the first problem instead of listing it in `Dataset.problems`.
        split: only the images of this split ("train", "val", "test" or what the files call it);
            None: all, as one dataset, whose `splits` names them.
        allow_outside: read images that file names lead to outside the images folder, too.
        keypoint_flips: pairs of keypoints, by position, that a left-right flip swaps; () if none
            has a side; None: as the files say.
        one_based: of VOC, whether the pixels of corners count from 1; None: decided from the data.

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
    if not path.is_dir():
        open_plain(path).close()
    if folder is not None and not folder.is_dir():
        raise DataError("no such images folder", where=folder, do="check the path")
    if is_list(path):
        path, split = split_of(path)
    name = recognise(path) if format is None else format
    if one_based is not None and name != "voc":
        raise ValueError(
            f"one_based={one_based}: only VOC counts pixels from 0 or 1, this is {name}"
        )
    counting = {} if one_based is None else {"one_based": one_based}
    dataset: Dataset = format_module(name).read(
        path, images=folder, strict=strict, split=split, allow_outside=allow_outside, **counting
    )
    unread = unread_files(path, name) if path.is_dir() else []
    raise_first(unread, strict)
    dataset = replace(dataset, problems=(*dataset.problems, *unread))
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

    A file that is named is the one that is looked at. Of a folder most of its files decide: several
    formats may be in it.

    Raises:
        DataError: none recognises it; the message says what was seen.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


_ENDINGS: Final = {
    "coco": (".json",), "labelme": (".json",), "voc": (".xml", ".txt"),
    "yolo": (".txt", ".yaml", ".yml"),
}  # fmt: skip


def _of_file(path: Path) -> str:
    kind = kind_of(path)
    if not kind.do:
        for name, endings in _ENDINGS.items():
            if path.suffix.lower() in endings and format_module(name).recognises(path):
                return name
    data = read_plain(path)
    if kind == JSON or kind.format in ("coco", "labelme"):
        check_start(data, path)
        read_json(path)  # raises where the JSON is broken
    what = f"no known annotation format: the file is {kind.name}"
    do = kind.do or "expected COCO or LabelMe JSON, Pascal VOC XML, YOLO txt or its data.yaml"
    raise DataError(what, where=path, do=do)


def _of_folder(folder: Path) -> str:
    found = [name for name in FORMATS if format_module(name).recognises(folder)]
    if found[:1] == ["records"]:
        return "records"
    seen = survey(folder, LISTED)
    counts = {name: seen.count_of(name) for name in found}
    # What a reader cannot tell from its own: CVAT's <annotations>, others' JSON with "annotations".
    for name, ending in (("coco", ".json"), ("voc", ".xml")):
        if name in found and not counts[name] and seen.foreign(ending):
            found.remove(name)
    if not found:
        seen = survey(folder, images=True)
        raise DataError(
            f"no known annotation format found; {seen}", where=folder,
            do=seen.advice or "expected COCO JSON, Pascal VOC XML, YOLO txt with data.yaml, LabelMe "
            "JSON or records; name the annotation file itself, or the format with --format",
        )  # fmt: skip
    if "coco" in found and counts["coco"] >= counts.get("labelme", 0):
        return "coco"  # one file of it is a whole dataset
    return max(found, key=lambda name: counts[name])


def format_module(name: str) -> ModuleType:
    """Return the module of a format."""
    if name not in (*FORMATS, "shapes"):
        raise DataError(
            f"format {name!r} is unknown", do=f"expected one of {', '.join(FORMATS)}, shapes"
        )
    return import_module(f"ytrue.datasets.{name}")
