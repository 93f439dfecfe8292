"""What stands on the pyramid: one small network, the same for every level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from ytrue.model.layers import ConvNorm, Shape, drop_connect

Sharing = Literal["shared", "individual"]


@keras.saving.register_keras_serializable("ytrue")
class Head(keras.layers.Layer):
    """Repeated separable convolutions and a bare output convolution, on every level.

    Args:
        outputs: channels of the output a cell: `anchors * classes` or `anchors * 4`, say.
        repeats: convolutions before the output.
        levels: pyramid levels; each has batch norms of its own (row D6).
        activation: "swish" or "relu6".
        sharing: "shared": one set of kernels for all levels; "individual": one for each.
        separable: False takes full 3 x 3 convolutions.
        survival_rate: None: no identity add, google/automl's default; otherwise each convolution
            but the first is added to its input, dropped in training with 1 - survival_rate.
        prior: the output's bias makes its sigmoid this at first; None: a bias of 0.
        folded: without batch norms; see `ytrue.model.folding`.

    Call:
        features, one a level, (B, h, w, channels); returns one (B, h, w, outputs) a level.

    Raises:
        ValueError: an argument out of range, named with its value; or at the call, a number of
            features that is not `levels`.

    Reference:
        google/automl tf2/efficientdet_keras.py, ClassNet and BoxNet; the prior is equation 4.1 of
        RetinaNet, https://arxiv.org/abs/1708.02002.
    """

    def __init__(
        self,
        outputs: int,
        repeats: int,
        *,
        levels: int = 5,
        activation: str = "swish",
        sharing: Sharing = "shared",
        separable: bool = True,
        survival_rate: float | None = None,
        prior: float | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sharing not in ("shared", "individual"):
            raise ValueError(f"sharing={sharing!r}: expected 'shared' or 'individual'")
        if prior is not None and not 0 < prior < 1:
            raise ValueError(f"prior={prior}: expected a probability between 0 and 1")
        if survival_rate is not None and not 0 < survival_rate <= 1:
            raise ValueError(f"survival_rate={survival_rate}: expected a rate in (0, 1]")
        self._arguments: dict[str, Any] = {
            "outputs": outputs,
            "repeats": repeats,
            "levels": levels,
            "activation": activation,
            "sharing": sharing,
            "separable": separable,
            "survival_rate": survival_rate,
            "prior": prior,
            "folded": folded,
        }
        self.levels = levels
        self.drop = (
            None
            if survival_rate is None
            else drop_connect(1 - survival_rate, name="drop_connect", dtype=self.dtype_policy)
        )

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the towers: one, or one a level."""
        channels: Any = input_shape[0][-1]
        shared = self._arguments["sharing"] == "shared"
        self.towers = [
            [
                *(
                    self._conv(channels, f"{prefix}conv_{i}", self.levels if shared else 1)
                    for i in range(self._arguments["repeats"])
                ),
                self._output(f"{prefix}output"),
            ]
            for prefix in ([""] if shared else [f"level_{k}_" for k in range(self.levels)])
        ]
        for tower in self.towers:
            for conv in tower:
                # `flat` reaches into the last one.
                conv.build((None, None, None, channels))

    def _conv(self, filters: int, name: str, norms: int) -> ConvNorm:
        return ConvNorm(
            filters,
            3,
            norms=norms,
            activation=self._arguments["activation"],
            folded=self._arguments["folded"],
            name=name,
            **self._common(),
        )

    def _output(self, name: str) -> ConvNorm:
        prior = self._arguments["prior"]
        bias = 0.0 if prior is None else -math.log((1 - prior) / prior)
        return ConvNorm(
            self._arguments["outputs"],
            3,
            norms=0,
            bias_initializer=keras.initializers.Constant(bias),
            name=name,
            **self._common(),
        )

    def _common(self) -> dict[str, Any]:
        separable = self._arguments["separable"]
        return {
            "kind": "separable" if separable else "full",
            "use_bias": True,
            "dtype": self.dtype_policy,
            "kernel_initializer": (
                keras.initializers.VarianceScaling()
                if separable
                else keras.initializers.RandomNormal(stddev=0.01)
            ),
        }

    def call(self, features: Sequence[tf.Tensor], training: bool | None = None) -> list[tf.Tensor]:
        """Return the output convolution's result on every level, fine to coarse."""
        self._check(features)
        return [
            self._output_of(level)(self._before_output(x, level, training))
            for level, x in enumerate(features)
        ]

    def flat(
        self, features: Sequence[tf.Tensor], width: int, training: bool | None = None
    ) -> tf.Tensor:
        """Return the same as (B, A, width) float32, in the anchors' order.

        That is level, row, column, anchor in cell. With shared kernels, the levels are joined before
        the last 1x1 convolution, where they are small, not after it.
        """
        if len(self.towers) > 1 or not self._arguments["separable"]:
            return flattened(self.call(features, training=training), width)
        self._check(features)
        output = self._output_of(0)
        spatial = [
            output.spatial(self._before_output(x, level, training))
            for level, x in enumerate(features)
        ]
        cells = [tf.reshape(x, (tf.shape(x)[0], -1, 1, x.shape[-1])) for x in spatial]
        return flattened([output.pointwise(tf.concat(cells, axis=1))], width)

    def _check(self, features: Sequence[tf.Tensor]) -> None:
        if len(features) != self.levels:
            raise ValueError(f"{len(features)} features: this head was made for {self.levels}")

    def _output_of(self, level: int) -> ConvNorm:
        return self.towers[level if len(self.towers) > 1 else 0][-1]

    def _before_output(self, x: tf.Tensor, level: int, training: bool | None) -> tf.Tensor:
        shared = len(self.towers) == 1
        convs = self.towers[0 if shared else level][:-1]
        for i, conv in enumerate(convs):
            y = conv(x, level=level if shared else 0, training=training)
            # The first may change the number of channels.
            if i > 0 and self.drop is not None:
                y = self.drop(y, training=training) + x
            x = y
        return x

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}


def flattened(outputs: Sequence[tf.Tensor], width: int) -> tf.Tensor:
    """Return (B, A, width) float32 of a head's outputs (B, h, w, anchors * width).

    In the anchors' order: level, row, column, anchor in cell.
    """
    flat = [tf.reshape(x, (tf.shape(x)[0], -1, width)) for x in outputs]
    return tf.cast(tf.concat(flat, axis=1), tf.float32)
