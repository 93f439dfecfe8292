"""Annotation files as text: encodings, and errors that name the file and the place."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from ytrue.datasets.plainfiles import read_plain
from ytrue.errors import DataError

BETWEEN: Final = re.compile(rb"\}\s*,\s*(?=\{)")
"""Where one JSON object of a list may end and the next begin."""

_WIDE: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_bytes(path: Path, *, may_be_empty: bool = False, as_stored: bool = False) -> bytes:
    """Return a file's bytes as UTF-8 without a byte order mark; UTF-16 that has one is converted.

    Args:
        path: the file.
        may_be_empty: return nothing for a file of nothing but white space.
        as_stored: leave UTF-16 as it is, to a parser that knows encodings.

    Raises:
        DataError: the file is missing, no regular file, empty, or damaged UTF-16.
    """
    data = read_plain(path)
    encoding = next((name for mark, name in _WIDE.items() if data.startswith(mark)), None)
    if encoding and as_stored:
        return data
    if encoding:
        data = _narrowed(data[2:], encoding, path)
    if may_be_empty and not data.strip():
        return b""
    return check_start(data, path)


def _narrowed(data: bytes, encoding: str, path: Path) -> bytes:
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        raise DataError(
            f"the file is damaged UTF-16 ({error})", where=path, do="save it as UTF-8"
        ) from None


def check_start(data: bytes, path: Path) -> bytes:
    """Return the beginning of a file without its byte order mark, if it can be text at all."""
    if not data.strip():
        raise DataError("the file is empty", where=path, do="export the annotations again")
    if data.startswith(tuple(_WIDE)):
        raise DataError("the file is UTF-16", where=path, do="save it as UTF-8")
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


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; NaN and Infinity, which Python writes, are read.

    Raises:
        DataError: as `read_bytes`, or it is no JSON.
    """
    data = read_bytes(path)
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise DataError("records are nested too deeply", where=path, do="export it again") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = str(error)
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        cut = "the JSON is cut short" if "truncated" in fault else f"not valid JSON ({fault})"
        raise DataError(cut, where=path, do="export it again, as UTF-8") from None
