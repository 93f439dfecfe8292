"""`FCOSLoss`: classes, distances and centre-ness of points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import keras
import tensorflow as tf

from ytrue.contract import POSITIVE
from ytrue.errors import check_choice, check_from_zero
from ytrue.model.losses.boxes import KINDS, Kind, iou_loss
from ytrue.model.losses.configured import ConfiguredLoss
from ytrue.model.losses.focal import check, focal_loss
from ytrue.model.losses.forms import Form, arrays_of, check_equal
from ytrue.model.losses.replicas import over_replicas

_FORMS: Final[dict[str, Form]] = {
    "targets' state": (("B", "P"), True),
    "targets' label": (("B", "P"), True),
    "targets' box": (("B", "P", 4), False),
    "targets' centerness": (("B", "P"), False),
    "predictions' class": (("B", "P", "C"), False),
    "predictions' box": (("B", "P", 4), False),
    "predictions' centerness": (("B", "P"), False),
}
_LARGEST: Final = 10.0
"""Logarithm of a distance in strides, at most: a wild prediction must not make the loss infinite."""


@keras.saving.register_keras_serializable("ytrue")
class FCOSLoss(ConfiguredLoss):
    """FCOS's loss on the targets of `FCOSEncoder`, every mask explicit.

    With c the centre-ness of a positive, d its distances (top, left, bottom, right) in strides, raw
    what the network says of them, p the sigmoid of a logit and H(t, p) = -t log p - (1 - t)
    log(1 - p),

        class      = 1 / N * sum over points not ignored and classes of the focal loss
        box        = 1 / S * sum over positives of c * (1 - GIoU(box of d, box of exp(raw)))
        centerness = 1 / N * sum over positives of H(c, p)
        loss       = class + box_weight * box + centerness

    N is the number of positives and S the sum of their centre-ness, of all replicas together; N
    is at least 1, and without positives there is no box.

    Args:
        alpha, gamma: of the focal loss; see `focal_terms`.
        kind: of the box loss: "iou", "giou", "diou" or "ciou".
        box_weight: in the sum.

    Attributes:
        variables: none: this loss keeps no moving average.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Tian et al. 2019 (FCOS), https://arxiv.org/abs/1904.01355; mmdetection fcos_head.py, which
        weighs boxes by their centre-ness.
    """

    variables: ClassVar[list[Any]] = []
    parts: ClassVar[tuple[str, ...]] = ("class", "box", "centerness")

    def __init__(
        self,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        kind: Kind = "giou",
        box_weight: float = 1.0,
    ) -> None:
        self._keep(locals())
        check(alpha, gamma, label_smoothing=0.0)
        check_choice("kind", kind, KINDS)
        check_from_zero("box_weight", box_weight)
        self.alpha, self.gamma, self.kind, self.box_weight = alpha, gamma, kind, box_weight

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,  # noqa: ARG002
    ) -> dict[str, tf.Tensor]:
        """Return {"loss", "class", "box", "centerness"}, () float32 each.

        On a replica the losses are this replica's share times the number of replicas, so that
        their mean over replicas is the loss of the whole batch.

        Args:
            targets: state, label, centerness (B, P), box (B, P, 4), as `FCOSEncoder` makes them.
            predictions: class (B, P, C) and centerness (B, P) logits, box (B, P, 4) logarithms.
            training: makes no difference to this loss.

        Raises:
            ValueError: arrays missing, or of shapes or dtypes that do not go together.
        """
        arrays = arrays_of(targets, predictions, _FORMS)
        check_equal("batch sizes differ", {name: x.shape[0] for name, x in arrays.items()})
        check_equal(
            "numbers of points differ", {name: x.shape[1] for name, x in arrays.items()},
            "; are encoder and model of one image size and levels?",
        )  # fmt: skip
        state, label, box, centre, logits, raw, centre_logits = arrays.values()
        places = tf.where(state == POSITIVE)
        weight = tf.gather_nd(tf.cast(centre, tf.float32), places)
        count, replicas = over_replicas(tf.cast(tf.shape(places)[0], tf.float32))
        total, _ = over_replicas(tf.reduce_sum(weight))
        share = replicas / tf.maximum(count, 1.0)
        told = tf.exp(tf.minimum(tf.cast(tf.gather_nd(raw, places), tf.float32), _LARGEST))
        true = tf.gather_nd(tf.cast(box, tf.float32), places)
        apart = iou_loss(_around(told), _around(true), kind=self.kind)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=weight, logits=tf.cast(tf.gather_nd(centre_logits, places), tf.float32)
        )
        losses = {
            "class": share * focal_loss(logits, label, state, alpha=self.alpha, gamma=self.gamma),
            "box": replicas * tf.math.divide_no_nan(tf.reduce_sum(weight * apart), total),
            "centerness": share * tf.reduce_sum(entropy),
        }
        loss = losses["class"] + self.box_weight * losses["box"] + losses["centerness"]
        return {"loss": loss, **losses}


def _around(distances: tf.Tensor) -> tf.Tensor:
    """Return boxes (M, 4) around the origin of distances (top, left, bottom, right)."""
    return tf.concat((-distances[:, :2], distances[:, 2:]), axis=-1)
