"""`convert`: a dataset in another format, and what that format cannot hold."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ytrue.datasets import labelmewriting, yolo
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.imagefiles import leaves_folder, safe_name, safe_target
from ytrue.datasets.loading import format_module
from ytrue.datasets.splits import is_split_name
from ytrue.errors import DataError, Problem
from ytrue.files import staged

WRITABLE: Final = ("coco", "voc", "yolo", "labelme")


def convert(
    dataset: Dataset, to: str, out: str | Path, *, copy_images: bool = False, force: bool = False
) -> list[Problem]:
    """Write a dataset in another format; all of it or, after an error, nothing.

    Args:
        dataset: what `load` returned.
        to: "coco", "voc", "yolo" or "labelme".
        out: folder to write; for coco also the JSON file. A folder of coco holds a file of each
            split, where there are splits.
        copy_images: write the images as well, to `images/` beside the annotations; those of labelme
            beside their JSON, where LabelMe looks for them.
        force: write into what is there: files of equal names are replaced, others stay.

    Returns:
        What the format cannot hold and which images could not be copied, one `Problem` each.

    Raises:
        DataError: an unknown format; something is there already, without `force`; images of equal
            names that would overwrite each other; or a folder in which the dataset itself, in that
            format, would be overwritten.
    """
    if to not in WRITABLE:
        raise DataError(
            f"format {to!r} cannot be written", do=f"expected one of {', '.join(WRITABLE)}"
        )
    target = Path(out)
    one_file = _is_file(target, to)
    folder = target.parent if one_file else target
    _check_place(dataset, to, target)
    lost: list[Problem] = []
    if copy_images:
        dataset, lost = _with_safe_names(dataset)
    names = _written_names(dataset, to)
    copies = "" if to == "labelme" else "images"
    if to != "coco" or copy_images:
        _check_names(dataset, names, full=to == "coco")
    if not force:
        _check_free(target, [folder / copies / name for name in names if copy_images])
    with staged(folder) as stage:
        if to == "coco":
            lost += _write_coco(dataset, stage, target.name if one_file else "")
        else:
            lost += format_module(to).write(dataset, stage)
        if copy_images:
            lost += _copy_images(dataset, stage / copies, names)
    return lost


def _written_names(dataset: Dataset, to: str) -> list[str]:
    """Return the name of each image in the folder of copies."""
    if to == "yolo":
        return yolo.image_names(dataset)
    if to == "labelme":
        return labelmewriting.image_names(dataset)
    every = dataset.images.file_names
    return list(every) if to == "coco" else [Path(name).name for name in every]


def _is_file(out: Path, to: str) -> bool:
    """Return whether the name is that of coco's one file, not of a folder.

    Raises:
        DataError: coco in a file of another name than .json, or another format in a file.
    """
    suffix = out.suffix.lower()
    if to == "coco" and (suffix == ".json" or (suffix and not out.is_dir())):
        if suffix != ".json":
            raise DataError(
                "coco is written to a .json file", where=out, do="name one, or a folder"
            )
        return True
    if suffix in (".json", ".xml", ".txt", ".yaml", ".yml") or out.is_file():
        raise DataError(f"{to} is written to a folder", where=out, do="name a folder")
    return False


def _write_coco(dataset: Dataset, stage: Path, file: str) -> list[Problem]:
    """Write one file of a name; "": a file of each split where all images belong to one."""
    write = format_module("coco").write
    splits = dataset.splits
    whole = all(dataset.images.splits) and all(map(is_split_name, splits))
    if splits and whole and not file:
        return [
            lost for name in splits for lost in write(dataset.split(name), stage / f"{name}.json")
        ]
    lost: list[Problem] = write(dataset, stage / (file or "annotations.json"))
    if splits:
        why = "name a folder to write a file of each" if whole else "not every image has one"
        lost = [
            *lost,
            Problem(
                "field-lost", f"one COCO file holds no splits ({', '.join(splits)}): {why}",
                "dropped", str(dataset.source),
            ),
        ]  # fmt: skip
    return lost


def _with_safe_names(dataset: Dataset) -> tuple[Dataset, list[Problem]]:
    """Return the dataset with names that stay in the folder of the copies, and those changed."""
    given = dataset.images.file_names
    names = [safe_name(name) for name in given]
    renamed = [
        Problem(
            "image-renamed", f"{old!r} is copied as {new!r}, inside the images folder", "kept",
            str(dataset.source), dataset.images.ids[row],
        )
        for row, (old, new) in enumerate(zip(given, names, strict=True))
        if leaves_folder(old)
    ]  # fmt: skip
    return replace(dataset, images=replace(dataset.images, file_names=names)), renamed


def _check_place(dataset: Dataset, to: str, target: Path) -> None:
    source, place = dataset.source.resolve(), target.resolve()
    if to == dataset.format and (place == source or place in source.parents):
        raise DataError(
            f"the {to} dataset that is being converted lies in it",
            where=target,
            do="name another folder",
        )


def _check_names(dataset: Dataset, names: Sequence[str], *, full: bool) -> None:
    seen: dict[str, str] = {}
    for name, written in zip(dataset.images.file_names, names, strict=True):
        key = written if full else str(Path(written).with_suffix(""))
        if key in seen:
            raise DataError(
                f"images {seen[key]!r} and {name!r} would both be written as {key!r}",
                where=dataset.source,
                do="rename one of them",
            )
        seen[key] = name


def _check_free(target: Path, copies: Sequence[Path]) -> None:
    """Raise DataError where something is there already: two datasets in one folder are neither."""
    there = [target] if target.is_file() or (target.is_dir() and any(target.iterdir())) else []
    if not there:
        there = [path for path in copies if path.exists()][:1]
    if there:
        raise DataError(
            "there is something already", where=there[0],
            do="name a new place, or write into this with --force (force=True)",
        )  # fmt: skip


def _copy_images(dataset: Dataset, folder: Path, names: Sequence[str]) -> list[Problem]:
    """Write the images; return those that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for row, name in enumerate(names):
        target = safe_target(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if dataset.store is not None:
            target.write_bytes(dataset.store.image_bytes(dataset.images.ids[row]))
        elif Path(dataset.images.paths[row]).is_file():
            shutil.copyfile(dataset.images.paths[row], target)
        else:
            missing.append(_missing(dataset, row))
    return missing


def _missing(dataset: Dataset, row: int) -> Problem:
    name = dataset.images.file_names[row]
    return Problem(
        "image-missing", f"no file {name!r} to copy; its annotations are written", "kept",
        str(dataset.source), dataset.images.ids[row],
    )  # fmt: skip
