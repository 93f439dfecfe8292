"""Which image belongs to which annotation file, where there is one file for each image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

from ytrue.datasets.imagefiles import EXTENSIONS, folders_around, leaves_folder


class Pairing:
    """Finds the images of annotation files.

    For each folder of annotation files the images folder is the one nearby that holds most of
    their images (by file stem), unless it is given. Splits number their images alike, so a folder
    that mirrors the annotations' (`labels/val` and `images/val`) wins if it holds any of them.

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
                members,
                [images, images / folder.name]
                if images
                else folders_around(members[0], siblings=False),
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
    home = files[0].resolve().parent
    best: dict[str, Path] = {}
    most = (False, 0, False)
    for folder in candidates:
        stems = _image_stems(folder)
        hits = len(wanted & stems.keys())
        rank = (_mirrors(folder, home), hits, folder.name == home.name)
        if hits and rank > most:
            best, most = stems, rank
    return best


def _mirrors(images: Path, labels: Path) -> bool:
    """Return whether two folders differ in one part alone: `labels` against `images`."""
    differing = [
        (ours.lower(), theirs.lower())
        for ours, theirs in zip(labels.parts, images.parts, strict=False)
        if ours != theirs
    ]
    return len(labels.parts) == len(images.parts) and differing == [("labels", "images")]


def image_ids(files: Sequence[Path]) -> dict[Path, str]:
    """Return an id for each annotation file: its stem, or its path where stems are not unique."""
    counts = Counter(file.stem for file in files)
    root = os.path.commonpath([str(file.parent) for file in files]) if files else ""
    return {
        file: file.stem if counts[file.stem] == 1 else os.path.relpath(file.with_suffix(""), root)
        for file in files
    }


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
