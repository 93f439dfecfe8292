"""`BoxHeads`: what answers the targets of `AnchorEncoder`, a head for classes and one for boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ytrue.errors import check_count
from ytrue.model.heads import Head, Sharing
from ytrue.model.layers import Shape


@keras.saving.register_keras_serializable("ytrue")
class BoxHeads(keras.layers.Layer):
    """EfficientDet's two heads.

    Args:
        num_classes: classes without background.
        repeats: convolutions before the output.
        anchors: anchors in a cell.
        prior: probability of every class at the start.
        levels, activation, sharing, survival_rate, folded: see `ytrue.model.Head`.

    Call:
        features, one a level; returns {"class": (B, A, num_classes) logits, "box": (B, A, 4) offsets
        (ty, tx, th, tw)}, float32, in the order of `AnchorGrid`'s anchors.
    """

    def __init__(
        self,
        num_classes: int,
        repeats: int,
        *,
        anchors: int = 9,
        prior: float = 0.01,
        levels: int = 5,
        activation: str = "swish",
        sharing: Sharing = "shared",
        survival_rate: float | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes = check_count("num_classes", num_classes)
        anchors = check_count("anchors", anchors)
        common: dict[str, Any] = {
            "levels": levels,
            "activation": activation,
            "sharing": sharing,
            "survival_rate": survival_rate,
            "folded": folded,
        }
        self._arguments = {
            "num_classes": num_classes,
            "repeats": repeats,
            "anchors": anchors,
            "prior": prior,
            **common,
        }
        common["dtype"] = self.dtype_policy
        self.class_head = Head(
            anchors * num_classes, repeats, prior=prior, name="class_head", **common
        )
        self.box_head = Head(anchors * 4, repeats, name="box_head", **common)

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create both heads' weights."""
        self.class_head.build(input_shape)
        self.box_head.build(input_shape)

    def call(
        self, features: Sequence[tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Return {"class": (B, A, C) logits, "box": (B, A, 4)}."""
        return {
            "class": self.class_head.flat(features, self.num_classes, training=training),
            "box": self.box_head.flat(features, 4, training=training),
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}
