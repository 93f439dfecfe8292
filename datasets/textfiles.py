"""Annotation files as text: encodings, and errors that name the file and the place."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Final

from ytrue.errors import DataError

BETWEEN: Final = re.compile(rb"\}\s*,\s*(?=\{)")
"""Where one JSON object of a list may end and the next begin."""

_FOREIGN = {
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_bytes(path: Path, *, may_be_empty: bool = False) -> bytes:
    """Return a file's bytes as UTF-8 without a byte order mark.

    Raises:
        DataError: the file is missing, a folder, empty, or in UTF-16.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror})", where=path, do="check the path"
        ) from None
    if may_be_empty and not data.strip():
        return b""
    return check_start(data, path)


def check_start(data: bytes, path: Path) -> bytes:
    """Return the beginning of a file without its byte order mark, if it can be text at all."""
    if not data.strip():
        raise DataError("the file is empty", where=path, do="export the annotations again")
    for mark, name in _FOREIGN.items():
        if data.startswith(mark):
            raise DataError(f"the file is {name}", where=path, do="save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def read_text(path: Path, *, may_be_empty: bool = False) -> str:
    """Return a file's text.

    Raises:
        DataError: as `read_bytes`, or bytes that are not UTF-8 (Latin-1, most likely).
    """
    data = read_bytes(path, may_be_empty=may_be_empty)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8, the file may be Latin-1",
            where=path,
            do="save it as UTF-8",
        ) from None
