"""Where verbs write: what is there and not ours is left alone, and a name says its format.

Asked before any work is done. Pictures and pages carry a mark, so that a verb that is run again takes
the place of what it wrote; results are told by their form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from ytrue.errors import DataError
from ytrue.files import MARK, picture_format

Force = Annotated[
    bool, typer.Option("--force", help="Write over what is there, though ytrue did not make it.")
]
_ENDS: Final = 4096
"""Bytes at a file's beginning and end in which its mark stands."""


def picture(path: Path, *, force: bool) -> Path:
    """Return the path of a picture that may be written.

    Raises:
        ValueError: its extension is no picture's.
        DataError: a folder, or a file that is not ours.
    """
    picture_format(path)
    return _file(path, _marked, force=force)


def page(path: Path, *, force: bool) -> Path:
    """Return the path of an HTML page that may be written.

    Raises:
        ValueError: its extension is no page's.
        DataError: a folder, or a file that is not ours.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: no page's name; expected one in .html")
    return _file(path, _marked, force=force)


def results(path: Path, *, force: bool) -> Path:
    """Return the path of a results file that may be written.

    Raises:
        DataError: a folder, or a file that holds something else.
    """
    return _file(path, _of_results, force=force)


def folder(path: Path, ours: tuple[str, ...], *, force: bool) -> Path:
    """Return a folder that may be written into: none, an empty one, or one with one of our files.

    Raises:
        DataError: a file, or a folder that holds something else.
    """
    if path.exists() and not path.is_dir():
        raise DataError("a file, not a folder", where=path, do="name another")
    if force or not path.exists() or any((path / name).exists() for name in ours):
        return path
    if any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise DataError(
            "the folder holds something else", where=path,
            do="name a new one, or take --force to write into it",
        )  # fmt: skip
    return path


def _file(path: Path, is_ours: Callable[[Path], bool], *, force: bool) -> Path:
    if path.is_dir():
        raise DataError("a folder", where=path, do="name the file to write with -o")
    if force or not path.exists() or not path.is_file() or is_ours(path):
        return path
    raise DataError(
        "there is such a file, and ytrue did not make it", where=path,
        do="name another, or take --force to replace it",
    )  # fmt: skip


def _marked(path: Path) -> bool:
    with path.open("rb") as file:
        content = file.read(_ENDS)
        file.seek(max(0, path.stat().st_size - _ENDS))
        content += file.read()
    return MARK.encode() in content


def _of_results(path: Path) -> bool:
    """Return whether a file holds a list of detections, or none."""
    with path.open("rb") as file:
        begin = file.read(_ENDS).lstrip()
    if begin == b"[]\n":
        return True
    try:
        record, _ = json.JSONDecoder().raw_decode(begin.removeprefix(b"[").decode(errors="ignore"))
    except ValueError:  # no JSON, or a mask longer than what was read
        return begin.startswith(b'[{"image_id": ') and b'"score": ' in begin
    return begin[:1] == b"[" and isinstance(record, dict) and {"image_id", "score"} <= record.keys()
