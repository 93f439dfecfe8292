"""Image files are opened here: what Pillow may open, how large, and what it raises on damage."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from ytrue.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION: Final = 0x0112
_NO_PICTURES: Final = ("EPS", "WMF", "MPEG", "GRIB", "BUFR", "HDF5")
"""What Pillow opens by running another program, or cannot decode at all."""

_DAMAGE: Final = (
    OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError,
    EOFError, RuntimeError, AssertionError, MemoryError, Warning, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files, collected by changing bytes of every format."""


@contextmanager
def opened(file: BinaryIO, where: object) -> Iterator[Image]:
    """Open an image; nothing but its header is read before its pixels are asked for.

    Pillow's own limit of pixels is lifted meanwhile: `ytrue.limits` holds the one limit.

    Raises:
        DataError: whatever Pillow raises, here or while the image is in use.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _no_limit, Image.open(file) as image:
            if image.format in _NO_PICTURES:
                raise _unreadable(where, f"{image.format} is not read")
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise _unreadable(where, "its bytes are of no format that Pillow knows here") from None
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise _unreadable(where, str(error).strip() or type(error).__name__) from None


def orientation_of(image: Image) -> int:
    """Return the EXIF orientation from 1 (as stored) to 8; 1 where it cannot be read."""
    try:
        found = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except _DAMAGE:  # the pixels are as good without it, and viewers show them so
        return 1
    return found if 1 <= found <= 8 else 1


def _unreadable(where: object, why: str) -> DataError:
    return DataError(f"not a readable image ({why})", where=where, do="replace or remove the file")


class _NoLimit:
    """Sets Pillow's limit aside while any thread is inside, and puts it back after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._kept: int | None = None

    def __enter__(self) -> None:
        from PIL import Image

        with self._lock:
            if self._inside == 0:
                self._kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        from PIL import Image

        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._kept


_no_limit: Final = _NoLimit()
