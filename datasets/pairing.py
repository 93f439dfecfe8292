"""Which image belongs to which annotation file, where there is one file for each image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from ytrue.datasets.imagefiles import EXTENSIONS, folders_around, leaves_folder


class Pairing:
    """Finds the images of annotation files.

    For each folder of annotation files the images folder is the one nearby that holds most of
    their images (by file stem), unless it is given.

    Args:
        files: annotation files.
        images: the images folder, where it is known.
    """

    def __init__(self, files: Sequence[Path], images: Path | None) -> None:
        by_folder: dict[Path, list[Path]] = {}
        for file in files:
            by_folder.setdefault(file.parent, []).append(file)
        self._stems: dict[Path, Mapping[str, Path]] = {}
        for folder, members in by_folder.items():
            self._stems[folder] = _best_listing(
                members, [images] if images else folders_around(members[0])
            )
        found = {path.parent for stems in self._stems.values() for path in stems.values()}
        folders = found or ({images} if images else set(by_folder))
        self.root = Path(os.path.commonpath([str(folder) for folder in folders]))

    def find(self, file: Path, name: str = "") -> tuple[str, bool]:
        """Return the image's file name relative to `root`, and whether it is not the one named.

        The named file is preferred, then one of the same stem, then one of the annotation file's
        stem. A name that leads out of the folder is returned as it is: it is refused later.
        """
        stems = self._stems[file.parent]
        base = PureWindowsPath(name).name  # splits at both kinds of slash
        if name and leaves_folder(name) and ".." in PureWindowsPath(name).parts:
            return name, False
        for stem in (Path(base).stem, file.stem):
            path = stems.get(stem)
            if stem and path is not None:
                relative = os.path.relpath(path, self.root)
                return relative, bool(name) and path.name != base
        return base or f"{file.stem}.jpg", False

    def unclaimed(self, claimed: Iterable[str]) -> list[str]:
        """Return the images of the folders, relative to `root`, that are not in `claimed`."""
        every = {
            os.path.relpath(path, self.root)
            for stems in self._stems.values()
            for path in stems.values()
        }
        return sorted(every - set(claimed))


def _best_listing(files: Sequence[Path], candidates: Iterable[Path]) -> Mapping[str, Path]:
    wanted = {file.stem for file in files}
    best: dict[str, Path] = {}
    most = 0
    for folder in candidates:
        stems = _image_stems(folder)
        hits = len(wanted & stems.keys())
        if hits > most:
            best, most = stems, hits
    return best


def _image_stems(folder: Path) -> dict[str, Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return {}
    # Of several images with one stem the common formats win: they are listed last here.
    order = sorted(names, key=lambda name: -_rank(name))
    return {Path(name).stem: folder / name for name in order if _rank(name) < len(EXTENSIONS)}


def _rank(name: str) -> int:
    extension = Path(name).suffix.lower()
    return EXTENSIONS.index(extension) if extension in EXTENSIONS else len(EXTENSIONS)
