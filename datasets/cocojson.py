"""The JSON of a COCO file, block by block: its annotations apart from everything else in it.

Time is linear in the file's bytes whatever stands in it. Where an annotation ends is guessed from
what writers write, twice a block at most, and a guess is right exactly when what it cuts off
decodes. Where it is not, Python's own scanner finds the end of each annotation in turn. That one
also reads what Python's json writes though JSON has no such thing: NaN and Infinity.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from ytrue.datasets.textfiles import BETWEEN, check_start, read_text
from ytrue.errors import DataError

BLOCK: Final = 2**20
BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for what is no JSON."""

_START: Final = re.compile(rb'"annotations"\s*:\s*\[')
_FIRST_KEY: Final = re.compile(rb'\s*\{\s*("(?:[^"\\]|\\.)*")\s*:')
_END: Final = re.compile(rb"\}\s*\]")
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}\[\]:,]', re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|u([dD][89a-fA-F]\w\w)|.)", re.DOTALL
)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class Sink(Protocol):
    """Where annotations go."""

    halves: bool
    """Whether there are halves of characters in texts."""

    def take(self, block: bytes) -> bool:
        """Append a JSON list of annotations; return False, having done nothing, if it is none."""
        ...

    def take_record(self, record: Any) -> None:
        """Append one annotation."""
        ...


def _whole_number(text: str) -> int | float:
    # Python refuses to read more than 4,300 digits; nothing here needs more than 400.
    return int(text) if len(text) <= 400 else float(text)


_decoder: Final = json.JSONDecoder(parse_int=_whole_number)


def read_annotations(path: Path, sink: Sink) -> dict[str, Any]:
    """Feed every annotation of a file to a sink and return the rest of the file.

    Raises:
        DataError: not JSON, not UTF-8, no object with one list of annotations at its top.
    """
    with path.open("rb") as file:
        before, buffer = _until_annotations(file, path, sink)
        after = _feed(file, buffer, sink)
    behind = None if after is None else _object(b'{"annotations":[]' + after, sink)
    if behind is None:
        raise broken(path)
    if behind["annotations"] != []:
        raise DataError("annotations are listed twice", where=path, do="export it again")
    return {**before, **behind}


def _object(data: bytes, sink: Sink) -> dict[str, Any] | None:
    """Return a JSON object, with NaN and the like; None where it is none."""
    try:
        found = msgspec.json.decode(data)
    except BROKEN:
        try:
            found = _decoder.decode(_whole_characters(data.decode("utf-8"), sink))
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _whole_characters(text: str, sink: Sink) -> str:
    """Return JSON in which what is half a character, such as u-d800, is U+FFFD.

    A lone half of a pair of surrogates can be written into no file and onto no terminal.
    """
    if not _SURROGATE.search(text):
        return text

    def whole(escape: re.Match[str]) -> str:
        if not escape[1]:
            return escape[0]
        sink.halves = True
        return "\\ufffd"

    return _ESCAPE.sub(whole, text)


def _until_annotations(file: BinaryIO, path: Path, sink: Sink) -> tuple[dict[str, Any], bytes]:
    """Return the fields before the annotations, and the beginning of the annotations' text.

    A list of that name inside another record is not theirs: what stands before it, closed, is no
    whole object. If the first two that are found are not theirs, the object's keys are looked at
    one by one.
    """
    head = check_start(file.read(BLOCK), path)
    tried = searched = 0
    while True:
        for match in _START.finditer(head, searched):
            before = _object(head[: match.start()] + b'"annotations":[]}', sink)
            if before is not None:
                return before, head[match.end() :]
            tried += 1
            searched = match.end()
            if tried == 2:
                return _by_keys(head + file.read(), path, sink)
        more = file.read(max(BLOCK, len(head)))
        if not more:
            raise _without_annotations(head, path)
        searched = max(searched, len(head) - 64)
        head += more


def _by_keys(data: bytes, path: Path, sink: Sink) -> tuple[dict[str, Any], bytes]:
    for key, end in top_keys([data]):
        start = _START.match(data, end - len(b'"annotations"')) if key == "annotations" else None
        if start:
            before = _object(data[: start.start()] + b'"annotations":[]}', sink)
            if before is None:
                raise broken(path)
            return before, data[start.end() :]
    raise _without_annotations(data, path)


def _feed(file: BinaryIO, buffer: bytes, sink: Sink) -> bytes | None:
    """Take annotation after annotation; return what follows them, None where they never end."""
    empty = re.match(rb"\s*\]", buffer)
    if empty:
        return buffer[empty.end() :] + file.read()
    ended = False
    while True:
        taken, done = _guess(buffer, sink)
        if not taken:
            taken, done = _scan(buffer, sink, ended)
        buffer = buffer[taken:]
        if done:
            return buffer + file.read()
        if taken and len(buffer) > BLOCK:
            continue
        if ended and not taken:
            return None
        # An annotation that is longer than what was read is met again with twice as much.
        more = file.read(BLOCK if taken else max(BLOCK, len(buffer)))
        ended = not more
        buffer += more


def _guess(buffer: bytes, sink: Sink) -> tuple[int, bool]:
    """Take the whole annotations that the buffer begins with, as far as a guess tells them.

    Returns how many bytes were taken, 0 where the guesses were wrong, and whether the list ended.
    """
    end = _END.search(buffer)
    if end and sink.take(b"[" + buffer[: end.start() + 1] + b"]"):
        return end.end(), True
    last = None
    for match in _between(buffer).finditer(buffer, max(0, len(buffer) - 2**16)):
        last = match
    if last and sink.take(b"[" + buffer[: last.start() + 1] + b"]"):
        return last.end(), False
    return 0, False


def _between(buffer: bytes) -> re.Pattern[bytes]:
    """Return what stands between two annotations: most writers begin each with the same key."""
    first = _FIRST_KEY.match(buffer)
    if first is None:
        return BETWEEN
    return re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(first[1]) + rb"\s*:)")


def _scan(buffer: bytes, sink: Sink, ended: bool) -> tuple[int, bool]:
    """Take the whole annotations that the buffer begins with, one by one; as `_guess` returns."""
    try:
        text, _ = codecs.utf_8_decode(buffer, "strict", ended)
    except UnicodeDecodeError:
        return 0, False
    text = _whole_characters(text, sink)  # as many bytes as before
    taken = place = 0
    while True:
        try:
            record, end = _decoder.raw_decode(text, _space(text, place))
        except (ValueError, RecursionError):
            break
        place = _space(text, end)
        if text[place : place + 1] not in (",", "]"):
            break
        sink.take_record(record)
        place += 1
        taken = place
        if text[place - 1] == "]":
            return len(text[:taken].encode()), True
    return len(text[:taken].encode()), False


def _space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def top_keys(blocks: Iterator[bytes] | list[bytes]) -> Iterator[tuple[str, int]]:
    """Yield the keys of the object that a JSON text is, and where each ends in it, as met.

    Nothing is decoded and nothing checked; a text that is no object has no keys.
    """
    rest, offset, depth, key_due = b"", 0, 0, False
    for block in blocks:
        rest += block
        cut = len(rest)
        for token in _TOKEN.finditer(rest):
            what = token[0]
            if depth == 0 and what != b"{":
                return
            if token[1] == b"":  # a string that has not ended yet goes on in the next block
                cut = token.start()
                break
            if token[1]:
                if depth == 1 and key_due:
                    yield what[1:-1].decode("utf-8", "replace"), offset + token.end()
                key_due = False
            elif what in b"{[":
                depth, key_due = depth + 1, what == b"{"
            elif what in b"}]":
                depth, key_due = depth - 1, False
                if depth == 0:
                    return
            else:
                key_due = what == b","
        rest, offset = rest[cut:], offset + cut


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes, each block as long as all before it: an open string is met twice."""
    size = 2**16
    while block := file.read(size):
        yield block
        size *= 2


# What is wrong with a file.


def broken(path: Path) -> DataError:
    """Return what is wrong with a file that does not decode."""
    try:
        _decoder.decode(read_text(path))
    except DataError as error:
        return error
    except json.JSONDecodeError as error:
        cut_short = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        said = f"not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})"
        what = "the JSON is cut short" if cut_short else said
        do = "copy or export the file again, and save it as UTF-8"
        return DataError(what, where=path, do=do)
    except RecursionError:
        return DataError("records are nested too deeply", where=path, do="export it again")
    return DataError("the annotations cannot be told apart", where=path, do="export it again")


def _without_annotations(data: bytes, path: Path) -> DataError:
    """Return what is wrong with a file in which no annotations begin."""
    try:
        rest = _decoder.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return broken(path)
    if isinstance(rest, list):
        results = bool(rest) and isinstance(rest[0], dict) and "score" in rest[0]
        what = "a list of detection results" if results else "a list"
        do = "name the annotation file it was made for" if results else "expected an object"
        return DataError(f"the file holds {what}, not a COCO dataset", where=path, do=do)
    keys = ", ".join(list(rest)[:8]) if isinstance(rest, dict) else type(rest).__name__
    return DataError(
        f"no list of annotations at the top of the file (it has: {keys})",
        where=path,
        do='expected {"images": [...], "annotations": [...], "categories": [...]}',
    )
