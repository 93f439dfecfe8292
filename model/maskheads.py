"""`MaskHeads`: what answers the targets of `MaskEncoder`: boxes, coefficients and prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ytrue.errors import check_whole
from ytrue.model.boxheads import BoxHeads
from ytrue.model.finefeatures import FineFeatures
from ytrue.model.heads import Head
from ytrue.model.layers import ConvNorm, Shape


@keras.saving.register_keras_serializable("ytrue")
class MaskHeads(BoxHeads):
    """EfficientDet's two heads, a third for coefficients, and a branch for prototypes.

    An object's mask is the sum of the prototypes, weighted by the coefficients of its anchor. The
    branch is `FineFeatures` and the prototypes, which are not negative (ReLU). Coefficients are in
    (-1, 1) (tanh), so that prototypes can be taken away, too.

    Args:
        stride: of the prototypes, pixels: 8, 4 or 2.
        prototypes: K, how many.
        num_classes, repeats, options: see `BoxHeads`.

    Call:
        features, one a level; returns what `BoxHeads` does, "coefficients" (B, A, K) in (-1, 1) and
        "prototypes" (B, h, w, K) from 0, float32.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Bolya et al. 2019 (YOLACT), section 3; github.com/dbolya/yolact yolact.py, whose coefficients
        share the tower of classes and boxes.
    """

    def __init__(
        self,
        num_classes: int,
        repeats: int,
        *,
        stride: int = 4,
        prototypes: int = 32,
        folded: bool = False,
        activation: str = "swish",
        anchors: int = 9,
        **options: Any,
    ) -> None:
        common: dict[str, Any] = {"folded": folded, "activation": activation}
        super().__init__(num_classes, repeats, anchors=anchors, **common, **options)
        check_whole("prototypes", prototypes, 1)
        self._arguments |= {"stride": stride, "prototypes": prototypes}
        self.prototypes = prototypes
        self.coefficient_head = Head(
            anchors * prototypes, repeats, levels=self._arguments["levels"],
            sharing=self._arguments["sharing"], survival_rate=self._arguments["survival_rate"],
            name="coefficient_head", dtype=self.dtype_policy, **common,
        )  # fmt: skip
        self.branch = FineFeatures(
            stride, repeats, name="prototype_branch", dtype=self.dtype_policy, **common
        )
        self.last = ConvNorm(
            prototypes, 1, norms=0, use_bias=True, name="prototype_output",
            kernel_initializer=keras.initializers.VarianceScaling(), dtype=self.dtype_policy,
        )  # fmt: skip

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the heads' and the branch's weights."""
        super().build(input_shape)
        self.coefficient_head.build(input_shape)
        self.branch.build(input_shape[0])
        self.last.build(input_shape[0])

    def call(
        self, features: Sequence[tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Return class, box, coefficients (B, A, K) and prototypes (B, h, w, K)."""
        raw = self.coefficient_head.flat(features, self.prototypes, training=training)
        fine = self.branch(features[0], training=training)
        return super().call(features, training=training) | {
            "coefficients": tf.tanh(raw),
            "prototypes": tf.nn.relu(tf.cast(self.last(fine), tf.float32)),
        }
