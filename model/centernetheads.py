"""`CenterHead`: what answers the targets of `CenterNetEncoder`: heat map, size and offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ytrue.errors import check_whole
from ytrue.model.finefeatures import FineFeatures
from ytrue.model.heads import Head
from ytrue.model.layers import Shape


@keras.saving.register_keras_serializable("ytrue")
class CenterHead(keras.layers.Layer):
    """Three towers on the pyramid's finest features, magnified to the heat map's stride.

    Args:
        num_classes: C.
        stride: of the heat map, pixels: 8, 4 or 2.
        prior: probability of every class in every cell at the start; 0.1 is CenterNet's.
        repeats: convolutions before each output.
        on: position of the pyramid's finest level in the list of features: [0].
        levels: number of features given at the call; the others are not looked at.
        activation, folded: see `ytrue.model.Head`.

    Call:
        features, one a level, (B, h, w, channels), the finest of stride 8; returns {"heatmap":
        (B, H, W, C) logits, "size": (B, H, W, 2), "offset": (B, H, W, 2)}, float32.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Zhou et al. 2019 (CenterNet), https://arxiv.org/abs/1904.07850.
    """

    def __init__(
        self,
        num_classes: int,
        repeats: int,
        *,
        on: Sequence[int],
        levels: int,
        stride: int = 4,
        prior: float = 0.1,
        activation: str = "swish",
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_whole("num_classes", num_classes, 1)
        if list(on) != [0]:
            raise ValueError(f"on={on!r}: expected [0], the finest level")
        common: dict[str, Any] = {"activation": activation, "folded": folded}
        self._arguments = {
            "num_classes": num_classes, "repeats": repeats, "on": list(on), "levels": levels,
            "stride": stride, "prior": prior, **common,
        }  # fmt: skip
        common["dtype"] = self.dtype_policy
        self.branch = FineFeatures(stride, 0, name="branch", **common)
        common["levels"] = 1
        self.heads = {
            "heatmap": Head(num_classes, repeats, prior=prior, name="heatmap_head", **common),
            "size": Head(2, repeats, name="size_head", **common),
            "offset": Head(2, repeats, name="offset_head", **common),
        }

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the branch's and the towers' weights."""
        self.branch.build(input_shape[0])
        for head in self.heads.values():
            head.build(input_shape[:1])

    def call(
        self, features: Sequence[tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Return heatmap (B, H, W, C), size and offset (B, H, W, 2)."""
        fine = self.branch(features[0], training=training)
        return {
            name: tf.cast(head([fine], training=training)[0], tf.float32)
            for name, head in self.heads.items()
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}
