"""Image files as facts: where they are, and their size, without decoding pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from ytrue.errors import DataError

EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
_IMAGE_FOLDERS: Final = ("images", "image", "imgs", "img", "jpegimages", "data")
_SWAPPING_ORIENTATIONS: Final = (5, 6, 7, 8)
_EXIF_ORIENTATION: Final = 0x0112


@dataclass(frozen=True, slots=True)
class Header:
    """Size of an image as it is stored, and its EXIF orientation (1: as stored)."""

    height: int
    width: int
    orientation: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """(height, width) as a viewer shows it, orientation applied."""
        if self.orientation in _SWAPPING_ORIENTATIONS:
            return self.width, self.height
        return self.height, self.width


def read_header(path: str | Path) -> Header:
    """Return an image file's size and orientation.

    Raises:
        DataError: no such file, or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1) or 1)
            width, height = image.size
    except FileNotFoundError:
        raise DataError("no such image file", where=path, do="check the images folder") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"not a readable image ({error})", where=path, do="replace or remove the file"
        ) from None
    return Header(height, width, orientation if 1 <= orientation <= 8 else 1)


def read_headers(paths: Sequence[str | Path]) -> list[Header | DataError]:
    """Return each file's header, or what is wrong with it, read by a few threads."""

    def one(path: str | Path) -> Header | DataError:
        try:
            return read_header(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) * 2)) as pool:
        return list(pool.map(one, paths, chunksize=64))


def leaves_folder(file_name: str) -> bool:
    """Return whether a file name in an annotation file points out of the images folder."""
    posix, windows = PurePosixPath(file_name), PureWindowsPath(file_name)
    rooted = posix.is_absolute() or windows.is_absolute() or bool(windows.drive)
    return rooted or ".." in posix.parts or ".." in windows.parts


class Folder:
    """An images folder, listed once for each subfolder that is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self._listings: dict[str, dict[str, bool]] = {}

    def _listing(self, subfolder: str) -> dict[str, bool]:
        """Return file name -> whether it is a link, for one subfolder."""
        if subfolder not in self._listings:
            try:
                with os.scandir(os.path.join(self.root, subfolder)) as entries:
                    names = {entry.name: entry.is_symlink() for entry in entries}
            except (FileNotFoundError, NotADirectoryError):
                names = {}
            self._listings[subfolder] = names
        return self._listings[subfolder]

    def path(self, file_name: str) -> str:
        """Return the path that a file name stands for, existing or not."""
        return os.path.join(self.root, file_name)

    def has(self, file_name: str) -> bool:
        """Return whether the file exists."""
        subfolder, name = os.path.split(file_name)
        return name in self._listing(subfolder)

    def leaves(self, file_name: str) -> bool:
        """Return whether the name, or a link behind it, leads out of the folder."""
        if leaves_folder(file_name):
            return True
        subfolder, name = os.path.split(file_name)
        linked = self._listing(subfolder).get(name, False)
        if not (linked or subfolder):
            return False
        target = os.path.realpath(self.path(file_name if linked else subfolder))
        return os.path.commonpath((self._real, target)) != self._real

    def twin(self, file_name: str) -> str | None:
        """Return a file of the same stem with another image extension, None where there is none."""
        subfolder, name = os.path.split(file_name)
        stem = os.path.splitext(name)[0]
        for other in sorted(self._listing(subfolder)):
            base, extension = os.path.splitext(other)
            if base == stem and extension.lower() in EXTENSIONS:
                return os.path.join(subfolder, other)
        return None


def choose_folder(candidates: Iterable[Path], file_names: Sequence[str]) -> Path | None:
    """Return the candidate that holds most of the named files, None where none holds any."""
    sample = [
        name for name in file_names[:: max(1, len(file_names) // 50)] if not leaves_folder(name)
    ]
    best, most = None, 0
    for candidate in candidates:
        hits = sum((candidate / name).exists() for name in sample)
        if hits > most:
            best, most = candidate, hits
    return best


def folders_around(file: Path) -> list[Path]:
    """Return where images usually lie relative to an annotation file, nearest first.

    Its folder, the folder above and all within these two; further up only folders named as
    images folders are, so that no foreign tree is searched.
    """
    parents = [*file.resolve().parents][:4]
    found: list[Path] = []
    for level, parent in enumerate(parents):
        if level < 3:
            found.append(parent)
        for child in _subfolders(parent):
            if level < 2 or child.name.lower() in _IMAGE_FOLDERS:
                found.extend((child, *_subfolders(child)))
    return list(dict.fromkeys(found))


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())[:100]
    except OSError:
        return []
