"""The annotation files of a folder, where there is one for each image: all of them, to any depth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.splits import overlaps
from ytrue.words import counted

_FORK: Final = "._"
_JUNK_FOLDERS: Final = ("__MACOSX",)
_SAMPLE: Final = 50


@dataclass(frozen=True)
class Walk:
    """What a folder holds.

    Attributes:
        files: regular files of the wanted extensions, sorted folder by folder.
        forks: names of resource forks (`._a.xml`) that macOS leaves beside such files.
        unreadable: folders that cannot be listed, and why.
    """

    files: list[Path] = field(default_factory=list)
    forks: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def of(self, *extensions: str) -> list[Path]:
        """Return the files of some of the extensions."""
        return [file for file in self.files if file.suffix.lower() in extensions]

    def report(self, builder: DatasetBuilder) -> None:
        """List what was left out."""
        if self.forks:
            count = counted(len(self.forks), "resource fork")
            detail = f"{count} of macOS, such as {self.forks[0]}: not read"
            builder.problem("file-unread", detail, "dropped")
        for folder in self.unreadable:
            builder.problem("file-unread", f"the folder {folder} cannot be listed", "dropped")


def walk(root: Path, extensions: Sequence[str]) -> Walk:
    """Return the files of a folder and all below it that end in one of `extensions`, in any case.

    Links to folders are followed, each folder is read once; hidden folders are left alone.
    """
    found, wanted = Walk(), tuple(extensions)
    seen: set[tuple[int, int]] = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable.append(f"{folder} ({error.strerror})")
            continue
        inner = [entry for entry in entries if entry.is_dir()]
        # The last is read first: real folders before links to them, and by name.
        folders += [
            entry.path
            for entry in sorted(inner, key=lambda e: (not e.is_symlink(), e.name), reverse=True)
            if not entry.name.startswith(".") and entry.name not in _JUNK_FOLDERS
        ]
        for entry in entries:
            if entry.name.lower().endswith(wanted) and entry.is_file():
                if entry.name.startswith(_FORK):
                    found.forks.append(entry.name)
                else:
                    found.files.append(Path(entry.path))
    return found


def spread(files: Sequence[Path]) -> Iterator[Path]:
    """Yield some of the files, evenly spread: enough to tell what most of them are."""
    yield from files[:: -(-len(files) // _SAMPLE) or 1]


def report_overlaps(splits: Sequence[tuple[str, ...]], builder: DatasetBuilder) -> None:
    """List splits that share images."""
    for first, second, count in overlaps(splits):
        detail = f"{count} images are in {first} and in {second}: what is learnt is then tested"
        builder.problem("split-overlap", detail, "kept")
