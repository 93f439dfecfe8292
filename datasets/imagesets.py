"""VOC's splits: lists of image names, `ImageSets/Main/train.txt` and its like."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.pairing import stem_of
from ytrue.datasets.splits import split_name
from ytrue.datasets.textfiles import read_text
from ytrue.errors import DataError, Problem

FOLDER: Final = "ImageSets"
_MAIN: Final = ("Main", "")
_OF_CLASS: Final = re.compile(r".+_(train|val|trainval|test)$")
_WORD: Final = re.compile(r"[\w-]+")
_LEVELS: Final = 3  # how far above the XML files ImageSets/ is looked for


def is_list(source: Path) -> bool:
    """Return whether a file is one of the lists in an `ImageSets` folder."""
    return source.suffix.lower() == ".txt" and FOLDER in [p.name for p in [*source.parents][:2]]


def split_of(source: Path) -> tuple[Path, str]:
    """Return the dataset's folder that a list in `ImageSets` is about, and its split's name.

    Raises:
        DataError: a list of one class, which repeats the images of a split's.
    """
    home = next(folder.parent for folder in source.parents if folder.name == FOLDER)
    for split, file in lists_of(home).items():
        if file.samefile(source):
            return home, split
    raise DataError(
        "the list of one class, not of a split", where=source, do="name the list of the split"
    )


class ImageSets:
    """The lists that are about a set of XML files.

    Args:
        files: the XML files.
        source: the dataset's folder; of the folders above it only `ImageSets` beside it counts.
        builder: told of lists that cannot be read, and of names without an XML file.
    """

    def __init__(self, files: Iterable[Path], source: Path, builder: DatasetBuilder) -> None:
        self._builder = builder
        self._stems: dict[Path, set[str]] = defaultdict(set)
        self._homes: dict[Path, Path | None] = {}
        self._top = source.parent
        for file in files:
            home = self._home(file.parent)
            if home is not None:
                self._stems[home] |= set(_names_of(file, home))
        self._splits = {home: self._read(home, stems) for home, stems in self._stems.items()}

    def of(self, file: Path) -> tuple[str, ...]:
        """Return the names of the lists that an XML file is in."""
        home = self._home(file.parent)
        if home is None:
            return ()
        splits = self._splits[home]
        found = {split for name in _names_of(file, home) for split in splits.get(name, ())}
        return tuple(sorted(found))

    def _home(self, folder: Path) -> Path | None:
        if folder not in self._homes:
            near = [folder, *folder.parents][: _LEVELS + 1]
            inside = [home for home in near if home == self._top or home.is_relative_to(self._top)]
            self._homes[folder] = next((h for h in inside if (h / FOLDER).is_dir()), None)
        return self._homes[folder]

    def _read(self, home: Path, known: set[str]) -> Mapping[str, Sequence[str]]:
        """Return image name -> the lists it is in."""
        found: dict[str, list[str]] = defaultdict(list)
        for split, file in lists_of(home).items():
            try:
                names = names_in(file, known)
            except DataError as error:
                self._builder.problem("split-missing", str(error), "dropped", file=str(file))
                continue
            for name in names & known:
                found[name].append(split)
            missing = sorted(names - known)
            if missing:
                detail = f"{len(missing)} of {len(names)} images have no XML file, such as {missing[0]!r}"
                self._builder.problem("split-missing", detail, "dropped", file=str(file))
        return found


def lists_of(home: Path) -> dict[str, Path]:
    """Return split -> list. Those of Main have bare names, others theirs: Segmentation/train.

    Lists of one class (`cat_train.txt`) repeat the images of `train.txt`, and are left out where
    that is there.
    """
    files = sorted(p for p in (home / FOLDER).rglob("*.txt") if not p.name.startswith("._"))
    found: dict[str, Path] = {}
    stems = {(file.parent, file.stem) for file in files}
    main = _main_folder(home, files)
    for file in files:
        whole = _OF_CLASS.match(file.stem)
        if whole and (file.parent, whole[1]) in stems:
            continue
        name = split_name(whole[1] if whole else file.stem)
        task = file.parent.relative_to(home / FOLDER).as_posix()
        found.setdefault(name if file.parent == main else f"{task}/{name}", file)
    return found


def _main_folder(home: Path, files: Sequence[Path]) -> Path | None:
    folders = {file.parent for file in files}
    usual = [home / FOLDER / name for name in _MAIN]
    return next((folder for folder in (*usual, *sorted(folders)) if folder in folders), None)


def names_in(file: Path, known: Collection[str] = ()) -> set[str]:
    """Return the image names of a list: whole lines that are known, else their first column.

    Lists of one class have a second column, which says whether it is in the image: `0001 -1`.
    """
    lines = (line.strip() for line in read_text(file, may_be_empty=True).splitlines())
    return {line if line in known else stem_of(line.split()[0]) for line in lines if line}


def _names_of(file: Path, home: Path) -> tuple[str, ...]:
    """Return what lists may call an XML file: its stem, or its path below Annotations."""
    below = file.relative_to(home).with_suffix("").parts[1:]
    return (file.stem, "/".join(below)) if len(below) > 1 else (file.stem,)


def write_lists(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write a list of image names for each split; returns the splits that cannot be files."""
    lost = []
    for split in dataset.splits:
        task, _, name = split.rpartition("/")
        if not all(_WORD.fullmatch(part) for part in (task or "Main", name)):
            detail = f"VOC holds no split {split!r}: no file can be called so"
            lost.append(Problem("field-lost", detail, "dropped", str(dataset.source)))
            continue
        rows = [row for row, names in enumerate(dataset.images.splits) if split in names]
        stems = [Path(dataset.images.file_names[row]).stem for row in rows]
        file = folder / FOLDER / (task or "Main") / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(stem + "\n" for stem in stems), encoding="utf-8")
    return lost
