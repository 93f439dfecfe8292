"""What a folder holds, kind by kind: to tell its format, and what of it is not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ytrue.datasets.annotationfiles import spread, walk
from ytrue.datasets.foreign import TEXT, UNKNOWN, Kind, kind_of
from ytrue.datasets.imagefiles import EXTENSIONS
from ytrue.errors import DataError, Problem

_ARCHIVES: Final = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
_TABLES: Final = (".csv", ".tsv", ".parquet", ".tfrecord", ".record")
_READ_BY: Final = {
    "coco": (".json",), "labelme": (".json",), "voc": (".xml",), "yolo": (".txt",),
}  # fmt: skip
"""Endings whose files a format's own reader reads or lists."""
LISTED: Final = (".json", ".xml", ".txt", *_TABLES)
_BROKEN: Final = Kind("unreadable")
_NO_ANNOTATIONS: Final = (TEXT, UNKNOWN)


@dataclass(frozen=True)
class Survey:
    """Files of a folder by ending and kind.

    Attributes:
        kinds: (ending, kind) -> example and number of those that were looked at.
        totals: ending -> number of files.
        images: number of image files.
    """

    kinds: dict[tuple[str, Kind], tuple[Path, int]]
    totals: dict[str, int]
    images: int

    def count_of(self, format: str) -> int:
        """Return about how many files are of a format."""
        return sum(
            -(-count * self.totals[ending] // self._looked_at(ending))
            for (ending, kind), (_, count) in self.kinds.items()
            if kind.format == format
        )

    def _looked_at(self, ending: str) -> int:
        return sum(count for (other, _), (_, count) in self.kinds.items() if other == ending)

    def foreign(self, ending: str) -> bool:
        """Return whether a file of an ending is of a format that is not read."""
        return any(kind.do and other == ending for other, kind in self.kinds)

    @property
    def advice(self) -> str:
        """What helps with the foreign kind of which most were seen, "" where there is none."""
        foreign = [(n, kind) for (_, kind), (_, n) in self.kinds.items() if kind.do]
        return max(foreign, key=lambda pair: pair[0])[1].do if foreign else ""

    def __str__(self) -> str:
        parts = [
            f"{count} {ending} {kind.name} (such as {example.name})"
            for (ending, kind), (example, count) in self.kinds.items()
        ]
        parts += [f"{self.images} images"] if self.images else []
        return f"seen: {', '.join(parts[:8])}" if parts else "it holds no files that could be one"


def survey(
    folder: Path, endings: Sequence[str] = (*LISTED, *_ARCHIVES), *, images: bool = False
) -> Survey:
    """Look at some files of each ending; with `images`, count those as well."""
    files = walk(folder, (*endings, *(EXTENSIONS if images else ()))).files
    by_ending: dict[str, list[Path]] = {}
    num_images = 0
    for file in files:
        ending = file.suffix.lower()
        if ending in endings:
            by_ending.setdefault(ending, []).append(file)
        else:
            num_images += 1
    kinds: dict[tuple[str, Kind], tuple[Path, int]] = {}
    for ending, members in by_ending.items():
        for file in spread(members):
            key = ending, _kind_of(file)
            example, count = kinds.get(key, (file, 0))
            kinds[key] = example, count + 1
    totals = Counter({ending: len(members) for ending, members in by_ending.items()})
    return Survey(kinds, totals, num_images)


def _kind_of(file: Path) -> Kind:
    try:
        return kind_of(file)
    except DataError:
        return _BROKEN


def unread_files(folder: Path, format: str) -> list[Problem]:
    """Return a problem for each kind of file that a format's reader does not look at.

    Text that is no annotation file is left out: readme, lists, licences.
    """
    if format not in _READ_BY:
        return []
    endings = [ending for ending in LISTED if ending not in _READ_BY[format]]
    found = survey(folder, endings)
    problems = []
    for (ending, kind), (example, count) in found.kinds.items():
        if kind in _NO_ANNOTATIONS or (kind == _BROKEN and ending == ".txt"):
            continue
        name = example.relative_to(folder)
        files = f"{count} {ending} file is" if count == 1 else f"{count} {ending} files are"
        looked = sum(n for (other, _), (_, n) in found.kinds.items() if other == ending)
        part = f" (of {looked} looked at, {found.totals[ending]} in all)"
        detail = (
            f"{files} not read{part if looked < found.totals[ending] else ''}: {kind.name}, "
            f"such as {name}; what is read is {format}"
        )
        problems.append(Problem("file-unread", detail, "ignored", str(folder)))
    return problems
