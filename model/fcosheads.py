"""`FCOSHead`: what answers the targets of `FCOSEncoder`: classes, distances and centre-ness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ytrue.errors import check_whole
from ytrue.model.cellheads import positions
from ytrue.model.heads import Head, Sharing, flattened
from ytrue.model.layers import Shape


@keras.saving.register_keras_serializable("ytrue")
class FCOSHead(keras.layers.Layer):
    """A tower for classes, and one for the four distances and the centre-ness beside them.

    Distances are told as logarithms of strides, and those of each level are multiplied by a learnt
    scale of its own, as levels look at objects of other sizes.

    Args:
        num_classes: C.
        on: positions of levels in the list of features, fine to coarse.
        levels: number of features given at the call; those not in `on` are not looked at.
        prior: probability of every class at the start.
        repeats, activation, sharing, survival_rate, folded: see `ytrue.model.Head`.

    Call:
        features, one a level, (B, h, w, channels); returns {"class": (B, P, C) logits, "box":
        (B, P, 4), "centerness": (B, P) logits}, float32, in the order level, row, column.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Tian et al. 2019 (FCOS), https://arxiv.org/abs/1904.01355, with the centre-ness beside the
        distances as in https://arxiv.org/abs/2006.09214.
    """

    def __init__(
        self,
        num_classes: int,
        repeats: int,
        *,
        on: Sequence[int],
        levels: int,
        prior: float = 0.01,
        activation: str = "swish",
        sharing: Sharing = "shared",
        survival_rate: float | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_whole("num_classes", num_classes, 1)
        self.on = positions(on, levels)
        common: dict[str, Any] = {
            "activation": activation,
            "sharing": sharing,
            "survival_rate": survival_rate,
            "folded": folded,
        }
        self.num_classes = num_classes
        self._arguments = {
            "num_classes": num_classes, "repeats": repeats, "on": list(on), "levels": levels,
            "prior": prior, **common,
        }  # fmt: skip
        common |= {"levels": len(self.on), "dtype": self.dtype_policy}
        self.class_head = Head(num_classes, repeats, prior=prior, name="class_head", **common)
        self.box_head = Head(5, repeats, name="box_head", **common)
        self.scales = _Scales(len(self.on), name="scales", dtype=self.dtype_policy)

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create both towers' weights and the scales."""
        chosen = [input_shape[position] for position in self.on]
        self.class_head.build(chosen)
        self.box_head.build(chosen)
        self.scales.build()

    def call(
        self, features: Sequence[tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Return class (B, P, C), box (B, P, 4) and centerness (B, P)."""
        chosen = [features[position] for position in self.on]
        numbers = [tf.cast(x, tf.float32) for x in self.box_head(chosen, training=training)]
        distances = self.scales([x[..., :4] for x in numbers])
        return {
            "class": self.class_head.flat(chosen, self.num_classes, training=training),
            "box": flattened(distances, 4),
            "centerness": flattened([x[..., 4:] for x in numbers], 1)[..., 0],
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}


class _Scales(keras.layers.Layer):
    """A factor for each level. A layer of its own, so that a folded copy has it, too."""

    def __init__(self, levels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.levels = levels

    def build(self, input_shape: Any = None) -> None:  # noqa: ARG002
        self.factors = self.add_weight(
            name="factors", shape=(self.levels,), initializer="ones", dtype="float32"
        )

    def call(self, numbers: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        factors = tf.unstack(tf.cast(tf.convert_to_tensor(self.factors), tf.float32))
        return [factor * x for factor, x in zip(factors, numbers, strict=True)]
