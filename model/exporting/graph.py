"""The graph that is exported: pixels in, boxes and scores out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ytrue.normalising import NORMALISATIONS, normalisation_of


class Prediction(tf.Module):
    """A folded detector with its normalisation before it and its decoder behind.

    Args:
        model: a folded, float32 `EfficientDet`.
        anchors: (A, 4) `(y_min, x_min, y_max, x_max)` pixels.
        coder: {"kind", "std", "largest_log"}, as `export.json` holds it.
        image_size: (height, width) of the images, pixels.
    """

    def __init__(
        self,
        model: Any,
        anchors: NDArray[Any],
        coder: dict[str, Any],
        image_size: tuple[int, int],
    ) -> None:
        super().__init__(name="prediction")
        # A SavedModel keeps what is tracked here: the variables, and no object of Keras.
        self.weights = [weight.value for weight in model.weights]
        self._forward = partial(model, training=False)
        self._lite = model.backbone.lite
        self._size = image_size
        low, high = np.split(anchors.astype(np.float64), 2, axis=-1)
        self._side, self._centre = high - low, (low + high) / 2  # (A, 2)
        self._anchors = anchors.astype(np.float32)
        self._coder = dict(coder)

    def function(self, batch: int | None) -> Any:
        """Return the concrete function for `batch` images; None: for any number.

        It takes images (batch, height, width, 3) uint8 RGB and returns {"boxes": (batch, A, 4)
        pixels of the image, "scores": (batch, A, C)}, float32.
        """
        spec = tf.TensorSpec((batch, *self._size, 3), tf.uint8, name="images")
        return tf.function(self._predict, autograph=False).get_concrete_function(spec)

    def _predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = self._forward(self._normalised(images))
        return {
            "boxes": self._decoded(outputs["box"]),
            "scores": tf.sigmoid(outputs["class"]),
        }

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

    def _decoded(self, offsets: tf.Tensor) -> tf.Tensor:
        """Return (B, A, 4) boxes; the law is `BoxCoder.decode`'s, in float32."""
        std, side = np.array(self._coder["std"]), self._side
        if self._coder["kind"] == "corner":
            return offsets * np.float32(np.tile(side, 2) * std) + self._anchors
        centre = offsets[..., :2] * np.float32(side * std[:2]) + np.float32(self._centre)
        logs = offsets[..., 2:]
        if np.any(std[2:] != 1):
            logs *= np.float32(std[2:])
        logs = tf.minimum(logs, np.float32(self._coder["largest_log"]))
        half = tf.exp(logs) * np.float32(side / 2)  # (B, A, 2)
        return tf.concat((centre - half, centre + half), axis=-1)
