"""`convert`: a dataset in another format, and what that format cannot hold."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ytrue.datasets.dataset import Dataset
from ytrue.datasets.loading import format_module
from ytrue.datasets.yolo import image_names
from ytrue.errors import DataError, Problem

WRITABLE: Final = ("coco", "voc", "yolo", "labelme")


def convert(
    dataset: Dataset, to: str, out: str | Path, *, copy_images: bool = False
) -> list[Problem]:
    """Write a dataset in another format.

    Args:
        dataset: what `load` returned.
        to: "coco", "voc", "yolo" or "labelme".
        out: folder to write; for coco also the JSON file.
        copy_images: copy the images as well, to `images/` beside the annotations.

    Returns:
        What the format cannot hold, one `Problem` of kind "field-lost" for each loss.

    Raises:
        DataError: an unknown format, images of equal names that would overwrite each other, or
            a folder in which the dataset itself, in that format, would be overwritten.
    """
    if to not in WRITABLE:
        raise DataError(
            f"format {to!r} cannot be written", do=f"expected one of {', '.join(WRITABLE)}"
        )
    target = Path(out)
    _check_place(dataset, to, target)
    names = _written_names(dataset, to)
    if to != "coco" or copy_images:
        _check_names(dataset, names, full=to == "coco")
    lost: list[Problem] = format_module(to).write(dataset, target)
    if copy_images:
        folder = target.parent if target.suffix else target
        _copy_images(dataset, folder / "images", names)
    return lost


def _written_names(dataset: Dataset, to: str) -> list[str]:
    """Return the name in `images/` of each image."""
    if to == "yolo":
        return image_names(dataset)
    every = dataset.images.file_names
    return list(every) if to == "coco" else [Path(name).name for name in every]


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


def _copy_images(dataset: Dataset, folder: Path, names: Sequence[str]) -> None:
    for name, path in zip(names, dataset.images.paths, strict=True):
        target = folder / name
        if Path(path).is_file() and not (target.exists() and target.samefile(path)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
