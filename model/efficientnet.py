"""EfficientNet: classifier, and the features that a detector's pyramid starts from."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from ytrue.model.folding import constant_weights, folded
from ytrue.model.images import normalised
from ytrue.model.layers import (
    ConvNorm,
    Shape,
    SqueezeExcite,
    built,
    dense_initializer,
    drop_connect,
)
from ytrue.model.variants import (
    BACKBONES,
    EXCITE_RATIO,
    STAGES,
    STEM_FILTERS,
    TOP_FILTERS,
    Backbone,
    known,
    scaled_filters,
)

LARGE_BYTES: Final = 16_000_000
LARGE_WIDTHS: Final = (32, 48)
LARGE_FILTERS: Final = 64
NEAR_WIDTH: Final = 288
"""How a stepwise block goes over its wide features. Where these take more than `LARGE_BYTES`, 32 or 48
channels at a time, as the features between its steps (of swish alone three) would not stay in the
caches; but not where every part adds to more than `LARGE_FILTERS` channels of the projection. With a
kernel of 5 x 5 at most `NEAR_WIDTH`, as 25 pixels and 25 weights of more leave the nearest cache."""


class InvertedBottleneck(keras.layers.Layer):
    """Widen, convolve each channel, excite, project; add the input where shapes allow.

    The projection has no activation, nor has the sum (row N3).
    """

    def __init__(
        self,
        filters_in: int,
        filters: int,
        kernel_size: int,
        strides: int,
        expansion: int,
        *,
        activation: str,
        excite: bool,
        drop_rate: float,
        folded: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        wide = filters_in * expansion
        common: dict[str, Any] = {"dtype": self.dtype_policy}
        conv = common | {"folded": folded}
        self.strides = strides
        self.wide = wide
        self.filters = filters
        self.expand = (
            ConvNorm(wide, 1, activation=activation, name="expand", **conv)
            if expansion > 1
            else None
        )
        self.depthwise = ConvNorm(
            None,
            kernel_size,
            kind="depthwise",
            strides=strides,
            activation=activation,
            name="depthwise",
            **conv,
        )
        reduced = max(1, int(filters_in * EXCITE_RATIO))
        self.excite = (
            SqueezeExcite(reduced, activation, name="excite", **common) if excite else None
        )
        self.project = ConvNorm(filters, 1, name="project", **conv)
        # Of one image the gate may go into the kernel instead of the features, which are larger.
        self.gates_kernel = folded
        # For a runtime that goes over memory once for each operation, as XNNPACK does: in parts.
        self.stepwise = False
        residual = strides == 1 and filters_in == filters
        self.drop = drop_connect(drop_rate, name="drop", **common) if residual else None

    def build(self, input_shape: Shape) -> None:
        """Create the layers' weights."""
        shape = input_shape if self.expand is None else built(self.expand, input_shape)
        shape = built(self.depthwise, shape)
        if self.excite is not None:
            self.excite.build(shape)
        built(self.project, shape)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return (B, ceil(height / strides), ceil(width / strides), filters)."""
        if self.stepwise and None not in x.shape[:3]:
            y = self._in_parts(x)
        else:
            y = self._whole(x, training)
        if self.drop is None:
            return y
        return self.drop(y, training=training) + x

    def _whole(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        y = x if self.expand is None else self.expand(x, training=training)
        y = self.depthwise(y, training=training)
        if self.excite is None:
            return self.project(y, training=training)
        if self.gates_kernel and _smaller(self.project, y):
            return self.project(y, gate=self.excite.gate(y))
        return self.project(self.excite(y), training=training)

    def _in_parts(self, x: tf.Tensor) -> tf.Tensor:
        """Return the same as `_whole` of a folded block, going over some channels at a time."""
        assert self.project.folded, "a stepwise block has no norms"
        if self.expand is None:
            parts, wide = [slice(self.wide)], [self.depthwise(x)]
        else:
            places = math.prod(x.shape[:3])
            parts = _parts(places, self.wide, self.depthwise.kernel_size, self.filters)
            wide = [
                self.depthwise.to_channels(self.expand.to_channels(x, part), part) for part in parts
            ]
        if self.excite is not None:
            wide = self.excite.in_parts(wide, parts)
        return self.project.from_channels(wide, parts)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of `call`'s result."""
        return self.project.compute_output_shape(self.depthwise.compute_output_shape(input_shape))


def _parts(places: int, channels: int, kernel_size: int, filters: int) -> list[slice]:
    """Return the channels that a stepwise block makes at a time.

    places: of all images. channels: of the wide features. filters: of the projection.
    """
    width = channels
    divisors = [channels // n for n in range(1, channels) if channels % n == 0]
    if kernel_size == 5:
        near = (w for w in divisors if NEAR_WIDTH / 2 <= w <= NEAR_WIDTH and w % 8 == 0)
        width = next(near, width)
    if 4 * places * channels > LARGE_BYTES and filters <= LARGE_FILTERS:
        width = next((w for w in LARGE_WIDTHS if w in divisors), width)
    return [slice(first, first + width) for first in range(0, channels, width)]


def _smaller(project: ConvNorm, x: tf.Tensor) -> bool:
    """Return whether x is known to be one image, and larger than the kernel that projects it."""
    images, height, width, _ = x.shape
    known = images == 1 and None not in (height, width)
    return known and height * width > project.filters


@keras.saving.register_keras_serializable("ytrue")
class EfficientNet(keras.Model):
    """EfficientNet B0 to B7 and lite0 to lite4.

    Args:
        variant: "b0" to "b7", "lite0" to "lite4".
        num_classes: width of the classifier.
        include_top: False leaves out the last 1x1 convolution, the pooling and the classifier;
            the call then returns the features.
        activation: of the classifier, "softmax" or None for logits.
        dropout_rate: share of single units dropped before the classifier; None: the variant's.
        drop_connect_rate: share of samples whose last residual branch is dropped; it grows
            linearly from 0 at the first block (row N6).
        pretrained: "lite0-imagenet": real weights, from a package (extra `pretrained`).
        folded: without batch norms, their arithmetic in the kernels; see `fold`.

    Call:
        images (B, height, width, 3), any size; uint8 RGB, which is normalised as the variant
        wants, or floats, normalised already. Returns (B, num_classes) or, without top, the list of
        `features`.

    Raises:
        ValueError: no such variant or weights; the message lists them.
        DataError: the package of the pretrained weights is not installed.

    Reference:
        Tan, Le: EfficientNet, https://arxiv.org/abs/1905.11946, and google/automl
        efficientdet/backbone/efficientnet_model.py.
    """

    def __init__(
        self,
        variant: str,
        num_classes: int = 1000,
        *,
        include_top: bool = True,
        activation: str | None = "softmax",
        dropout_rate: float | None = None,
        drop_connect_rate: float = 0.2,
        pretrained: str | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        spec = BACKBONES[known(BACKBONES, variant, "EfficientNet variant")]
        super().__init__(**{"name": f"efficientnet-{variant}", **kwargs})
        if dropout_rate is None:
            dropout_rate = spec.dropout_rate
        self._arguments: dict[str, Any] = {
            "variant": variant,
            "num_classes": num_classes,
            "include_top": include_top,
            "activation": activation,
            "dropout_rate": dropout_rate,
            "drop_connect_rate": drop_connect_rate,
            "folded": folded,
        }
        common: dict[str, Any] = {"folded": folded, "dtype": self.dtype_policy}
        self.variant = variant
        self.lite = spec.lite
        self.repeats = _repeats(spec)
        filters = STEM_FILTERS if spec.lite else scaled_filters(STEM_FILTERS, spec.width)
        self.stem = ConvNorm(
            filters,
            3,
            strides=2,
            activation=spec.activation,
            name="stem",
            **common,
        )
        self.blocks = _blocks(spec, filters, drop_connect_rate, **common)
        self.top: ConvNorm | None = None
        self.dropout: Any = None
        self.classifier: Any = None
        if include_top:
            filters = TOP_FILTERS if spec.lite else scaled_filters(TOP_FILTERS, spec.width)
            self.top = ConvNorm(filters, 1, activation=spec.activation, name="top", **common)
            self.dropout = keras.layers.Dropout(dropout_rate, name="dropout")
            self.classifier = keras.layers.Dense(
                num_classes,
                activation=activation,
                kernel_initializer=dense_initializer(),
                dtype="float32",
                name="classifier",
            )
        self.trainable = not folded
        self.build((None, None, None, 3))
        if pretrained is not None:
            from ytrue.model.pretrained import load_pretrained

            load_pretrained(self, pretrained)

    def build(self, input_shape: Shape) -> None:
        """Create the layers' weights, without a trace through them."""
        shape = built(self.stem, input_shape)
        for block in self.blocks:
            shape = built(block, shape)
        if self.top is not None:
            self.classifier.build((None, built(self.top, shape)[-1]))

    def features(self, images: tf.Tensor, training: bool | None = None) -> list[tf.Tensor]:
        """Return the last features of the strides 2, 4, 8, 16 and 32, fine to coarse."""
        x = self.stem(
            normalised(images, lite=self.lite, dtype=self.compute_dtype), training=training
        )
        ends = []
        for block in self.blocks:
            if block.strides == 2:
                ends.append(x)
            x = block(x, training=training)
        return [*ends, x]

    def call(self, images: tf.Tensor, training: bool | None = None) -> Any:
        """Return class probabilities (B, num_classes), or the features without top."""
        with constant_weights(self, training):
            features = self.features(images, training=training)
            if self.top is None:
                return features
            x = self.top(features[-1], training=training)
            x = tf.reduce_mean(x, axis=(1, 2))  # (B, channels)
            return self.classifier(self.dropout(x, training=training))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**self._arguments, "name": self.name, "dtype": self.dtype_policy.name}

    @property
    def channels(self) -> tuple[int | None, ...]:
        """Channels of `features`, fine to coarse."""
        ends = [block for block, following in pairwise(self.blocks) if following.strides == 2]
        return tuple(block.project.filters for block in (*ends, self.blocks[-1]))

    def load_official(self, path: str | Path) -> None:
        """Load google/automl's weights; see `ytrue.model.checkpoints.load_backbone`."""
        from ytrue.model.checkpoints import load_backbone

        load_backbone(self, path)

    def load_keras_applications(self, other: keras.Model) -> None:
        """Copy the weights of a keras.applications EfficientNet of the same variant.

        Raises:
            DataError: weights missing, surplus or of another shape, each named.
        """
        from ytrue.model.checkpoints import load_keras_applications

        load_keras_applications(self, other)

    def fold(self) -> EfficientNet:
        """Return a copy for prediction whose batch norms are folded into the convolutions.

        See `ytrue.model.PyramidNet.fold`.
        """
        return folded(self)


def _repeats(spec: Backbone) -> tuple[int, ...]:
    """Return the number of blocks of each stage."""
    last = len(STAGES) - 1
    return tuple(
        stage.repeats if spec.lite and i in (0, last) else math.ceil(stage.repeats * spec.depth)
        for i, stage in enumerate(STAGES)
    )


def _blocks(
    spec: Backbone, filters_in: int, drop_connect_rate: float, **common: Any
) -> list[InvertedBottleneck]:
    shapes = []
    for stage, repeats in zip(STAGES, _repeats(spec), strict=True):
        filters = scaled_filters(stage.filters, spec.width)
        for repeat in range(repeats):
            shapes.append((filters_in, filters, stage, stage.strides if repeat == 0 else 1))
            filters_in = filters
    return [
        InvertedBottleneck(
            inner,
            filters,
            stage.kernel_size,
            strides,
            stage.expansion,
            activation=spec.activation,
            excite=not spec.lite,
            drop_rate=drop_connect_rate * i / len(shapes),
            name=f"block_{i}",
            **common,
        )
        for i, (inner, filters, stage, strides) in enumerate(shapes)
    ]
