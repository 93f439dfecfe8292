"""A folder of COCO files: one, or one for each split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ytrue.datasets.coco import holds_coco, read
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.merging import merged
from ytrue.datasets.splits import check_split, is_split_name, split_name
from ytrue.errors import DataError, Problem

_PATTERNS: Final = ("*.json", "annotations/*.json", "*/annotations/*.json", "*/*.json")
_WORDS: Final = re.compile(r"[_\-. ]+")


def annotation_files(folder: Path) -> list[Path]:
    """Return the COCO files of a dataset's folder, its own or in the usual places below."""
    return next((found for found in map(list, _by_place(folder)) if found), [])


def _by_place(folder: Path) -> list[list[Path]]:
    """Return the COCO files of each usual place that has any, the likeliest place first."""
    seen: set[Path] = set()
    places = []
    for pattern in _PATTERNS:
        new = [path for path in sorted(folder.glob(pattern)) if path not in seen]
        seen.update(new)
        places.append([path for path in new if path.is_file() and holds_coco(path)])
    return [found for found in places if found]


def read_folder(
    folder: Path, *, images: Path | None, strict: bool, split: str | None, allow_outside: bool
) -> Dataset:
    """Read the only COCO file of a folder, or the files of its splits as one dataset.

    Raises:
        DataError: none, or several that are no splits of one dataset; no such split.
    """
    places = _by_place(folder)
    if not places:
        raise DataError(
            "the folder holds no COCO file", where=folder, do="name the annotation file"
        )
    found, others = places[0], [path for place in places[1:] for path in place]
    options = {"images": images, "strict": strict, "allow_outside": allow_outside}
    if len(found) == 1 and not _split_of(found[0], folder)[0]:
        dataset = read(found[0], **options)  # type: ignore[arg-type]
    else:
        files = _splits(found, folder)
        if split is not None:
            wanted = check_split(split, tuple(files), folder)
            files = {wanted: files[wanted]}
        parts = {name: read(path, **options) for name, path in files.items()}  # type: ignore[arg-type]
        dataset = merged(parts, folder)
    unread = [
        Problem("file-unread", f"not read: {path.relative_to(folder)}", "ignored", str(folder))
        for path in others
    ]
    return replace(dataset, problems=(*dataset.problems, *unread))


def _splits(found: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return the file of each split.

    Raises:
        DataError: the files are no splits, or of several kinds.
    """
    named = [(path, *_split_of(path, folder)) for path in found]
    kinds = sorted({kind for _, _, kind in named})
    splits = {split: path for path, split, _ in named}
    if len(kinds) == 1 and len(splits) == len(found) and (all(splits) or len(found) == 1):
        return splits
    listed = ", ".join(str(path.relative_to(folder)) for path in found)
    if len(kinds) > 1 and all(splits):
        what = f"COCO files of {len(kinds)} kinds, which are not read as one ({listed})"
        do = "name one of them, or a folder that holds the files of one kind"
    else:
        what, do = f"{len(found)} COCO files ({listed})", "name one of them"
    raise DataError(f"the folder holds {what}", where=folder, do=do)


def _split_of(path: Path, folder: Path) -> tuple[str, str]:
    """Return the split that a file's name, else its folder's, tells ("": none), and its kind.

    instances_val2017.json is ("val", "instances"), train/_annotations.coco.json is
    ("train", "annotations coco").
    """
    words = [word for word in _WORDS.split(path.stem) if word]
    split = next((word for word in words if is_split_name(word)), "")
    if split:
        words.remove(split)
    else:
        parents = path.relative_to(folder).parts[:-1]
        split = next((part for part in reversed(parents) if is_split_name(part)), "")
    return split_name(split) if split else "", " ".join(words).lower()
