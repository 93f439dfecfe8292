"""Files are opened here: regular ones only, so that a pipe or a device never hangs a reader."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ytrue.errors import DataError


def open_plain(path: str | Path, *, do: str = "check the path") -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: the file; a link to one will do.
        do: what an error advises.

    Raises:
        DataError: no such file, no permission, a name that no file can have, or something else
            than a file: a folder, a pipe, a device.
    """
    try:
        # Opening a pipe that nobody writes to would wait for ever without O_NONBLOCK.
        number = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, do=do) from None
    except ValueError:  # a NUL, or a character that the file system's encoding lacks
        raise DataError("no file can have this name", where=repr(str(path)), do=do) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        what = "a folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "a pipe, socket or device"
        os.close(number)
        raise DataError(f"{what}, expected a file", where=path, do=do)
    return os.fdopen(number, "rb")


def read_plain(path: str | Path, *, do: str = "check the path") -> bytes:
    """Return the bytes of a regular file.

    Raises:
        DataError: as `open_plain`, or the system cannot read it.
    """
    with open_plain(path, do=do) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=path, do=do) from None
        except MemoryError:
            raise DataError("larger than the memory", where=path, do=do) from None
