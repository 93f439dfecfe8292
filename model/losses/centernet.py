"""`CenterNetLoss`: the heat map of centres, and the sizes and offsets at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import keras
import tensorflow as tf

from ytrue.contract import IGNORE, POSITIVE
from ytrue.errors import check_from_zero
from ytrue.model.losses.configured import ConfiguredLoss
from ytrue.model.losses.forms import Form, arrays_of, check_classes, check_equal
from ytrue.model.losses.replicas import over_replicas

_FORMS: Final[dict[str, Form]] = {
    "targets' state": (("B", "H", "W"), True),
    "targets' heatmap": (("B", "H", "W", "C"), False),
    "targets' size": (("B", "H", "W", 2), False),
    "targets' offset": (("B", "H", "W", 2), False),
    "predictions' heatmap": (("B", "H", "W", "C"), False),
    "predictions' size": (("B", "H", "W", 2), False),
    "predictions' offset": (("B", "H", "W", 2), False),
}


@keras.saving.register_keras_serializable("ytrue")
class CenterNetLoss(ConfiguredLoss):
    """CenterNet's loss on the targets of `CenterNetEncoder`, every mask explicit.

    With Y the heat map, p the sigmoid of a logit, over cells that are not ignored and classes,

        heatmap = 1 / N * sum of (1 - p)^gamma * -log p                where Y is 1
                                 (1 - Y)^beta * p^gamma * -log(1 - p)  elsewhere
        size    = 1 / M * sum over positives, height and width, of |size - raw|
        offset  = 1 / M * sum over positives, y and x, of |offset - raw|
        loss    = heatmap + size_weight * size + offset_weight * offset

    N is the number of places where Y is 1 and M that of positive cells, of all replicas together,
    each at least 1: they differ where objects of two classes share a cell.

    Args:
        gamma: how much easy places are played down, CenterNet's alpha.
        beta: how much places near a centre are.
        size_weight, offset_weight: in the sum.

    Attributes:
        variables: none: this loss keeps no moving average.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Zhou et al. 2019 (CenterNet), https://arxiv.org/abs/1904.07850, equations 1 to 4;
        github.com/xingyizhou/CenterNet losses.py.
    """

    variables: ClassVar[list[Any]] = []
    parts: ClassVar[tuple[str, ...]] = ("heatmap", "size", "offset")

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        beta: float = 4.0,
        size_weight: float = 0.1,
        offset_weight: float = 1.0,
    ) -> None:
        self._keep(locals())
        for name, value in (
            ("gamma", gamma), ("beta", beta), ("size_weight", size_weight),
            ("offset_weight", offset_weight),
        ):  # fmt: skip
            check_from_zero(name, value)
        self.gamma, self.beta = gamma, beta
        self.weights = {"heatmap": 1.0, "size": size_weight, "offset": offset_weight}

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,  # noqa: ARG002
    ) -> dict[str, tf.Tensor]:
        """Return {"loss", "heatmap", "size", "offset"}, () float32 each.

        On a replica the losses are this replica's share times the number of replicas, so that
        their mean over replicas is the loss of the whole batch.

        Args:
            targets: state (B, H, W), heatmap (B, H, W, C), size and offset (B, H, W, 2), as
                `CenterNetEncoder` makes them.
            predictions: heatmap (B, H, W, C) logits, size and offset (B, H, W, 2).
            training: makes no difference to this loss.

        Raises:
            ValueError: arrays missing, or of shapes or dtypes that do not go together.
        """
        arrays = arrays_of(targets, predictions, _FORMS)
        for axis, words in ((0, "batch sizes"), (1, "numbers of rows"), (2, "numbers of columns")):
            check_equal(
                f"{words} differ", {name: x.shape[axis] for name, x in arrays.items()},
                "; are encoder and model of one image size and stride?",
            )  # fmt: skip
        check_classes(arrays, "targets' heatmap", "predictions' heatmap")
        state = arrays["targets' state"]
        heat = tf.cast(arrays["targets' heatmap"], tf.float32)
        counted = (state != IGNORE)[..., None]
        peak = (heat == 1.0) & counted
        peaks, replicas = over_replicas(tf.reduce_sum(tf.cast(peak, tf.float32)))
        places = tf.where(state == POSITIVE)
        positives, _ = over_replicas(tf.cast(tf.shape(places)[0], tf.float32))
        terms = self._terms(arrays["predictions' heatmap"], heat, peak, counted)
        losses = {"heatmap": tf.reduce_sum(terms) * replicas / tf.maximum(peaks, 1.0)}
        for name in ("size", "offset"):
            true, raw = (
                tf.gather_nd(tf.cast(arrays[f"{side}' {name}"], tf.float32), places)
                for side in ("targets", "predictions")
            )
            apart = tf.reduce_sum(tf.abs(true - raw))
            losses[name] = apart * replicas / tf.maximum(positives, 1.0)
        total = tf.add_n([self.weights[name] * value for name, value in losses.items()])
        return {"loss": total, **losses}

    def _terms(
        self, logits: tf.Tensor, heat: tf.Tensor, peak: tf.Tensor, counted: tf.Tensor
    ) -> tf.Tensor:
        """Return the loss of each cell and class, 0 where ignored.

        As `focal_terms`: the power is that of a softplus, so that no power of 0 is differentiated.
        """
        # Masked before, too: no logit of an ignored cell, finite or not, reaches the gradient.
        logits = tf.where(counted, tf.cast(logits, tf.float32), 0.0)
        z = tf.where(peak, -logits, logits)
        near = tf.where(peak, 1.0, tf.pow(1.0 - heat, self.beta))
        terms = near * tf.exp(-self.gamma * tf.math.softplus(-z)) * tf.math.softplus(z)
        return tf.where(counted, terms, 0.0)
