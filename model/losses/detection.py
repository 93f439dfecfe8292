"""`DetectionLoss`: the class and box losses of a detector, masked and normalised in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

import keras
import tensorflow as tf

from ytrue.contract import POSITIVE
from ytrue.errors import check_from_zero
from ytrue.model.losses.boxes import (
    KINDS,
    Coder,
    Kind,
    PlainCoder,
    decode_offsets,
    huber_loss,
    iou_loss,
)
from ytrue.model.losses.configured import ConfiguredLoss
from ytrue.model.losses.focal import check, focal_loss
from ytrue.model.losses.forms import Form, arrays_of, check_equal
from ytrue.model.losses.replicas import over_replicas

Normalizer = Literal["batch", "moving_average"]

_FORMS: Final[dict[str, Form]] = {
    "targets' state": (("B", "A"), True),
    "targets' label": (("B", "A"), True),
    "targets' box": (("B", "A", 4), False),
    "predictions' class": (("B", "A", "C"), False),
    "predictions' box": (("B", "A", 4), False),
}


@keras.saving.register_keras_serializable("ytrue")
class DetectionLoss(ConfiguredLoss):
    """Focal loss of the classes plus weighted Huber (and IoU) loss of the boxes (row D2).

    All are summed and divided by the number of positive anchors in the batch, of all replicas
    together. Ignored anchors count in neither; negatives in the class loss alone.

    Args:
        alpha, gamma, label_smoothing: of the focal loss; see `focal_terms`.
        delta: of the Huber loss.
        box_weight: of the Huber loss, which is divided by the four coordinates, as google/automl's.
        iou: "iou", "giou", "diou" or "ciou" adds that loss of the decoded boxes; needs `anchors`
            and `coder`.
        iou_weight: of that loss, which is divided by four, too, as google/automl's.
        anchors: (A, 4) pixels, `encoder.grid.boxes`.
        coder: how offsets stand for boxes, `encoder.coder`.
        normalizer: "batch": this batch's positives; "moving_average": of those so far.
        momentum: of the moving average.
        offset: added to the number of positives; google/automl adds 1.
        count_zeros: see `huber_loss`.

    Raises:
        ValueError: an argument out of range, named with its value.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.25,
        gamma: float = 1.5,
        label_smoothing: float = 0.0,
        delta: float = 0.1,
        box_weight: float = 50.0,
        iou: Kind | None = None,
        iou_weight: float = 1.0,
        anchors: Any = None,
        coder: Coder | None = None,
        normalizer: Normalizer = "batch",
        momentum: float = 0.99,
        offset: float = 0.0,
        count_zeros: bool = True,
    ) -> None:
        self._keep(locals())
        check(alpha, gamma, label_smoothing)
        if not 0 < delta < math.inf:
            raise ValueError(f"delta={delta}: expected a number above 0")
        if iou is not None and iou not in KINDS:
            raise ValueError(f"iou={iou!r}: expected one of {', '.join(KINDS)}, or None")
        if iou is not None and (anchors is None or coder is None):
            raise ValueError(
                f"iou={iou!r} compares boxes in pixels: pass anchors=encoder.grid.boxes and "
                "coder=encoder.coder"
            )
        if normalizer not in ("batch", "moving_average"):
            raise ValueError(f"normalizer={normalizer!r}: expected 'batch' or 'moving_average'")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a share in [0, 1)")
        for name, value in (
            ("box_weight", box_weight),
            ("iou_weight", iou_weight),
            ("offset", offset),
        ):
            check_from_zero(name, value)
        self.focal = {"alpha": alpha, "gamma": gamma, "label_smoothing": label_smoothing}
        self.delta = delta
        self.iou: Kind | None = iou
        self.iou_weight = iou_weight
        self.weights = {"class": 1.0, "box": box_weight}
        if iou is not None:
            self.weights["iou"] = iou_weight
        self.anchors = None if anchors is None else tf.constant(anchors, tf.float32)
        self.coder = coder
        self.normalizer = normalizer
        self.momentum = momentum
        self.offset = offset
        self.count_zeros = count_zeros
        # 0: not yet seen a batch.
        self.average = (
            keras.Variable(0.0, trainable=False, aggregation="mean", name="positives")
            if normalizer == "moving_average"
            else None
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what a call returns beside "loss"."""
        return tuple(self.weights)

    @property
    def variables(self) -> list[Any]:
        """What a call may change: the moving average."""
        return [] if self.average is None else [self.average]

    def config(self) -> dict[str, Any]:
        """Return the arguments, but anchors, as plain JSON values."""
        names = ("delta", "iou", "iou_weight", "normalizer", "momentum", "offset", "count_zeros")
        values = {name: getattr(self, name) for name in names}
        return {**self.focal, **values, "box_weight": self.weights["box"]}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain JSON values."""
        config = super().get_config()
        if self.coder is not None:
            config["coder"] = {"kind": self.coder.kind, "std": list(self.coder.std)}
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the loss that `get_config()` described."""
        coder = config.get("coder")
        return cls(**{**config, "coder": None if coder is None else PlainCoder(**coder)})

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,
    ) -> dict[str, tf.Tensor]:
        """Return the losses by name, () float32 each: "loss" is their weighted sum.

        On a replica the losses are this replica's share times the number of replicas, so that
        their mean over replicas is the loss of the whole batch.

        Args:
            targets: state (B, A), label (B, A), box (B, A, 4), as `AnchorEncoder` makes them.
            predictions: class (B, A, C) logits, box (B, A, 4) offsets.
            training: False leaves the moving average as it is.

        Raises:
            ValueError: arrays missing, or of shapes or dtypes that do not go together.
        """
        sums = self._sums(targets, predictions)
        state = tf.convert_to_tensor(targets["state"])
        count = tf.reduce_sum(tf.cast(state == POSITIVE, tf.float32))
        share = 1.0 / self._normalizer(count, training)
        losses = {name: share * value for name, value in sums.items()}
        total = tf.add_n([self.weights[name] * value for name, value in losses.items()])
        return {"loss": total, **losses}

    def _sums(
        self, targets: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Return the sum of each part over the batch, before any weight or share."""
        state, label, box = self._checked(targets, predictions)
        sums = {
            "class": focal_loss(predictions["class"], label, state, **self.focal),
            "box": 0.25
            * huber_loss(
                predictions["box"], box, state, delta=self.delta, count_zeros=self.count_zeros
            ),
        }
        if self.iou is not None:
            sums["iou"] = 0.25 * self._iou(predictions["box"], box, state)
        return sums

    def _iou(self, prediction: tf.Tensor, target: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        places = tf.where(state == POSITIVE)  # (P, 2)
        anchors = tf.gather(self.anchors, places[:, 1])  # (P, 4)
        boxes = [
            decode_offsets(tf.gather_nd(tf.cast(offsets, tf.float32), places), anchors, self.coder)
            for offsets in (prediction, target)
        ]
        return tf.reduce_sum(iou_loss(*boxes, kind=self.iou or "iou"))

    def _normalizer(self, count: tf.Tensor, training: bool) -> tf.Tensor:
        """Return what this replica divides by: the batch's positives over the replicas."""
        count, replicas = over_replicas(count)
        if self.average is not None:
            before = tf.convert_to_tensor(self.average)
            moved = before * self.momentum + count * (1.0 - self.momentum)
            now = tf.where(before > 0, moved, count)
            if training:
                self.average.assign(now)
            count = now if training else tf.where(before > 0, before, count)
        return tf.maximum(count + self.offset, 1.0) / replicas

    def _checked(
        self, targets: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        arrays = arrays_of(targets, predictions, _FORMS)
        check_equal("batch sizes differ", {name: x.shape[0] for name, x in arrays.items()})
        anchors = {name: x.shape[1] for name, x in arrays.items()}
        if self.anchors is not None:
            anchors["the loss's anchors"] = self.anchors.shape[0]
        check_equal(
            "numbers of anchors differ",
            anchors,
            "; are encoder and model of one image size, levels and anchors a cell?",
        )
        state, label, box, *_ = arrays.values()
        return state, label, tf.cast(box, tf.float32)


def l2_loss(variables: Any, weight_decay: float) -> tf.Tensor:
    """Return weight_decay / 2 * the sum of squares of all kernels.

    Args:
        variables: a model's `trainable_variables`; those whose name ends in "kernel" count, so
            neither biases nor norms nor fusion weights do.
        weight_decay: 4e-5 in google/automl.

    Reference:
        google/automl tf2/train_lib.py, _reg_l2_loss.
    """
    kernels = [variable for variable in variables if variable.name.endswith("kernel")]
    if not kernels:
        return tf.constant(0.0)
    squares = [tf.nn.l2_loss(tf.cast(kernel, tf.float32)) for kernel in kernels]
    return weight_decay * tf.add_n(squares)
