"""Image files as facts: where they are, and their size, without decoding pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
    except (
        UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
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
    if "\0" in file_name:
        return True  # no file has such a name, and the system refuses to look
    if ".." not in file_name and ":" not in file_name and file_name[:1] not in ("/", "\\"):
        return False  # nearly every name: no need to take it apart
    posix, windows = PurePosixPath(file_name), PureWindowsPath(file_name)
    rooted = posix.is_absolute() or windows.is_absolute() or bool(windows.drive)
    return rooted or ".." in posix.parts or ".." in windows.parts


class Folder:
    """An images folder, listed once for each subfolder that is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root  # as it was named: paths in messages should be, too
        self._real = os.path.realpath(root)
        self._listings: dict[str, dict[str, bool]] = {}
        self._twins: dict[str, dict[str, str]] = {}
        self._inside: dict[str, bool] = {}

    def _listing(self, subfolder: str) -> dict[str, bool]:
        """Return file name -> whether it is a link, for one subfolder."""
        if subfolder not in self._listings:
            try:
                with os.scandir(os.path.join(self.root, subfolder)) as entries:
                    names = {entry.name: entry.is_symlink() for entry in entries}
            except (OSError, ValueError):  # not there, not readable, or no possible name
                names = {}
            self._listings[subfolder] = names
        return self._listings[subfolder]

    def path(self, file_name: str) -> str:
        """Return the path that a file name stands for, existing or not."""
        return f"{self.root}{os.sep}{file_name}"

    def find(self, file_name: str) -> str | None:
        """Return the file that a name stands for: itself, a twin, "" where there is none.

        A twin is a file of the same stem with another image extension. None: the name, or a link
        behind it, leads out of the folder.
        """
        if leaves_folder(file_name):
            return None
        subfolder, name = os.path.split(file_name) if os.sep in file_name else ("", file_name)
        listing = self._listing(subfolder)
        if (subfolder or listing.get(name)) and self._escapes(subfolder, name, listing):
            return None
        if name in listing:
            return file_name
        twin = self._twin(subfolder, name) if listing else None
        return "" if twin is None else os.path.join(subfolder, twin)

    def _escapes(self, subfolder: str, name: str, listing: dict[str, bool]) -> bool:
        if subfolder not in self._inside:
            self._inside[subfolder] = self._is_inside(os.path.join(self.root, subfolder))
        if not self._inside[subfolder]:
            return True
        return listing.get(name, False) and not self._is_inside(
            os.path.join(self.root, subfolder, name)
        )

    def _is_inside(self, path: str) -> bool:
        return os.path.commonpath((self._real, os.path.realpath(path))) == self._real

    def _twin(self, subfolder: str, name: str) -> str | None:
        if subfolder not in self._twins:
            split = (os.path.splitext(other) for other in sorted(self._listing(subfolder)))
            self._twins[subfolder] = {
                base: base + extension
                for base, extension in split
                if extension.lower() in EXTENSIONS
            }
        return self._twins[subfolder].get(os.path.splitext(name)[0])


def choose_folder(candidates: Sequence[Path], file_names: Sequence[str]) -> Path | None:
    """Return the candidate that holds most of the named files, None where none does.

    The first candidate and folders named as images folders may hold any of them; another must hold
    half, so that a neighbouring project with some equal names is not taken for ours.
    """
    names = file_names[:: max(1, len(file_names) // 50)]
    sample = [name for name in names if not leaves_folder(name)]
    best, most = None, 0
    for position, candidate in enumerate(candidates):
        hits = sum(os.path.exists(os.path.join(candidate, name)) for name in sample)
        ours = position == 0 or candidate.name.lower() in _IMAGE_FOLDERS
        if hits > most and (ours or 2 * hits >= len(sample)):
            best, most = candidate, hits
        if sample and most == len(sample):
            break
    return best


def folders_around(file: Path, *, siblings: bool = True) -> list[Path]:
    """Return where images usually lie relative to an annotation file, nearest first.

    Its folder and all within; the folder above and, with `siblings`, all within that; else and
    further up only folders named as images folders are, so that no foreign tree is searched.
    """
    parents = [*file.resolve().parents][:4]
    found: list[Path] = []
    for level, parent in enumerate(parents):
        if level < 3:
            found.append(parent)
        for child in _subfolders(parent):
            near = level < (2 if siblings else 1)
            if near or child.name.lower() in _IMAGE_FOLDERS:
                found.extend((child, *_subfolders(child)))
    return list(dict.fromkeys(found))


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())[:100]
    except OSError:
        return []
