"""What TensorBoard reads, written without it: TensorFlow no longer brings that package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class Events:
    """Writes numbers and pictures of a run to a folder for `tensorboard --logdir`."""

    def __init__(self, folder: str | Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write one number for each name."""
        self._write([_value(tag=name, simple_value=float(v)) for name, v in values.items()], step)

    def pictures(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Write one picture (H, W, 3) uint8 for each name."""
        self._write([_value(tag=name, image=_png(image)) for name, image in images.items()], step)

    def _write(self, values: list[tf.compat.v1.Summary.Value], step: int) -> None:
        content = tf.compat.v1.Summary(value=values).SerializeToString()
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(content, step=step)
        self._writer.flush()


def _value(**fields: object) -> tf.compat.v1.Summary.Value:
    return tf.compat.v1.Summary.Value(**fields)


def _png(image: NDArray[np.uint8]) -> tf.compat.v1.Summary.Image:
    height, width = image.shape[:2]
    return tf.compat.v1.Summary.Image(
        height=height, width=width, colorspace=3,
        encoded_image_string=tf.io.encode_png(image).numpy(),
    )  # fmt: skip
