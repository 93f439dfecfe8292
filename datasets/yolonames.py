"""Class names of YOLO labels: of data.yaml, or of the names file in each folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.pairing import LABEL_FOLDERS
from ytrue.datasets.splits import is_split_name
from ytrue.datasets.yoloyaml import Facts, read_name_list

NAME_FILES: Final = ("obj.names", "classes.txt", "names.txt", "_darknet.labels")
_INNER: Final = LABEL_FOLDERS | {"images", "obj_train_data"}


@dataclass(frozen=True)
class Classes:
    """Classes of a dataset: their names and numbers, and the labels of each folder's numbers."""

    names: Sequence[str]
    ids: Sequence[int]
    labels: Mapping[Path, Mapping[int, int]]  # folder -> number in its files -> label


def is_inner(folder: Path) -> bool:
    """Return whether a folder is called as those within a dataset are: labels, train, ..."""
    return folder.name.lower() in _INNER or is_split_name(folder.name)


def tops(folder: Path) -> list[Path]:
    """Return a folder, and those above it as long as they are called as those in a dataset are."""
    found = [folder]
    while is_inner(found[-1]) and found[-1].parent != found[-1]:
        found.append(found[-1].parent)
    return found


def classes_of(
    folders: Iterable[Path], source: Path, facts: Facts | None, inner: Sequence[Facts],
    builder: DatasetBuilder,
) -> Classes | None:  # fmt: skip
    """Return the classes of label files in `folders`, None where nothing names them.

    Args:
        folders: the folders of the label files.
        source: the dataset's folder.
        facts: its data.yaml; its names hold for all.
        inner: data.yaml files further down; their names hold for their folders.
        builder: told of names that disagree.
    """
    by_folder: dict[Path, tuple[Path | None, Mapping[int, str]]]
    by_folder = _names_by_folder(sorted(set(folders)), source, inner)
    given = facts.names if facts else {}
    if facts and given:
        others = {file: names for file, names in by_folder.values() if file}
        for other in sorted(others):
            _compare(facts.file, given, other, others[other], builder)
        by_folder = dict.fromkeys(by_folder, (facts.file, given))
    distinct = [names for names in _distinct(by_folder) if names]
    if not distinct:
        return None
    for folder, (file, _) in by_folder.items():
        if file is None and len(distinct) == 1:
            by_folder[folder] = (None, distinct[0])
            detail = f"no names file for {folder}: the one that there is elsewhere is used"
            builder.problem("class-unnamed", detail, "kept")
    merged = _merged(distinct)
    if merged is not None:
        numbers = sorted(merged)
        labels = {number: label for label, number in enumerate(numbers)}
        _check_count(facts, merged, builder)
        called = [merged[number] for number in numbers]
        _check_twice(called, builder)
        return Classes(called, numbers, dict.fromkeys(by_folder, labels))
    return _by_name(by_folder, distinct, builder)


def _by_name(
    by_folder: Mapping[Path, tuple[Path | None, Mapping[int, str]]],
    distinct: Sequence[Mapping[int, str]], builder: DatasetBuilder,
) -> Classes:  # fmt: skip
    """Return classes where folders number them differently: each by its own names file."""
    names = list(dict.fromkeys(names[number] for names in distinct for number in sorted(names)))
    label_of = {name: label for label, name in enumerate(names)}
    files = sorted({str(file) for file, _ in by_folder.values() if file})
    detail = (
        f"{len(files)} names files number the classes differently ({', '.join(files[:3])}): each is "
        "used for its own folder, and classes are numbered anew"
    )
    builder.problem("class-names-differ", detail, "kept", file=files[0])
    labels = {
        folder: {number: label_of[name] for number, name in own.items()}
        for folder, (_, own) in by_folder.items()
    }
    return Classes(names, range(len(names)), labels)


def _names_by_folder(
    folders: Sequence[Path], source: Path, inner: Sequence[Facts]
) -> dict[Path, tuple[Path | None, Mapping[int, str]]]:
    """Return for each folder the nearest names file at or above it, and its names."""
    own = {facts.file.parent: (facts.file, facts.names) for facts in inner if facts.names}
    known: dict[Path, tuple[Path | None, Mapping[int, str]]] = {}
    highest = tops(source)[-1]

    def of(folder: Path) -> tuple[Path | None, Mapping[int, str]]:
        if folder not in known:
            known[folder] = _names_in(folder) or own.get(folder) or (None, {})
            if known[folder][0] is None and folder != highest and folder.parent != folder:
                known[folder] = of(folder.parent)
        return known[folder]

    return {folder: of(folder) for folder in folders}


def _names_in(folder: Path) -> tuple[Path, Mapping[int, str]] | None:
    for name in NAME_FILES:
        if (folder / name).is_file():
            names = read_name_list(folder / name)
            if names:
                return folder / name, names
    return None


def _distinct(
    by_folder: Mapping[Path, tuple[Path | None, Mapping[int, str]]],
) -> list[Mapping[int, str]]:
    found: list[Mapping[int, str]] = []
    for _, names in by_folder.values():
        if names not in found:
            found.append(names)
    return found


def _merged(distinct: Sequence[Mapping[int, str]]) -> dict[int, str] | None:
    """Return all names by number, None if a number has two."""
    merged: dict[int, str] = {}
    for names in distinct:
        if any(merged.setdefault(number, name) != name for number, name in names.items()):
            return None
    return merged


def _compare(
    file: Path, given: Mapping[int, str], other: Path, names: Mapping[int, str],
    builder: DatasetBuilder,
) -> None:  # fmt: skip
    if other == file or dict(given) == dict(names):
        return
    number = next(n for n in sorted({*given, *names}) if given.get(n) != names.get(n))
    detail = (
        f"class {number} is {given.get(number)!r} here and {names.get(number)!r} in {other}: this "
        "file's names are used"
    )
    builder.problem("class-names-differ", detail, "kept", file=str(file))


def _check_count(facts: Facts | None, names: Mapping[int, str], builder: DatasetBuilder) -> None:
    if facts and facts.nc and facts.nc != str(len(names)):
        detail = f"nc is {facts.nc[:20]}, but there are {len(names)} names"
        builder.problem("class-count", detail, "kept", file=str(facts.file))


def _check_twice(names: Sequence[str], builder: DatasetBuilder) -> None:
    for name in sorted(name for name, times in Counter(names).items() if times > 1):
        builder.problem("duplicate-category", f"two classes are called {name!r}", "kept")
