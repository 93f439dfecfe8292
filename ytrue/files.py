"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from ytrue.errors import DataError

MARK: Final = "made by ytrue"
"""Stands in every picture and page, so that a later one may take its place."""

PICTURES: Final = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg", ".pdf": "pdf"}
"""Extension of a picture -> its format."""


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write` with a file beside `path`, then put it in the place of `path`, all or nothing.

    Folders above it are made; a link is followed; a device or a pipe is written to as it is.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    in_place = path.exists() and not path.is_file()
    beside = path if in_place else path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            write(file)
            if not in_place:
                file.flush()
                os.fsync(file.fileno())
        if not in_place:
            beside.replace(path)
    except BaseException as error:
        if not in_place:
            beside.unlink(missing_ok=True)
        raise _named(error, beside, path) from None


def _named(error: BaseException, beside: Path, path: Path) -> BaseException:
    """Return the error of the system with the name of the file that was to be written."""
    if isinstance(error, OSError) and error.errno and error.filename in (None, str(beside)):
        return OSError(error.errno, error.strerror, str(path))
    return error


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder; at the end what is in it is moved into `folder`, after an error nothing.

    Where `folder` does not exist it appears whole. Else files of equal names are replaced and others
    stay; those at the top, which speak of the rest, come last.
    """
    folder = Path(os.path.realpath(folder))
    there = folder.is_dir()
    above = folder if there else folder.parent
    above.mkdir(parents=True, exist_ok=True)
    beside = above / f".{secrets.token_hex(4)}.part"
    beside.mkdir()
    try:
        yield beside
        if there:
            _move_into(beside, folder)
        else:
            beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _move_into(stage: Path, folder: Path) -> None:
    files = [path.relative_to(stage) for path in sorted(stage.rglob("*")) if not path.is_dir()]
    for name in sorted(files, key=lambda name: len(name.parts) == 1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)
    for path in stage.rglob("*"):  # folders without files
        if path.is_dir():
            (folder / path.relative_to(stage)).mkdir(parents=True, exist_ok=True)


def picture_format(path: Path) -> str:
    """Return the format that a picture's extension stands for.

    Raises:
        ValueError: for none that can be written.
    """
    kind = PICTURES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: no picture's name; expected one in {', '.join(PICTURES)}")
    return kind


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder, which is there: two processes that write in it would mix their files.

    Args:
        folder: gets a file `.lock`. A process that is killed holds it no longer.
        doing: what another process, which holds it, is told to be doing: "writing records".

    Raises:
        DataError: another process holds it.
    """
    import fcntl

    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another process is {doing} here", where=folder,
                do="wait for it, or name another folder",
            ) from None  # fmt: skip
        yield
