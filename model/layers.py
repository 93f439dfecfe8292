"""Layers that both networks are made of: convolution, batch norm and activation in one.

Images and features are (B, height, width, channels) throughout.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, Final, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Kind = Literal["full", "depthwise", "separable"]
Shape = tuple[int | None, ...]

# Of every batch norm of the official models: tf.keras' names, as 1 - the paper's momenta.
NORM_MOMENTUM: Final = 0.99
NORM_EPSILON: Final = 1e-3

# Row N2: normal with variance 2 / fan_out (of a depthwise kernel: its area), no truncation;
# dense kernels uniform in +-1 / sqrt(fan_out). google/automl backbone/efficientnet_model.py.
CONV_INITIALIZER: Final = {
    "scale": 2.0,
    "mode": "fan_out",
    "distribution": "untruncated_normal",
}
DENSE_INITIALIZER: Final = {"scale": 1.0 / 3.0, "mode": "fan_out", "distribution": "uniform"}


def conv_initializer() -> keras.initializers.Initializer:
    """Return EfficientNet's initialiser of convolutions."""
    return keras.initializers.VarianceScaling(**CONV_INITIALIZER)


def dense_initializer() -> keras.initializers.Initializer:
    """Return EfficientNet's initialiser of dense kernels."""
    return keras.initializers.VarianceScaling(**DENSE_INITIALIZER)


def built(layer: Any, input_shape: Shape) -> Shape:
    """Create a layer's weights and return the shape of what it makes of such an input."""
    layer.build(input_shape)
    shape: Shape = layer.compute_output_shape(input_shape)
    return shape


def activate(x: tf.Tensor, name: str | None, training: bool | None = None) -> tf.Tensor:
    """Apply "swish", "relu6" or None.

    In training swish is TensorFlow's own, whose gradient keeps the input only; in prediction it is
    spelt out, so that TensorFlow can take convolution, bias and swish as one step (oneDNN, on x86).
    """
    if name is None:
        return x
    if name == "relu6":
        return tf.nn.relu6(x)
    return tf.nn.silu(x) if training else x * tf.sigmoid(x)


class BatchNorm(keras.layers.Layer):
    """Batch normalisation over all axes but the last, by TensorFlow's fused kernel.

    Keras 3 composes it of elementwise steps; the fused kernel is several times faster on CPU and
    keeps float32 statistics under mixed precision. Frozen (`trainable = False`) it uses the moving
    statistics, in training too. The moving variance takes the batch's unbiased one, as the
    official models' did.
    """

    def __init__(
        self, momentum: float = NORM_MOMENTUM, epsilon: float = NORM_EPSILON, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        """Create gamma, beta and the moving statistics (channels,), always float32."""

        def add(name: str, initializer: str, **kwargs: Any) -> Any:
            return self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                dtype="float32",
                initializer=initializer,
                autocast=False,
                **kwargs,
            )

        # Replicas see different batches; all keep the mean of what they saw.
        moving = {"trainable": False, "aggregation": "mean"}
        self.gamma = add("gamma", "ones")
        self.beta = add("beta", "zeros")
        self.moving_mean = add("moving_mean", "zeros", **moving)
        self.moving_variance = add("moving_variance", "ones", **moving)

    def call(
        self, x: tf.Tensor, bias: tf.Tensor | None = None, training: bool | None = None
    ) -> tf.Tensor:
        """Return x + bias normalised, of x's shape and dtype; bias: (channels,)."""
        learning = bool(training) and self.trainable
        offset = self.beta
        if bias is not None and learning:
            x = tf.nn.bias_add(x, tf.cast(bias, x.dtype))
        elif bias is not None:
            # A step less for every value; the kernel has no gradient by the moving mean.
            scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
            offset = tf.cast(bias, tf.float32) * scale + self.beta
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=self.gamma,
            offset=offset,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            # In training the kernel moves the statistics, too.
            exponential_avg_factor=1.0 - self.momentum if learning else 1.0,
            is_training=learning,
        )
        if learning:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return y

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape

    def scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (scale, shift), (channels,) float64: in inference this layer is x * scale + shift."""
        gamma, beta, mean, variance = (
            weight.numpy().astype(np.float64)
            for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale, beta - mean * scale


class ConvNorm(keras.layers.Layer):
    """A convolution with "same" padding, then batch norm, then activation.

    Args:
        filters: output channels; None for a depthwise convolution.
        kernel_size: side of the square kernel.
        kind: "full"; "depthwise"; "separable": depthwise, then 1x1.
        strides: in both directions.
        use_bias: add a bias before the norm, as the official pyramid and heads do.
        norms: how many batch norms share the convolution, one for each level (row D6); 0: none.
        activation: "swish", "relu6" or None.
        folded: the norms are folded into kernels and biases, one of each for each level:
            for prediction only. See `ytrue.model.folding`.
        kernel_initializer, bias_initializer: of every kernel, of the bias.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: int,
        *,
        kind: Kind = "full",
        strides: int = 1,
        use_bias: bool = False,
        norms: int = 1,
        activation: str | None = None,
        folded: bool = False,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.kind = kind
        self.strides = strides
        self.activation = activation
        self.folded = folded and norms > 0
        self.use_bias = use_bias or self.folded
        # What is folded in differs from level to level, so the kernels do.
        self.copies = norms if self.folded else 1
        self.kernel_initializer = kernel_initializer or conv_initializer()
        self.bias_initializer = bias_initializer
        self.norms = [
            BatchNorm(name=f"norm_{level}" if norms > 1 else "norm", dtype=self.dtype_policy)
            for level in range(0 if self.folded else norms)
        ]

    def build(self, input_shape: Shape) -> None:
        """Create the kernels (k, k, in, 1) and (k or 1, k or 1, in, filters), biases, norms."""
        channels, side = input_shape[-1], self.kernel_size
        deep, full = (side, side, channels, 1), (side, side, channels, self.filters)
        self.depthwise_kernels: list[Any] = []
        self.kernels: list[Any] = []
        self.biases: list[Any] = []
        if self.kind == "depthwise":
            self._add(self.depthwise_kernels, "depthwise_kernel", deep, self.copies)
        elif self.kind == "separable":
            self._add(self.depthwise_kernels, "depthwise_kernel", deep, 1)
            full = (1, 1, channels, self.filters)
        if self.kind != "depthwise":
            self._add(self.kernels, "kernel", full, self.copies)
        filters = self.filters or channels
        if self.use_bias:
            self._add(self.biases, "bias", (filters,), self.copies)
        for norm in self.norms:
            norm.build((*input_shape[:-1], filters))

    def _add(self, to: list[Any], name: str, shape: tuple[Any, ...], copies: int) -> None:
        initializer = self.bias_initializer if name == "bias" else self.kernel_initializer
        for copy in range(copies):
            numbered = name if copies == 1 else f"level_{copy}_{name}"
            to.append(self.add_weight(name=numbered, shape=shape, initializer=initializer))

    def call(
        self,
        x: tf.Tensor,
        level: int = 0,
        gate: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Return (B, ceil(height / strides), ceil(width / strides), filters).

        level: which of the norms (folded: of the kernels) to use.
        gate: (1, 1, 1, channels), what the input of a full convolution is to be multiplied with.
        """
        if self.depthwise_kernels:
            x = self.spatial(x, level)
        if self.kernels:
            kernel = tf.convert_to_tensor(_of(self.kernels, level))
            if gate is not None:
                kernel *= tf.reshape(gate, (-1, 1))
            strides = 1 if self.depthwise_kernels else self.strides
            x = tf.nn.conv2d(x, kernel, strides, "SAME")
        bias = tf.convert_to_tensor(_of(self.biases, level)) if self.biases else None
        if self.norms:
            x = _of(self.norms, level)(x, bias=bias, training=training)
        elif bias is not None:
            x = tf.nn.bias_add(x, bias)
        return activate(x, self.activation, training)

    def spatial(self, x: tf.Tensor, level: int = 0, part: slice | None = None) -> tf.Tensor:
        """Return the depthwise convolution's result, the first half of a separable one.

        part: the channels that x is.
        """
        steps = (1, self.strides, self.strides, 1)
        kernel = tf.cast(_of(self.depthwise_kernels, level), x.dtype)
        if part is not None:
            kernel = kernel[:, :, part]
        return tf.nn.depthwise_conv2d(x, kernel, steps, "SAME")

    def pointwise(self, x: tf.Tensor) -> tf.Tensor:
        """Return the second half of a separable convolution without norms, bias included."""
        kernel, bias = (tf.cast(values[0], x.dtype) for values in (self.kernels, self.biases))
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias)

    def to_channels(self, x: tf.Tensor, part: slice) -> tf.Tensor:
        """Return these channels of `call`'s result alone: of a layer without norms, not separable.

        A depthwise one is given only these channels.
        """
        if self.depthwise_kernels:
            x = self.spatial(x, part=part)
        else:
            kernel = tf.cast(self.kernels[0], x.dtype)[..., part]
            x = tf.nn.conv2d(x, kernel, self.strides, "SAME")
        x = tf.nn.bias_add(x, tf.cast(self.biases[0], x.dtype)[part])
        return activate(x, self.activation)

    def from_channels(self, inputs: Sequence[tf.Tensor], parts: Sequence[slice]) -> tf.Tensor:
        """Return `call`'s result of an input given in parts: of a full layer without norms."""
        kernel, bias = (tf.cast(each[0], inputs[0].dtype) for each in (self.kernels, self.biases))
        sums = [
            tf.nn.conv2d(x, kernel[:, :, part], self.strides, "SAME")
            for x, part in zip(inputs, parts, strict=True)
        ]
        sums[0] = tf.nn.bias_add(sums[0], bias)
        return activate(reduce(operator.add, sums), self.activation)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of `call`'s result."""
        batch, height, width, channels = input_shape
        height, width = (
            None if side is None else -(-side // self.strides) for side in (height, width)
        )
        return batch, height, width, self.filters or channels


def _of(values: list[Any], level: int) -> Any:
    return values[level if len(values) > 1 else 0]


class SqueezeExcite(keras.layers.Layer):
    """Scale each channel by a gate in (0, 1) computed from the channels' means.

    Args:
        reduced: width of the bottleneck, `block input width * 0.25` (row N4).
        activation: between the two convolutions.
    """

    def __init__(self, reduced: int, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduced = reduced
        self.activation = activation

    def build(self, input_shape: Shape) -> None:
        """Create both 1x1 convolutions."""
        channels = input_shape[-1]
        common: dict[str, Any] = {"use_bias": True, "norms": 0, "dtype": self.dtype_policy}
        self.reduce = ConvNorm(self.reduced, 1, activation=self.activation, name="reduce", **common)
        self.expand = ConvNorm(channels, 1, name="expand", **common)
        self.reduce.build((None, 1, 1, channels))
        self.expand.build((None, 1, 1, self.reduced))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return x * gate, of x's shape."""
        return x * self.gate(x)

    def gate(self, x: tf.Tensor) -> tf.Tensor:
        """Return what each channel is scaled by, (B, 1, 1, channels)."""
        squeezed = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        return tf.sigmoid(self.expand(self.reduce(squeezed)))

    def in_parts(self, inputs: Sequence[tf.Tensor], parts: Sequence[slice]) -> list[tf.Tensor]:
        """Return the parts of `call`'s result of an input given in parts."""
        reduced = self.reduce(_side_by_side([_mean_by_rows(x) for x in inputs]))
        return [
            x * tf.sigmoid(self.expand.to_channels(reduced, part))
            for x, part in zip(inputs, parts, strict=True)
        ]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape."""
        return input_shape


def _mean_by_rows(x: tf.Tensor) -> tf.Tensor:
    """Return the mean of each channel, (B, 1, 1, channels), which XNNPACK has sooner by rows."""
    rows = tf.reduce_mean(x, axis=2, keepdims=True)
    return tf.reduce_mean(rows, axis=1, keepdims=True)


def _side_by_side(parts: list[tf.Tensor]) -> tf.Tensor:
    """Return the parts side by side; XNNPACK joins few at once, more would cut the graph in two."""
    while len(parts) > 1:
        parts = [tf.concat(parts[i : i + 4], axis=-1) for i in range(0, len(parts), 4)]
    return parts[0]


def drop_connect(rate: float, **kwargs: Any) -> keras.layers.Dropout:
    """Return a layer that drops a sample's whole residual branch in training (row N6).

    The survivors are scaled by 1 / (1 - rate).
    """
    return keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), **kwargs)
