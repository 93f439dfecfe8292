"""Names of the parts of a dataset: what is learnt, what is validated on, what is tested on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Final

from ytrue.errors import DataError

_USUAL: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_YEAR: Final = re.compile(r"[_-]?(19|20)\d\d$")


def split_name(name: str) -> str:
    """Return what a split is called here: "valid" and "val2017" are "val"; others stay as they are.

    Example:
        split_name("train2017")  # "train"
    """
    return _USUAL.get(_YEAR.sub("", name.lower()), name)


def is_split_name(name: str) -> bool:
    """Return whether a folder or file of this name holds a split: train, val, valid, test, val2017."""
    return _YEAR.sub("", name.lower()) in _USUAL


def in_usual_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return split names, each once: train, val and test first, then the rest by name."""
    order = {"train": 0, "val": 1, "test": 2}
    return tuple(sorted(set(names), key=lambda name: (order.get(name, 3), name)))


def check_split(split: str, known: Collection[str], where: object) -> str:
    """Return the split's name here.

    Raises:
        DataError: none of those there are.
    """
    name = split_name(split)
    if name in known:
        return name
    there = f"it has {', '.join(known)}" if known else "it has no splits"
    do = "name one of them, or load without split" if known else "load without split"
    raise DataError(f"no split {split!r}: {there}", where=where, do=do)


def folder_split(file: Path, root: Path) -> tuple[str, ...]:
    """Return the split that a folder between a dataset's folder and a file names, if any does.

    Example:
        folder_split(Path("set/valid/labels/a.txt"), Path("set"))  # ("val",)
    """
    parts = file.parent.parts[len(root.parts) :] if file.is_relative_to(root) else ()
    return next(((split_name(part),) for part in parts if is_split_name(part)), ())


def overlaps(splits: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, str, int]]:
    """Yield each two of train, val and test that share images, and how many."""
    counts: Counter[tuple[str, str]] = Counter()
    for names in splits:
        usual = [name for name in ("train", "val", "test") if name in names]
        counts.update(combinations(usual, 2))
    yield from ((first, second, n) for (first, second), n in sorted(counts.items()))
