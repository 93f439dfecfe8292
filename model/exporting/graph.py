"""The graph that is exported: pixels in, decoded outputs out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ytrue.normalising import NORMALISATIONS, normalisation_of

Decode = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]
"""From the network's outputs to the exported ones."""


class Prediction(tf.Module):
    """A folded detector with its normalisation before it and its decoder behind.

    Args:
        model: a folded, float32 `EfficientDet` or `PyramidNet`.
        decode: of its outputs.
        image_size: (height, width) of the images, pixels.
    """

    def __init__(self, model: Any, decode: Decode, image_size: tuple[int, int]) -> None:
        super().__init__(name="prediction")
        # A call: a SavedModel would keep the model itself.
        self._forward = partial(model, training=False)
        self._lite = model.backbone.lite
        self._size = image_size
        self._decode = decode

    def function(self, batch: int | None) -> Any:
        """Return the concrete function for `batch` images; None: for any number.

        It takes images (batch, height, width, 3) uint8 RGB and returns the decoded outputs,
        float32 arrays by name.
        """
        spec = tf.TensorSpec((batch, *self._size, 3), tf.uint8, name="images")
        function = tf.function(self._predict, autograph=False).get_concrete_function(spec)
        read = {id(handle) for handle in function.captured_inputs}
        # A SavedModel keeps what is tracked here: the weights that are no constants of the graph.
        self.weights = [one for one in function.variables if id(one.handle) in read]
        return function

    def _predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._decode(self._forward(self._normalised(images)))

    def _normalised(self, images: tf.Tensor) -> tf.Tensor:
        """Return the same as `model.images.normalised`, a row at a time.

        A constant of three numbers is applied three numbers at a time on devices; of a row, at once.
        """
        batch = -1 if images.shape[0] is None else images.shape[0]
        height, width = self._size
        name = normalisation_of(self._lite)
        mean, std = (
            np.tile(np.array(values, np.float32), width) for values in NORMALISATIONS[name]
        )
        rows = tf.cast(tf.reshape(images, (batch, height, width * 3)), tf.float32)
        return tf.reshape((rows - mean) / std, (batch, height, width, 3))
