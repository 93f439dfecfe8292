"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ytrue.errors import DataError


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write` with a file beside `path`, then put it in the place of `path`, all or nothing."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


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
