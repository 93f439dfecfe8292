"""`KeypointLoss`: the class and position losses of points in cells."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, ClassVar, Final, Literal

import keras
import tensorflow as tf

from ytrue.contract import POSITIVE
from ytrue.errors import check_choice, check_from_zero
from ytrue.model.losses.configured import ConfiguredLoss
from ytrue.model.losses.focal import check, focal_terms
from ytrue.model.losses.forms import Form, arrays_of, check_classes, shape_words
from ytrue.model.losses.replicas import over_replicas

_FORMS: Final[dict[str, Form]] = {
    "targets' state": (("B", "...", "P"), True),
    "targets' offset": (("B", "...", "P", 2), False),
    "targets' label": (("B", "...", "P", "C"), False),
    "predictions' class": (("B", "...", "P", "C"), False),
    "predictions' xy": (("B", "...", "P", 2), False),
}


@keras.saving.register_keras_serializable("ytrue")
class KeypointLoss(ConfiguredLoss):
    """Which classes stand in each slot, and where in its cell each point is (row L6).

    With t the target of a logit (0 or 1 of a class, the offset in [0, 1] of a coordinate), p the
    logit's sigmoid and H(t, p) = -t log p - (1 - t) log(1 - p), the binary cross entropy,

        class = 1 / N * sum over all slots and classes of w * |t - p|^gamma * H(t, p)
        xy    = 1 / N * sum over slots that hold a point, y and x, of H(t, p)
        loss  = class + xy_weight * xy

    A slot holds a point where its state is 1, and nothing else says so: a point in its cell's
    upper left corner, at offset (0, 0), counts as any other. No slot is ignored. The least
    possible `xy` is not 0 but the sum of H(t, t), as offsets are no decisions.

    Args:
        kind: of the class loss: "focal", or "bce", the plain cross entropy: w = 1, gamma = 0.
        alpha: w of classes that are there, the others weigh 1 - alpha, as RetinaNet's; None: w = 1.
        gamma: how much the focal loss plays easy ones down.
        xy_weight: of the position loss in the sum.
        normalizer: N, of all replicas together: "points": the number of slots that hold a point,
            at least 1; "images": the batch size.

    Attributes:
        parts: names of what a call returns beside "loss".
        variables: none: this loss keeps no moving average.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Class loss: Lin et al., https://arxiv.org/abs/1708.02002, equations 4 and 5. Parts and
        layout: AmberzzZZ/efficientDet kp/loss.py, whose class loss, |t - p|^2 * -log(1 - |t - p|),
        and sums are `alpha=None, gamma=2, normalizer="images"`. It differs in that it counts a
        coordinate where its target is above 0, so that points on a cell's edge lose one or both.
    """

    parts: ClassVar[tuple[str, ...]] = ("class", "xy")
    variables: ClassVar[list[Any]] = []

    def __init__(
        self,
        *,
        kind: Literal["focal", "bce"] = "focal",
        alpha: float | None = None,
        gamma: float = 2.0,
        xy_weight: float = 1.0,
        normalizer: Literal["points", "images"] = "points",
    ) -> None:
        self._keep(locals())
        check_choice("kind", kind, ("focal", "bce"))
        check_choice("normalizer", normalizer, ("points", "images"))
        check(alpha, gamma, label_smoothing=0.0)
        if kind == "bce" and alpha is not None:
            raise ValueError(f"alpha={alpha}: expected None with kind='bce', which weighs nothing")
        check_from_zero("xy_weight", xy_weight)
        self.kind = kind
        self.alpha = alpha
        self.gamma = gamma
        self.xy_weight = xy_weight
        self.normalizer = normalizer

    def config(self) -> dict[str, Any]:
        """Return the arguments as plain JSON values."""
        names = ("kind", "alpha", "gamma", "xy_weight", "normalizer")
        return {name: getattr(self, name) for name in names}

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,  # noqa: ARG002
    ) -> dict[str, tf.Tensor]:
        """Return {"loss", "class", "xy"}, () float32 each.

        On a replica the losses are this replica's share times the number of replicas, so that
        their mean over replicas is the loss of the whole batch.

        Args:
            targets: state (B, ..., P), offset (B, ..., P, 2), label (B, ..., P, C), as
                `KeypointGridEncoder` makes them.
            predictions: class (B, ..., P, C) logits, xy (B, ..., P, 2) logits of the offsets (y, x).
            training: makes no difference to this loss.

        Raises:
            ValueError: arrays missing, or of shapes or dtypes that do not go together.
        """
        arrays = _checked(targets, predictions)
        state, offset, label, logits, xy = (arrays[name] for name in _FORMS)
        share = 1.0 / self._normalizer(state)
        losses = {
            "class": tf.reduce_sum(self._class_terms(logits, label)) * share,
            "xy": position_loss(xy, offset, state) * share,
        }
        return {"loss": losses["class"] + self.xy_weight * losses["xy"], **losses}

    def _class_terms(self, logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        if self.kind == "focal":
            return focal_terms(logits, label, alpha=self.alpha, gamma=self.gamma)
        return _cross_entropy(logits, label)

    def _normalizer(self, state: tf.Tensor) -> tf.Tensor:
        """Return what this replica divides by: the batch's points or images over the replicas."""
        if self.normalizer == "points":
            own = tf.reduce_sum(tf.cast(state == POSITIVE, tf.float32))
        else:
            own = tf.cast(tf.shape(state)[0], tf.float32)
        count, replicas = over_replicas(own)
        return tf.maximum(count, 1.0) / replicas


def position_loss(logits: tf.Tensor, offset: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
    """Return the sum of the binary cross entropy of both coordinates of all slots with a point.

    Args:
        logits, offset: (..., 2), the offsets in [0, 1].
        state: (...), 1 where the slot holds a point.

    Returns:
        () float32.
    """
    counted = (state == POSITIVE)[..., None]
    # Masked before, too: no logit of an empty slot, finite or not, reaches value or gradient.
    logits = tf.where(counted, tf.cast(logits, tf.float32), 0.0)
    return tf.reduce_sum(tf.where(counted, _cross_entropy(logits, offset), 0.0))


def _cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(targets, tf.float32), logits=tf.cast(logits, tf.float32)
    )


def _checked(
    targets: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    arrays = arrays_of(targets, predictions, _FORMS)
    _check_slots(arrays)
    check_classes(arrays, "targets' label", "predictions' class")
    return arrays


def _check_slots(arrays: Mapping[str, tf.Tensor]) -> None:
    """Raise ValueError if arrays differ before the axis that only some of them have."""
    slots = [x.shape if name == "targets' state" else x.shape[:-1] for name, x in arrays.items()]
    if not all(one.is_compatible_with(other) for one, other in combinations(slots, 2)):
        shapes = ", ".join(f"{name} {shape_words(x)}" for name, x in arrays.items())
        raise ValueError(
            f"batch, cells or slots differ: {shapes}; are encoder and model of one image size, "
            "grid and number of points in a cell?"
        )
