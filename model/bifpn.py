"""BiFPN: features of all strides mixed top-down and bottom-up, as often as there are cells."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, Final, NamedTuple

import keras
import tensorflow as tf

from ytrue.errors import check_choice
from ytrue.model.layers import ConvNorm, Shape, activate, built
from ytrue.model.variants import Fusion

# Keeps the sum of the weights above 0: google/automl efficientdet_keras.py, fuse_features.
FUSION_EPSILON: Final = 1e-4

FUSIONS: Final = ("fast", "softmax", "sum", "channel_fast", "channel_softmax")


class Node(NamedTuple):
    """One fusion: the level it is of, and its inputs, by their place among all features so far."""

    level: int
    inputs: tuple[int, ...]


def cell_nodes(min_level: int, max_level: int) -> tuple[Node, ...]:
    """Return the nodes of one cell in the official order.

    A cell's features are its inputs (one a level, fine to coarse), then what each node adds. The
    way down fuses a level with the coarser one above it, the way up every feature of a level so
    far with the finer one below it.

    Reference: google/automl tf2/fpn_configs.py, bifpn_config.
    """
    of_level = {level: [level - min_level] for level in range(min_level, max_level + 1)}
    nodes: list[Node] = []

    def add(level: int, inputs: tuple[int, ...]) -> None:
        nodes.append(Node(level, inputs))
        of_level[level].append(len(of_level) + len(nodes) - 1)

    for level in range(max_level - 1, min_level - 1, -1):
        add(level, (of_level[level][-1], of_level[level + 1][-1]))
    for level in range(min_level + 1, max_level + 1):
        add(level, (*of_level[level], of_level[level - 1][-1]))
    return tuple(nodes)


def upsampled(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return x (B, h, w, C) at twice its size, nearest neighbour, cut to the size of `like`.

    Of all sizes that halve to (h, w), rounding up, this equals the official resize, whose gradient
    XLA does not have: doubled channels are columns twice as wide, doubled rows twice as many rows.
    """
    height, width = _size(like)
    rows, columns = _size(x)
    channels = x.shape[-1]
    wide = tf.reshape(tf.concat((x, x), axis=-1), (-1, rows, 2 * columns * channels))
    tall = tf.reshape(tf.concat((wide, wide), axis=-1), (-1, 2 * rows, 2 * columns, channels))
    if tall.shape[1:3].is_fully_defined() and tall.shape[1:3] == like.shape[1:3]:
        return tall  # a slice would be a copy of it in TFLite
    return tall[:, :height, :width]


def downsampled(x: tf.Tensor) -> tf.Tensor:
    """Return x at half its size, rounded up: the maximum over 3 x 3, as the official code."""
    return tf.nn.max_pool2d(x, 3, 2, "SAME")


def _size(x: tf.Tensor) -> tuple[Any, Any]:
    dynamic = tf.shape(x)
    return tuple(dynamic[i] if x.shape[i] is None else x.shape[i] for i in (1, 2))


class Fuse(keras.layers.Layer):
    """A weighted sum of features of one shape (row D5).

    Args:
        method: "fast": relu(w) / (sum of relu(w) + 1e-4); "softmax"; "sum": no weights;
            "channel_fast" and "channel_softmax": one weight a channel instead of one an input.
        inputs: how many features are fused.
        folded: the weights are the shares themselves; see `ytrue.model.folding`.
    """

    def __init__(self, method: Fusion, inputs: int, *, folded: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folded = folded
        self.method = method
        self.inputs = inputs

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create one weight an input, () or (channels,)."""
        shape = (input_shape[0][-1],) if self.method.startswith("channel") else ()
        count = 0 if self.method == "sum" else self.inputs
        self.fusion_weights = [
            self.add_weight(name=f"weight_{i}", shape=shape, initializer="ones", autocast=False)
            for i in range(count)
        ]

    def call(self, features: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the fused feature, of the inputs' shape."""
        return self.added(self.weighted(features))

    def weighted(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the inputs, of any shapes, times their shares."""
        if self.method == "sum":
            return list(features)
        shares = [tf.cast(share, features[0].dtype) for share in self.shares()]
        return [x * share for x, share in zip(features, shares, strict=True)]

    def added(self, weighted: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the sum of the weighted inputs."""
        # XNNPACK knows no sum of many: each one would cut the exported graph in two.
        return reduce(operator.add, weighted) if self.folded else tf.add_n(list(weighted))

    def shares(self) -> list[tf.Tensor]:
        """Return what each input is multiplied with, () or (channels,) float32."""
        weights = [tf.convert_to_tensor(weight) for weight in self.fusion_weights]
        if self.folded:
            return weights
        if self.method.endswith("fast"):
            weights = [tf.nn.relu(weight) for weight in weights]
            total = tf.add_n(weights) + FUSION_EPSILON
            return [weight / total for weight in weights]
        return tf.unstack(tf.nn.softmax(tf.stack(weights), axis=0))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        """Return the shape of the first input."""
        return input_shape[0]


class FusionNode(keras.layers.Layer):
    """Bring the inputs to one size and width, fuse them, activate, convolve, normalise."""

    def __init__(
        self,
        node: Node,
        input_levels: Sequence[int],
        channels: Sequence[int],
        filters: int,
        *,
        fusion: Fusion,
        activation: str,
        separable: bool,
        folded: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        conv: dict[str, Any] = {"folded": folded, "dtype": self.dtype_policy}
        self.node = node
        self.input_levels = tuple(input_levels)
        self.laterals = [
            None if width == filters else lateral(filters, name=f"lateral_{i}", **conv)
            for i, width in enumerate(channels)
        ]
        self.fuse = Fuse(fusion, len(channels), name="fuse", **conv)
        self.activation = activation
        self.conv = ConvNorm(
            filters,
            3,
            kind="separable" if separable else "full",
            use_bias=True,
            kernel_initializer="glorot_uniform",
            name="conv",
            **conv,
        )

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the layers' weights."""
        shapes = [
            shape if conv is None else built(conv, shape)
            for conv, shape in zip(self.laterals, input_shape, strict=True)
        ]
        self.fuse.build(shapes)
        self.conv.build(shapes[0])

    def call(self, features: Sequence[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Return (B, h, w, filters); the first feature is of the node's own level."""
        inputs = []
        for x, conv, level in zip(features, self.laterals, self.input_levels, strict=True):
            if conv is not None:
                x = conv(x, training=training)
            inputs.append(downsampled(x) if level < self.node.level else x)
        if self.fuse.folded:
            # The same, on the smaller feature. In training the weights' gradients would be summed
            # in another order than the official code's.
            fused = self.fuse.added(self._upsampled(self.fuse.weighted(inputs)))
        else:
            fused = self.fuse(self._upsampled(inputs))
        return self.conv(activate(fused, self.activation, training), training=training)

    def _upsampled(self, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the inputs, those of a coarser level at the size of the first."""
        return [
            upsampled(x, inputs[0]) if level > self.node.level else x
            for x, level in zip(inputs, self.input_levels, strict=True)
        ]


def lateral(filters: int, **kwargs: Any) -> ConvNorm:
    """Return the 1x1 convolution and batch norm that bring a feature to the common width (D4)."""
    return ConvNorm(filters, 1, use_bias=True, kernel_initializer="glorot_uniform", **kwargs)


@keras.saving.register_keras_serializable("ytrue")
class BiFPN(keras.layers.Layer):
    """The pyramid between any backbone and any head.

    Args:
        filters: channels of every output.
        cells: how often the two ways are gone.
        min_level, max_level: finest and coarsest level; level l has the stride 2^l. Levels that
            the backbone lacks are made by pooling its last one (row D3).
        fusion: "fast", "softmax", "sum", "channel_fast" or "channel_softmax"; see `Fuse`.
        activation: "swish" or "relu6".
        separable: of the convolution after each fusion.
        wanted: levels that are returned, None for all; nodes that none of these needs are not made.
        folded: without batch norms; see `ytrue.model.folding`.

    Call:
        features: backbone features of consecutive strides from 2^min_level on, fine to coarse,
        (B, h, w, any channels). Returns one feature (B, h, w, filters) a level, of all levels from
        min_level to max_level or of the wanted ones.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Tan, Pang, Le: EfficientDet, https://arxiv.org/abs/1911.09070, figure 2 (d), and google/automl
        tf2/efficientdet_keras.py.
    """

    def __init__(
        self,
        filters: int,
        cells: int,
        *,
        min_level: int = 3,
        max_level: int = 7,
        fusion: Fusion = "fast",
        activation: str = "swish",
        separable: bool = True,
        wanted: Sequence[int] | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("fusion", fusion, FUSIONS)
        if max_level <= min_level:
            raise ValueError(
                f"min_level={min_level}, max_level={max_level}: a pyramid needs two levels or more"
            )
        self._arguments: dict[str, Any] = {
            "filters": filters,
            "cells": cells,
            "min_level": min_level,
            "max_level": max_level,
            "fusion": fusion,
            "activation": activation,
            "separable": separable,
            "wanted": None if wanted is None else list(wanted),
            "folded": folded,
        }
        self.filters = filters
        self.levels = tuple(range(min_level, max_level + 1))
        self.wanted = self.levels if wanted is None else tuple(wanted)
        if not self.wanted or self.wanted != tuple(k for k in self.levels if k in self.wanted):
            raise ValueError(
                f"wanted={wanted}: expected some of the levels {self.levels}, fine to coarse"
            )

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the layers that the inputs' number and channels ask for."""
        channels: list[Any] = [shape[-1] for shape in input_shape]
        if len(channels) > len(self.levels):
            raise ValueError(
                f"{len(channels)} features for {len(self.levels)} levels {self.levels}: "
                "leave out the finest or raise max_level"
            )
        given = len(channels)
        common = {"folded": self._arguments["folded"], "dtype": self.dtype_policy}
        self.coarser = (
            lateral(self.filters, name="coarser", **common)
            if given < len(self.levels) and channels[-1] != self.filters
            else None
        )
        if self.coarser is not None:
            self.coarser.build((None, None, None, channels[-1]))
        channels += [self.filters] * (len(self.levels) - given)
        self.cells = []
        self.places = []  # of each cell's nodes among its features
        for cell, used in enumerate(self._used()):
            self.places.append([k for k in sorted(used) if k >= len(self.levels)])
            self.cells.append(self._cell(cell, channels, used))
            channels = [self.filters] * len(self.levels)

    def call(self, features: Sequence[tf.Tensor], training: bool | None = None) -> list[tf.Tensor]:
        """Return the mixed features, fine to coarse."""
        inputs = list(features)
        if len(inputs) < len(self.levels) and self.coarser is not None:
            inputs.append(downsampled(self.coarser(inputs[-1], training=training)))
        while len(inputs) < len(self.levels):
            inputs.append(downsampled(inputs[-1]))
        for places, nodes in zip(self.places, self.cells, strict=True):
            so_far: dict[int, tf.Tensor] = dict(enumerate(inputs))
            for place, node in zip(places, nodes, strict=True):
                chosen = [so_far[k] for k in node.node.inputs]
                so_far[place] = node(chosen, training=training)
            # A level that nobody needs stays as it is, and is not looked at.
            inputs = [so_far.get(k, inputs[i]) for i, k in enumerate(self._outputs)]
        return [x for x, level in zip(inputs, self.levels, strict=True) if level in self.wanted]

    @property
    def _outputs(self) -> range:
        """The last feature of each level, counted through a cell's inputs and then its nodes."""
        count = len(self.levels)
        finest = 2 * count - 2  # the way down ends with the finest level
        return range(finest, finest + count)

    def _used(self) -> list[set[int]]:
        """Return which features of each cell, its inputs and nodes, the wanted levels need."""
        count, found = len(self.levels), []
        nodes = list(enumerate(cell_nodes(self.levels[0], self.levels[-1]), count))
        levels = {self.levels.index(level) for level in self.wanted}
        for _ in range(self._arguments["cells"]):
            used = {self._outputs[k] for k in levels}
            for place, node in reversed(nodes):
                if place in used:
                    used.update(node.inputs)
            found.append(used)
            levels = {k for k in used if k < count}
        return found[::-1]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}

    def _cell(self, cell: int, channels: Sequence[int], used: set[int]) -> list[FusionNode]:
        levels, widths, nodes = list(self.levels), list(channels), []
        for i, node in enumerate(cell_nodes(self.levels[0], self.levels[-1])):
            if len(levels) in used:
                made = FusionNode(
                    node,
                    [levels[k] for k in node.inputs],
                    [widths[k] for k in node.inputs],
                    self.filters,
                    fusion=self._arguments["fusion"],
                    activation=self._arguments["activation"],
                    separable=self._arguments["separable"],
                    folded=self._arguments["folded"],
                    dtype=self.dtype_policy,
                    name=f"cell_{cell}_node_{i}",
                )
                made.build([(None, None, None, widths[k]) for k in node.inputs])
                nodes.append(made)
            levels.append(node.level)
            widths.append(self.filters)
        return nodes
