"""`FineFeatures`: the pyramid's finest features, magnified to a finer stride."""

from __future__ import annotations

from typing import Any, Final

import keras
import tensorflow as tf

from ytrue.model.layers import ConvNorm, Shape

FINEST_STRIDE: Final = 8
"""Of the pyramid's finest features."""
STRIDES: Final = (8, 4, 2)
"""What they can be magnified to."""


class FineFeatures(keras.layers.Layer):
    """Convolutions, then for each halving of the stride a bilinear magnification and another one.

    Args:
        stride: of the result, pixels: 8, 4 or 2.
        repeats: convolutions before the first magnification.
        activation: "swish" or "relu6".
        folded: without batch norms; see `ytrue.model.folding`.

    Call:
        the finest features (B, h, w, channels), of stride 8; returns (B, h * 8 / stride,
        w * 8 / stride, channels).

    Raises:
        ValueError: no such stride.
    """

    def __init__(
        self,
        stride: int,
        repeats: int,
        *,
        activation: str = "swish",
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if stride not in STRIDES:
            raise ValueError(f"stride={stride}: expected one of {', '.join(map(str, STRIDES))}")
        self.repeats = repeats
        self.doublings = (FINEST_STRIDE // stride).bit_length() - 1
        self._common: dict[str, Any] = {"activation": activation, "folded": folded}

    def build(self, input_shape: Shape) -> None:
        """Create the convolutions' weights."""
        channels: Any = input_shape[-1]
        self.convs = [
            ConvNorm(
                channels, 3, kind="separable", name=f"conv_{i}", use_bias=True,
                kernel_initializer=keras.initializers.VarianceScaling(), dtype=self.dtype_policy,
                **self._common,
            )
            for i in range(self.repeats + self.doublings)
        ]  # fmt: skip
        for conv in self.convs:
            conv.build((None, None, None, channels))

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the features at the finer stride."""
        for i, conv in enumerate(self.convs):
            if i >= self.repeats:
                x = tf.cast(tf.image.resize(x, 2 * tf.shape(x)[1:3], "bilinear"), x.dtype)
            x = conv(x, training=training)
        return x


def check_fine(stride: int, image_size: tuple[int, int]) -> None:
    """Raise ValueError if magnified features cannot have the cells of an encoder's targets."""
    if stride not in STRIDES:
        raise ValueError(
            f"the encoder's targets have a stride of {stride}, the network's finest features can have "
            f"{', '.join(map(str, STRIDES))}"
        )
    if any(side % FINEST_STRIDE for side in image_size):
        height, width = image_size
        raise ValueError(
            f"the image size is {height}x{width}: features of a stride finer than the pyramid's "
            f"need sides that are multiples of {FINEST_STRIDE}"
        )
