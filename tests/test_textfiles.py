"""Text is read in one place: encodings, and what is no file at all."""

import os

import pytest

from ytrue import DataError
from ytrue.datasets.textfiles import read_bytes, read_text

TEXT = '{"name": "Käse 日本"}'
ENCODED = [("utf-8", b""), ("utf-8-sig", b""), ("utf-16", b""), ("utf-16-be", b"\xfe\xff")]


@pytest.mark.parametrize(("encoding", "mark"), ENCODED)
def test_every_marked_encoding_reads_alike(encoding, mark, tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(mark + TEXT.encode(encoding))
    assert read_text(file) == TEXT
    assert read_bytes(file) == TEXT.encode()


def test_a_parser_that_knows_encodings_gets_what_is_stored(tmp_path):
    stored = TEXT.encode("utf-16")
    (tmp_path / "a.xml").write_bytes(stored)
    assert read_bytes(tmp_path / "a.xml", as_stored=True) == stored


BAD = [
    (b"", "the file is empty"),
    (b" \r\n", "the file is empty"),
    (b"\xff\xfe", "the file is empty"),
    (b"\xff\xfea", "damaged UTF-16"),
    (b"\xff\xfe\x00\xd8", "damaged UTF-16"),
    ("Käse".encode("latin-1"), r"byte 1 \(0xe4\) is not UTF-8, the file may be Latin-1"),
]


@pytest.mark.parametrize(("data", "said"), BAD)
def test_what_is_no_text_is_named(data, said, tmp_path):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.json: .*{said}"):
        read_text(tmp_path / "a.json")


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "a pipe, socket"), ("", "a folder"), ("gone", "cannot be read")):
        with pytest.raises(DataError, match=said):
            read_text(tmp_path / name)
    assert read_text(_empty(tmp_path), may_be_empty=True) == ""


def _empty(folder):
    (folder / "a.txt").write_bytes(b"\n")
    return folder / "a.txt"
