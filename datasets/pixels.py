"""Pixels of an image file, as they are shown: RGB, EXIF orientation applied, ready for a frame."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.greys import eight_bit, is_deep
from ytrue.datasets.pictures import opened, orientation_of
from ytrue.datasets.plainfiles import read_plain
from ytrue.errors import DataError
from ytrue.limits import too_large
from ytrue.normalising import mean_colour
from ytrue.resizing import Placement

if TYPE_CHECKING:
    from PIL.Image import Image

    from ytrue.datasets.dataset import Id, ImageStore

Pixels = NDArray[np.uint8]

PAD: Final = mean_colour("imagenet")
"""RGB of the padding of images that are not normalised yet: ImageNet's mean, about 0 after."""

_CHECK_FOLDER: Final = "check the images folder"
_REDUCED: Final = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_image(path: str | Path, *, shrink: int = 1) -> Pixels:
    """Return the pixels of an image file.

    Args:
        path: the file; JPEG, PNG, TIFF, BMP, WebP and whatever else Pillow reads, of any mode;
            greys of more than 8 bits by the rule of `ytrue.datasets.greys`.
        shrink: 1, 2, 4 or 8: JPEGs may be decoded at that fraction of their size, which costs a
            fraction of the time; other files come in full.

    Returns:
        (height, width, 3) uint8 RGB, EXIF orientation applied.

    Raises:
        DataError: no such file, not an image, or one of more pixels than `ytrue.limits` allows.
    """
    return decode_image(read_plain(path, do=_CHECK_FOLDER), where=str(path), shrink=shrink)


def decode_image(data: bytes, *, where: str, shrink: int = 1) -> Pixels:
    """Return the pixels of an image file's bytes; see `read_image`."""
    with opened(io.BytesIO(data), where) as image:
        refusal = too_large(image.height, image.width)
        if refusal:
            raise DataError(f"the image is too large: {refusal}", where=where)
        # OpenCV decodes JPEGs faster, but makes up what is missing of one that is cut short.
        whole = image.format in ("JPEG", "MPO") and data.rstrip(b"\0")[-2:] == b"\xff\xd9"
        pixels = _decode_jpeg(data, shrink) if whole else None
        return _decode_with_pillow(image) if pixels is None else pixels


def _decode_jpeg(data: bytes, shrink: int) -> Pixels | None:
    """Return a JPEG's pixels, None where OpenCV cannot read it."""
    flag = _REDUCED.get(shrink, cv2.IMREAD_COLOR)
    try:
        decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    return (
        None if decoded is None else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    )


def _decode_with_pillow(image: Image) -> Pixels:
    orientation = orientation_of(image)
    pixels = eight_bit(image) if is_deep(image.mode) else np.array(image.convert("RGB"))
    return turned(pixels, orientation)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return stored pixels as EXIF orientation 1 to 8 shows them."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def image_reader(store: ImageStore | None, image_id: Id, path: Path) -> Callable[[int], Pixels]:
    """Return a function from reduction to pixels: of the file, or of a dataset's own bytes."""
    if store is None:
        return lambda shrink: read_image(path, shrink=shrink)
    where = f"image {image_id}"
    return lambda shrink: decode_image(store.image_bytes(image_id), where=where, shrink=shrink)


def shrink_for(scale: float) -> int:
    """Return the largest JPEG reduction that leaves at least the pixels that `scale` needs."""
    return next((factor for factor in (8, 4, 2) if scale * factor <= 1.0), 1)


def check_size(pixels: Pixels, size: tuple[int, int], *, shrink: int, where: str) -> None:
    """Hold decoded pixels against the annotated (height, width).

    Raises:
        DataError: they differ by more than a reduced decoding rounds.
    """
    shown = pixels.shape[:2]
    reduced = tuple(-(-side // shrink) for side in size)
    if shown not in (size, reduced):
        raise DataError(
            f"the image has {shown[1]}x{shown[0]} pixels, its annotations are for "
            f"{size[1]}x{size[0]} (width x height)",
            where=where,
            do="mend the size in the annotation file, or the image",
        )


def place_pixels(
    read: Callable[[int], Pixels], placement: Placement, *, pad: tuple[int, int, int], where: str
) -> Pixels:
    """Return the (height, width, 3) uint8 frame with the image in its place.

    Args:
        read: gives the pixels at a reduction of 1, 2, 4 or 8.
        placement: where the image lands.
        pad: RGB of the padding.
        where: the image's name, for messages.
    """
    return pad_to(shown_pixels(read, placement, where=where), placement.frame, pad)


def shown_pixels(read: Callable[[int], Pixels], placement: Placement, *, where: str) -> Pixels:
    """Return what the frame shows of an image, without the padding; see `place_pixels`."""
    shrink = shrink_for(max(placement.scale_y, placement.scale_x))
    pixels = read(shrink)
    check_size(pixels, placement.source, shrink=shrink, where=where)
    if placement.flip:
        pixels = flipped(pixels)
    if placement.shown == placement.size:
        return resize_pixels(pixels, placement.size)
    return crop_of_resized(pixels, placement.size, placement.first, placement.shown)


def resize_pixels(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return pixels resized to (height, width): by area when shrinking, else linearly."""
    if pixels.shape[:2] == size:
        return pixels
    shrinks = size[0] < pixels.shape[0] or size[1] < pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (size[1], size[0]), interpolation=how), np.uint8)


def flipped(pixels: Pixels) -> Pixels:
    """Return pixels mirrored left to right."""
    return np.asarray(cv2.flip(pixels, 1), np.uint8)


def crop_of_resized(
    pixels: Pixels, size: tuple[int, int], first: tuple[int, int], shown: tuple[int, int]
) -> Pixels:
    """Return what resizing to `size` and cutting out a part would give, without the rest.

    Args:
        pixels: (height, width, 3) uint8.
        size: (height, width) of the whole after resizing.
        first: (row, column) of the part's corner in it.
        shown: (height, width) of the part.
    """
    scale_y, scale_x = size[0] / pixels.shape[0], size[1] / pixels.shape[1]
    if min(scale_y, scale_x) < 0.5:  # averaging needs whole source pixels: cut afterwards
        whole = resize_pixels(pixels, size)
        return whole[first[0] : first[0] + shown[0], first[1] : first[1] + shown[1]]
    # A pixel's centre lies at its index plus a half, on both sides of the map.
    matrix = np.array(
        [
            [scale_x, 0, 0.5 * scale_x - 0.5 - first[1]],
            [0, scale_y, 0.5 * scale_y - 0.5 - first[0]],
        ]
    )
    return np.asarray(
        cv2.warpAffine(
            pixels, matrix, (shown[1], shown[0]), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )  # fmt: skip


def pad_to(pixels: Pixels, frame: tuple[int, int], pad: tuple[int, int, int]) -> Pixels:
    """Return the pixels in the upper left of a frame, the rest in one colour."""
    below, right = frame[0] - pixels.shape[0], frame[1] - pixels.shape[1]
    if below == 0 and right == 0:
        return np.ascontiguousarray(pixels)
    bordered = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=pad)
    return np.asarray(bordered, np.uint8)
