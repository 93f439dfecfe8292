"""What an encoder is given, in the pixels of its network input: placed, or refused."""

from __future__ import annotations

from collections.abc import Sequence

from ytrue.annotations import Annotations, Example
from ytrue.contract import Given
from ytrue.encoders.batches import example_words
from ytrue.resizing import check_pixels, place


def in_frame(batch: Sequence[Given], frame: tuple[int, int]) -> Sequence[Annotations]:
    """Return several examples' annotations in the frame: an `Example` is letterboxed into it.

    Args:
        batch: annotations in the pixels of the frame, or examples in their own.
        frame: (height, width) of the network input, pixels.

    Raises:
        ValueError: annotations that say that they are of another frame, or boxes that are shares of
            the image; of several examples the position in the batch is named.
    """
    return [_in_frame(one, frame, position, batch) for position, one in enumerate(batch)]


def _in_frame(
    one: Given, frame: tuple[int, int], position: int, batch: Sequence[Given]
) -> Annotations:
    if isinstance(one, Annotations) and one.image_size == frame:
        return one
    try:
        return _placed(one, frame)
    except ValueError as error:
        raise ValueError(f"{example_words(position, batch)}{error}") from None


def _placed(one: Given, frame: tuple[int, int]) -> Annotations:
    if isinstance(one, Example):
        size = (one.height, one.width)
        check_pixels(one.annotations, size)
        return place(size, frame, "letterbox").apply(one.annotations)
    if one.image_size is not None:
        height, width = one.image_size
        raise ValueError(
            f"the annotations are of an image of {height}x{width}, the network input is "
            f"{frame[0]}x{frame[1]} (height x width): ytrue.fit(annotations, encoder) places them"
        )
    check_pixels(one, frame)
    return one
