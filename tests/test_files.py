"""Files that are replaced as a whole."""

import pytest

from ytrue.files import replace_file


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    file = tmp_path / "run.json"
    seen = []

    def write(text):
        def half_by_half(out):
            for half in (text[:3], text[3:]):
                out.write(half)
                out.flush()
                seen.append(file.read_bytes() if file.exists() else None)

        return half_by_half

    replace_file(file, write(b"older"))
    replace_file(file, write(b"newer"))
    assert seen == [None, None, b"older", b"older"]
    assert file.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [file]


def test_where_writing_fails_the_old_file_stays(tmp_path):
    file = tmp_path / "run.json"
    file.write_bytes(b"old")

    def write(out):
        out.write(b"much longer than what a retry writes")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replace_file(file, write)
    assert file.read_bytes() == b"old"
    replace_file(file, lambda out: out.write(b"new"))
    assert file.read_bytes() == b"new"
