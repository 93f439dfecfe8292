"""`YoloLoss`: objectness, class and box of anchors in cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import keras
import tensorflow as tf

from ytrue.contract import IGNORE, POSITIVE
from ytrue.errors import check_from_zero
from ytrue.model.losses.configured import ConfiguredLoss
from ytrue.model.losses.focal import check, focal_terms
from ytrue.model.losses.forms import Form, arrays_of, check_equal, own_classes
from ytrue.model.losses.replicas import over_replicas

_FORMS: Final[dict[str, Form]] = {
    "targets' state": (("B", "...", "A"), True),
    "targets' label": (("B", "...", "A"), True),
    "targets' box": (("B", "...", "A", 4), False),
    "predictions' objectness": (("B", "...", "A"), False),
    "predictions' class": (("B", "...", "A", "C"), False),
    "predictions' box": (("B", "...", "A", 4), False),
}


@keras.saving.register_keras_serializable("ytrue")
class YoloLoss(ConfiguredLoss):
    """YOLOv3's loss on the targets of `YoloEncoder`, every mask explicit.

    With p the sigmoid of a logit and H(t, p) = -t log p - (1 - t) log(1 - p),

        objectness = 1 / N * sum over places not ignored of w * |t - p|^gamma * H(t, p)
        class      = 1 / N * sum over positives and classes of H(t, p)
        box        = 1 / N * sum over positives of s * (sum over y, x of H(u, p)
                                                        + 1/2 * sum over h, w of (t - raw)^2)
        loss       = objectness + class_weight * class + box_weight * box

    N is the number of positives of all replicas together, at least 1. u is the target's (y, x)
    brought from `offset_range` to [0, 1], as the decoder stretches the prediction. s = 2 - the
    object's share of the image's area, so that small boxes weigh up to twice as much; it needs
    `areas`, and is 1 without.

    Args:
        areas: (P,) share of the image's area that each place's anchor has, in the order of the
            target's places; None: s = 1.
        offset_range: `YoloEncoder.offset_range`.
        gamma, alpha: of a focal objectness; gamma 0 and alpha None, the default, are YOLOv3's
            plain cross entropy.
        class_weight, box_weight: in the sum.

    Attributes:
        variables: none: this loss keeps no moving average.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Redmon and Farhadi 2018 (YOLOv3), and the Keras ports that Poly-YOLO's code descends from
        (box scale 2 - w h, half of the squared error). These divide by the batch size and ignore
        by predicted boxes; here the encoder's state says what is ignored.
    """

    variables: ClassVar[list[Any]] = []
    forms: ClassVar[Mapping[str, Form]] = _FORMS

    def __init__(
        self,
        *,
        areas: Any = None,
        offset_range: tuple[float, float] = (0.0, 1.0),
        gamma: float = 0.0,
        alpha: float | None = None,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        self._keep(locals())
        check(alpha, gamma, label_smoothing=0.0)
        low, high = offset_range
        if not low < high:
            raise ValueError(f"offset_range={offset_range}: expected rising numbers")
        for name, weight in (("class_weight", class_weight), ("box_weight", box_weight)):
            check_from_zero(name, weight)
        self.areas = None if areas is None else tf.constant(areas, tf.float32)
        self.offset_range = (float(low), float(high))
        self.gamma, self.alpha = gamma, alpha
        self.weights = {"objectness": 1.0, "class": class_weight, "box": box_weight}

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what a call returns beside "loss"."""
        return tuple(self.weights)

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,  # noqa: ARG002
    ) -> dict[str, tf.Tensor]:
        """Return {"loss", "objectness", "class", "box"}, () float32 each.

        On a replica the losses are this replica's share times the number of replicas, so that
        their mean over replicas is the loss of the whole batch.

        Args:
            targets: state, label (B, ..., A), box (B, ..., A, 4), as `YoloEncoder` makes them.
            predictions: objectness (B, ..., A) logits, class (B, ..., A, C) logits, box
                (B, ..., A, 4): logits of (y, x), then log(h / anchor), log(w / anchor).
            training: makes no difference to this loss.

        Raises:
            ValueError: arrays missing, or of shapes or dtypes that do not go together.
        """
        arrays = self._checked(targets, predictions)
        state = tf.reshape(arrays["targets' state"], (-1,))
        count, replicas = over_replicas(tf.reduce_sum(tf.cast(state == POSITIVE, tf.float32)))
        share = replicas / tf.maximum(count, 1.0)
        places = tf.where(state == POSITIVE)[:, 0]
        losses = {name: share * x for name, x in self._sums(arrays, state, places).items()}
        total = tf.add_n([self.weights[name] * value for name, value in losses.items()])
        return {"loss": total, **losses}

    def _sums(
        self, arrays: Mapping[str, tf.Tensor], state: tf.Tensor, places: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Return the sum of each part, before any weight or share.

        Args:
            arrays: as `forms` names them.
            state: (B * P,), flat.
            places: (M,) of the positives in it.
        """
        labels = tf.gather(tf.reshape(arrays["targets' label"], (-1,)), places)
        box = rows_of(arrays["targets' box"], places)
        return {
            "objectness": self._objectness(arrays["predictions' objectness"], state),
            "class": _class_loss(rows_of(arrays["predictions' class"], places), labels),
            "box": self._box(rows_of(arrays["predictions' box"], places), box, places),
        }

    def _objectness(self, logits: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        counted = state != IGNORE
        # Masked before, too: no logit of an ignored place, finite or not, reaches the gradient.
        logits = tf.where(counted, tf.cast(tf.reshape(logits, (-1,)), tf.float32), 0.0)
        terms = focal_terms(
            logits, tf.cast(state == POSITIVE, tf.float32), gamma=self.gamma, alpha=self.alpha
        )
        return tf.reduce_sum(tf.where(counted, terms, 0.0))

    def _box(self, raw: tf.Tensor, box: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        low, high = self.offset_range
        centre = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=(box[:, :2] - low) / (high - low), logits=raw[:, :2]
        )
        sides = 0.5 * tf.square(box[:, 2:] - raw[:, 2:])
        terms = tf.reduce_sum(centre + sides, axis=-1)
        return tf.reduce_sum(self._scale(box, places) * terms)

    def _scale(self, box: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Return s (M,) of positives' targets (M, 4)."""
        if self.areas is None:
            return tf.ones_like(box[:, 0])
        anchor = tf.gather(self.areas, places % tf.size(self.areas, tf.int64))
        return 2.0 - anchor * tf.exp(tf.reduce_sum(box[:, 2:], axis=-1))

    def _checked(
        self, targets: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        arrays = arrays_of(targets, predictions, self.forms)
        check_equal("batch sizes differ", {name: x.shape[0] for name, x in arrays.items()})
        places = {name: _places(x, len(self.forms[name][0]) - 3) for name, x in arrays.items()}
        if self.areas is not None:
            places["the loss's anchors"] = int(self.areas.shape[0])
        check_equal(
            "numbers of places differ", places,
            "; are encoder and model of one image size, levels and anchors a cell?",
        )  # fmt: skip
        return arrays


def _class_loss(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    classes = logits.shape[-1]
    own, known = own_classes(label, tf.fill(tf.shape(label), POSITIVE), classes)
    own = tf.where(known[:, None], tf.one_hot(own, classes), math.nan)
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=own, logits=logits))


def rows_of(array: tf.Tensor, places: tf.Tensor, axes: int = 1) -> tf.Tensor:
    """Return float32 rows (M, ...) of an array (B, ..., A, ...) with so many axes after A."""
    flat = tf.reshape(array, (-1, *array.shape[-axes:]))
    return tf.cast(tf.gather(flat, places), tf.float32)


def _places(array: tf.Tensor, trailing: int) -> int | None:
    """Return how many places an example has, None where it is not known yet."""
    axes = array.shape[1 : array.shape.rank - trailing]
    return axes.num_elements()
