"""Which image belongs to which annotation file, where there is one file for each image."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.imagefiles import EXTENSIONS

LABEL_FOLDERS: Final = frozenset(
    ("labels", "label", "annotations", "annotation", "anns", "xml", "xmls", "txt", "txts")
)
"""What folders of annotation files are called, in lower case."""
_IMAGE_FOLDERS: Final = ("images", "jpegimages", "image", "imgs", "img", "data")
_RANKS: Final = {extension: rank for rank, extension in enumerate(EXTENSIONS)}
_MIRRORED_PARTS: Final = 8  # how far up a folder called labels/ is looked for


@dataclass(frozen=True)
class Match:
    """The image of an annotation file.

    Attributes:
        name: the image's file name relative to `Pairing.root`.
        found: whether that file is there.
        renamed: whether it is not the file that the annotations name.
        twins: other images, relative to `root`, that it could be as well.
        named: the image that the annotations name, where that is there, too, but not taken.
    """

    name: str
    found: bool = True
    renamed: bool = False
    twins: tuple[str, ...] = ()
    named: str = ""


class Pairing:
    """Finds the images of annotation files.

    Each folder of annotation files has its images in one folder: below `images`, where that is
    given, by the same subfolders; else in the folder that mirrors its own (`labels/val` and
    `images/val`), even if that lacks some, as splits number their images alike; else in the one
    nearby that holds most of them, by file stem.

    Args:
        files: annotation files.
        images: the images folder, where it is known.
        source: the folder of the dataset; images from elsewhere are doubtful. None: not known.
    """

    def __init__(
        self, files: Sequence[Path], images: Path | None, source: Path | None = None
    ) -> None:
        by_folder: dict[str, list[Path]] = {}
        for file in files:
            by_folder.setdefault(os.path.abspath(file.parent), []).append(file)
        self._listings: dict[str, _Listing] = {}
        self._source = None if source is None else os.path.abspath(source)
        self._images = None if images is None else os.path.abspath(images)
        self._of: dict[str, _Listing] = {}
        self._guessed: list[tuple[str, str]] = []
        for folder, members in by_folder.items():
            self._of[folder] = self._choose(folder, {_normal(file.stem) for file in members})
        chosen = [listing.folder for listing in self._of.values() if listing]
        folders = chosen or ([self._images] if self._images else list(by_folder))
        self.root = Path(os.path.commonpath(folders))

    def match(self, file: Path, name: str = "") -> Match:
        """Return the image of an annotation file that says it is for the image `name`.

        The two claims on it, its name in the file and the annotation file's own stem, are held
        against each other: files are renamed more often than what is written in them, so an image of
        the own stem wins over another that is named.
        """
        listing = self._of[os.path.abspath(file.parent)]
        base = PureWindowsPath(name).name  # splits at both kinds of slash
        own, named = listing.of_stem(file.stem), listing.named(base)
        if base and not (own and _normal(stem_of(base)) != _normal(file.stem)):
            exact = bool(named) and _normal(os.path.basename(named[0])) == _normal(base)
            twins = () if exact else named[1:]
            return self._made(named or own, twins, not exact, name)
        if base and named:
            return self._made(own, own[1:], True, name, self._relative(named[0]))
        return self._made(own, own[1:], bool(base), name or f"{file.stem}.jpg")

    def _made(
        self, paths: Sequence[str], twins: Sequence[str], renamed: bool, name: str, named: str = ""
    ) -> Match:
        if not paths:
            return Match(name, found=False)
        others = tuple(self._relative(path) for path in twins)
        return Match(self._relative(paths[0]), True, renamed, others, named)

    def find(self, file: Path, name: str = "") -> tuple[str, bool]:
        """Return the image's file name relative to `root`, and whether it is not the one named."""
        found = self.match(file, name)
        return found.name, found.renamed

    def unclaimed(self, claimed: Iterable[str]) -> list[str]:
        """Return the images of the folders, relative to `root`, that are not in `claimed`."""
        every = {self._relative(path) for listing in self._of.values() for path in listing.paths}
        return sorted(every - set(claimed))

    def report(self, builder: DatasetBuilder) -> None:
        """List the folders of images that are a guess."""
        for folder, images in self._guessed:
            detail = (
                f"the images of {folder} are taken from {images}, outside of the folder that was "
                "named: of another project? Name the images folder"
            )
            builder.problem("images-guessed", detail, "kept")

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def _choose(self, folder: str, wanted: set[str]) -> _Listing:
        candidates = self._given(folder) if self._images else self._mirrors(folder)
        for candidate in candidates:
            if self._listing(candidate):
                return self._listing(candidate)
        if self._images:
            return _Listing(self._images, _images_below(self._images))
        best, most = _Listing(folder, ()), (False, 0, False)
        for candidate in self._around(Path(folder)):
            listing = self._listing(candidate)
            rank = (self._is_inside(candidate), listing.hits(wanted), _same_name(candidate, folder))
            if rank[1] and rank > most:
                best, most = listing, rank
        if best and self._source is not None and not most[0]:
            self._guessed.append((folder, best.folder))
        return best

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder, _images_in(folder))
        return self._listings[folder]

    def _is_inside(self, folder: str) -> bool:
        return self._source is None or Path(folder).is_relative_to(self._source)

    def _given(self, folder: str) -> Iterator[str]:
        """Yield where, below the images folder, images of a folder of annotations may lie."""
        assert self._images is not None
        parts = [p for p in Path(folder).parts[-_MIRRORED_PARTS:] if p.lower() not in LABEL_FOLDERS]
        for first in range(len(parts)):
            yield os.path.join(self._images, *parts[first:])
        yield self._images

    def _mirrors(self, folder: str) -> Iterator[str]:
        """Yield the folders that differ in one part alone: `images` where ours is `labels`."""
        parts = Path(folder).parts
        for place in range(len(parts) - 1, max(0, len(parts) - _MIRRORED_PARTS), -1):
            if parts[place].lower() in LABEL_FOLDERS:
                beside = Path(*parts[:place])
                for child in _named_for_images(beside):
                    yield os.path.join(child, *parts[place + 1 :])

    def _around(self, folder: Path) -> Iterator[str]:
        """Yield the folder and two levels in it, then those above it, nearest first.

        Of those above only folders named as images folders are entered, so that no foreign tree is
        searched.
        """
        for level, parent in enumerate([folder, *folder.parents][:4]):
            if level < 3:
                yield str(parent)
            for child in _subfolders(parent) if level == 0 else _named_for_images(parent):
                yield child
                yield from _subfolders(Path(child))


class _Listing:
    """The images of a folder by name and by stem; false where there are none."""

    def __init__(self, folder: str, paths: Sequence[str]) -> None:
        self.folder, self.paths = folder, paths
        self._names = {_normal(os.path.basename(path)): path for path in paths}
        self._stems: dict[str, list[str]] = {}
        for path in sorted(paths, key=_rank):  # of one stem the common formats come first
            self._stems.setdefault(_normal(stem_of(os.path.basename(path))), []).append(path)

    def __bool__(self) -> bool:
        return bool(self.paths)

    def hits(self, wanted: set[str]) -> int:
        """Return how many of the stems are there."""
        return len(wanted & self._stems.keys())

    def of_stem(self, stem: str) -> list[str]:
        """Return the images of a stem; a stem that is an image's full name (a.jpg.txt) is that."""
        exact = self._names.get(_normal(stem))
        return self._stems.get(_normal(stem)) or ([] if exact is None else [exact])

    def named(self, base: str) -> list[str]:
        """Return the image of a name, else those of its stem."""
        exact = self._names.get(_normal(base))
        return [exact] if exact is not None else self._stems.get(_normal(stem_of(base)), [])


def stem_of(name: str) -> str:
    """Return an image's name without its extension; "frame.v2" has none."""
    base, extension = os.path.splitext(name)
    return base if extension.lower() in _RANKS else name


def _normal(name: str) -> str:
    """Return a name with accents composed, as systems differ in how they store them."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _rank(path: str) -> tuple[int, str]:
    return _RANKS[os.path.splitext(path)[1].lower()], path


def _same_name(first: str, second: str) -> bool:
    return os.path.basename(first) == os.path.basename(second)


def _images_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if _is_image(entry))
    except OSError:
        return []


def _is_image(entry: os.DirEntry[str]) -> bool:
    wanted = os.path.splitext(entry.name)[1].lower() in _RANKS
    return wanted and not entry.name.startswith("._") and entry.is_file()


def _images_below(folder: str) -> list[str]:
    from ytrue.datasets.annotationfiles import walk

    return [str(path) for path in walk(Path(folder), EXTENSIONS).files]


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())[:100]
    except OSError:
        return []


def _named_for_images(folder: Path) -> list[str]:
    """Return the subfolders that are called as images folders are, the usual name first."""
    found = [path for path in _subfolders(folder) if _image_word(path) in _IMAGE_FOLDERS]
    return sorted(found, key=lambda path: _IMAGE_FOLDERS.index(_image_word(path)))


def _image_word(path: str) -> str:
    return os.path.basename(path).lower()


class Claims:
    """Which annotation file has which image: one image has one."""

    def __init__(self, builder: DatasetBuilder) -> None:
        self._builder = builder
        self._files: dict[str, Path] = {}
        self._twins: set[str] = set()

    @property
    def images(self) -> set[str]:
        """Images that are somebody's, or might be."""
        return self._twins.union(self._files)

    def claim(self, file: Path, match: Match, image_id: str, *, said: str = "") -> bool:
        """Return whether the image is free for this file; list whatever is doubtful about it.

        Args:
            file: the annotation file.
            match: what `Pairing.match` found for it.
            image_id: the id that it is given.
            said: the image's name in the annotation file.
        """
        place = {"file": str(file), "image_id": image_id}
        first = self._files.get(match.name)
        if match.found and first is not None:
            detail = f"{match.name!r} is the image of {first}, too: its second annotation file is not read"
            self._builder.problem("image-claimed-twice", detail, "dropped", **place)
            return False
        if match.found:
            self._files[match.name] = file
        if match.renamed:
            why = (
                f", as its stem is the annotation file's; {match.named!r} is there, too"
                if match.named
                else ""
            )
            detail = f"the file names {said!r}, {match.name!r} is used{why}"
            self._builder.problem("image-renamed", detail, "kept", **place)
        for twin in match.twins:
            self._twins.add(twin)
            detail = f"{match.name!r} is used, but {twin!r} has the same stem"
            self._builder.problem("image-twin", detail, "kept", **place)
        return True


def image_ids(files: Sequence[Path]) -> dict[Path, str]:
    """Return an id for each annotation file: its stem, or its path where stems are not unique."""
    counts = Counter(file.stem for file in files)
    root = os.path.commonpath([str(file.parent) for file in files]) if files else ""
    return {
        file: file.stem if counts[file.stem] == 1 else os.path.relpath(file.with_suffix(""), root)
        for file in files
    }
