"""Image files as facts: where they are, and their size, without decoding pixels."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ytrue.datasets.greys import eight_bit, is_deep, white_of
from ytrue.datasets.pictures import opened, orientation_of
from ytrue.datasets.plainfiles import open_plain
from ytrue.errors import DataError
from ytrue.limits import too_large

EXTENSIONS: Final = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jpe", ".jfif", ".mpo",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c",
    ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".dib", ".tga", ".icb", ".vda", ".vst",
    ".qoi", ".dds", ".sgi", ".rgb", ".rgba", ".bw", ".pcx", ".dcx", ".psd", ".ras", ".fit",
    ".fits", ".xbm", ".xpm", ".msp", ".blp", ".pcd", ".pxr", ".ftc", ".ftu", ".gbr",
    ".icns", ".ico", ".cur", ".iim", ".fli", ".flc",
)  # fmt: skip
"""What an image file may end in: all that Pillow opens, and HEIC, which it opens where pillow-heif
is registered. Of files of one stem the first in this order is preferred."""

_RANKS: Final = {extension: rank for rank, extension in enumerate(EXTENSIONS)}
_SLASH: Final = re.compile(r"[/\\]")
_DRIVE: Final = re.compile(r"^(?:[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://)")
_IMAGE_FOLDERS: Final = ("images", "image", "imgs", "img", "jpegimages", "data")
_GREYS_LOOKED_AT: Final = 8
_DARK: Final = 16  # of 255; 12 bits in 16 end here
_SWAPPING_ORIENTATIONS: Final = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Header:
    """Size of an image as it is stored, its EXIF orientation (1: as stored) and Pillow's mode."""

    height: int
    width: int
    orientation: int = 1
    mode: str = "RGB"

    @property
    def shown(self) -> tuple[int, int]:
        """(height, width) as a viewer shows it, orientation applied."""
        if self.orientation in _SWAPPING_ORIENTATIONS:
            return self.width, self.height
        return self.height, self.width

    @property
    def is_deep(self) -> bool:
        """Whether it holds grey values of more than 8 bits."""
        return is_deep(self.mode)


def read_header(path: str | Path) -> Header:
    """Return an image file's size and orientation. Its pixels are not read, however many they are.

    Raises:
        DataError: no such file, or not an image.
    """
    with open_plain(path, do="check the images folder") as file, opened(file, path) as image:
        if is_deep(image.mode):
            white_of(image)
        return Header(image.height, image.width, orientation_of(image), image.mode)


def read_headers(paths: Sequence[str | Path]) -> list[Header | DataError]:
    """Return each file's header, or what is wrong with it, read by a few threads."""

    def one(path: str | Path) -> Header | DataError:
        try:
            return read_header(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) * 2)) as pool:
        return list(pool.map(one, paths, chunksize=64))


def take_apart(file_name: str) -> tuple[list[str], bool]:
    """Return the parts of a file name, and whether it leads out of the folder it is relative to.

    Either slash divides, "." and ".." are resolved. A drive, a root or a scheme (https://) is no
    part, and leads out, as ".." beyond the first part does. "~" is a name like any other.
    """
    body = _DRIVE.sub("", file_name)
    outside = body != file_name or body[:1] in ("/", "\\")
    parts: list[str] = []
    for part in _SLASH.split(body):
        if part == "..":
            outside |= not parts
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts, outside


def doubt_about_greys(paths: Sequence[str]) -> str:
    """Return what is doubtful about images of more than 8 bits, "" if nothing is.

    Eight of them are looked at. They may be refused when their pixels are asked for, or come out
    dark, as 12 bits in 16 do: nothing in such a file says so.
    """
    brightest = 0
    sample = paths[:: -(-len(paths) // _GREYS_LOOKED_AT)]
    for path in sample:
        try:
            with open_plain(path) as file, opened(file, path) as image:
                if too_large(image.height, image.width):
                    return ""
                brightest = max(brightest, int(eight_bit(image).max(initial=0)))
        except DataError as error:
            return str(error)
    if brightest > _DARK:
        return ""
    return (
        f"the brightest of {len(sample)} looked at, such as {sample[0]}, comes out as {brightest} of "
        "255: if they hold 12 bits in 16, multiply their values by 16"
    )


def leaves_folder(file_name: str) -> bool:
    """Return whether a file name in an annotation file points out of the images folder."""
    if ".." not in file_name and ":" not in file_name and file_name[:1] not in ("/", "\\"):
        return False  # nearly every name: no need to take it apart
    return take_apart(file_name)[1]


def safe_name(file_name: str) -> str:
    """Return a file name that stays in whatever folder it is written to.

    Root, drive and ".." are left out, "/" divides, a NUL becomes "_".

    Raises:
        DataError: nothing is left.
    """
    parts, _ = take_apart(file_name.replace("\0", "_"))
    if not parts:
        raise DataError(f"{file_name!r} names no file", do="name the image in the annotations")
    return "/".join(parts)


def safe_target(folder: Path, file_name: str) -> Path:
    """Return where in a folder a file is written that annotations call `file_name`."""
    return folder / safe_name(file_name)


class Found(NamedTuple):
    """Where an image file is, or would be.

    Attributes:
        path: the file, existing or not.
        name: its name relative to the folder, "" where there is no such file.
        named: whether it is the file that is named, slashes and accents written in whatever way.
        outside: whether the name leads out of the folder.
    """

    path: str
    name: str
    named: bool
    outside: bool = False


class Folder:
    """An images folder, listed once for each subfolder that is asked for.

    Args:
        root: the folder.
        allow_outside: take files that names lead to outside of it.
    """

    def __init__(self, root: Path, *, allow_outside: bool = False) -> None:
        self.root = root  # as it was named: paths in messages should be, too
        self._allow_outside = allow_outside
        self._roots = tuple({os.path.abspath(root), os.path.realpath(root)})
        self._root_parts = take_apart(self._roots[0])[0]
        self._listings: dict[str, frozenset[str]] = {}
        self._composed: dict[str, dict[str, str]] = {}
        self._twins: dict[str, dict[str, str]] = {}

    def find(self, file_name: str) -> Found:
        """Return the file that a name stands for: itself, else a twin.

        A twin is a file of the same stem with another image extension. A name that leads out of
        the folder, such as the path on another machine, is not followed without `allow_outside`:
        its last parts, as many as possible, are looked for in the folder. So are those of a name
        whose first parts are the folder's own (images/a.jpg in images/). A user's own links are
        followed.
        """
        subfolder, _, name = file_name.rpartition("/")
        if ".." not in file_name and file_name[:1] != "/" and name in self._listing(subfolder):
            return Found(self._path(file_name), file_name, True)  # nearly every name
        parts, outside = take_apart(file_name)
        if outside and (inner := self._inner(file_name)) is not None:
            parts, outside = inner, False
        if outside and self._allow_outside and (path := self._beyond(file_name)):
            return Found(path, path, True, True)
        for first in range(len(parts) if outside else 1):
            found = self._look("/".join(parts[first:]))
            if found:
                return found._replace(named=found.named and not outside, outside=outside)
        for count in range(1, 0 if outside else len(parts)):
            if parts[:count] == self._root_parts[-count:]:
                found = self._look("/".join(parts[count:]))
                if found:
                    return found
        return Found(self._path("/".join(parts[-1:] if outside else parts)), "", False, outside)

    def _path(self, name: str) -> str:
        return f"{self.root}{os.sep}{name}"

    def _inner(self, file_name: str) -> list[str] | None:
        """Return the parts within the folder of an absolute name that leads into it."""
        path = os.path.normpath(file_name)
        for root in self._roots:
            if path.startswith(root + os.sep):
                return path[len(root) + 1 :].split(os.sep)
        return None

    def _beyond(self, file_name: str) -> str:
        """Return the file outside of the folder that a name leads to, "" where there is none."""
        for spelled in (file_name, file_name.replace("\\", "/")):
            path = os.path.normpath(os.path.join(self.root, spelled))
            if "\0" not in path and os.path.isfile(path):
                return path
        return ""

    def _look(self, name: str) -> Found | None:
        """Return a file within the folder, or its twin."""
        subfolder, _, base = name.rpartition("/")
        subfolder = self._subfolder(subfolder)
        listing = self._listing(subfolder)
        if not listing:
            return None
        there = base if base in listing else self._composed_names(subfolder).get(_composed(base))
        twin = there or self._twin(subfolder, base)
        if not twin:
            return None
        whole = f"{subfolder}/{twin}" if subfolder else twin
        return Found(self._path(whole), whole, there is not None)

    def _subfolder(self, subfolder: str) -> str:
        """Return a subfolder's name as the disk has it, accents composed or not."""
        if subfolder.isascii() or self._listing(subfolder):
            return subfolder
        real: list[str] = []
        for part in subfolder.split("/"):
            real.append(self._composed_names("/".join(real)).get(_composed(part), part))
        return "/".join(real)

    def _listing(self, subfolder: str) -> frozenset[str]:
        if subfolder not in self._listings:
            try:
                names = frozenset(os.listdir(os.path.join(self.root, subfolder)))
            except (OSError, ValueError):  # not there, not readable, or no possible name
                names = frozenset()
            self._listings[subfolder] = names
        return self._listings[subfolder]

    def _composed_names(self, subfolder: str) -> dict[str, str]:
        if subfolder not in self._composed:
            names = (name for name in self._listing(subfolder) if not name.isascii())
            self._composed[subfolder] = {_composed(name): name for name in names}
        return self._composed[subfolder]

    def _twin(self, subfolder: str, name: str) -> str | None:
        if subfolder not in self._twins:
            split = [os.path.splitext(other) for other in sorted(self._listing(subfolder))]
            pictures = [pair for pair in split if pair[1].lower() in _RANKS]
            pictures.sort(key=lambda pair: -_RANKS[pair[1].lower()])  # the likeliest last
            self._twins[subfolder] = {_composed(base): base + end for base, end in pictures}
        return self._twins[subfolder].get(_composed(os.path.splitext(name)[0]))


def _composed(name: str) -> str:
    """Return a name with accents as one character: macOS writes them as two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def choose_folder(candidates: Sequence[Path], file_names: Sequence[str]) -> Path | None:
    """Return the candidate that holds most of the named files, None where none does.

    The first candidate and folders named as images folders may hold any of them; another must hold
    half, so that a neighbouring project with some equal names is not taken for ours.
    """
    sample = [_spellings(name) for name in file_names[:: max(1, len(file_names) // 50)]]
    best, most = None, 0
    for position, candidate in enumerate(candidates):
        hits = sum(any(os.path.exists(candidate / n) for n in names) for names in sample)
        ours = position == 0 or candidate.name.lower() in _IMAGE_FOLDERS
        if hits > most and (ours or 2 * hits >= len(sample)):
            best, most = candidate, hits
        if sample and most == len(sample):
            break
    return best


def _spellings(file_name: str) -> list[str]:
    """Return what `Folder.find` looks for, the likeliest first."""
    if "\\" not in file_name and not leaves_folder(file_name):
        return [file_name]
    parts, outside = take_apart(file_name)
    return ["/".join(parts[first:]) for first in range(len(parts) if outside else 1)]


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
