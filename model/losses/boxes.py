"""Losses of boxes: Huber on encoded offsets, and IoU's family on decoded corners."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple, Protocol

import tensorflow as tf

from ytrue.contract import POSITIVE
from ytrue.errors import check_choice

Kind = Literal["iou", "giou", "diou", "ciou"]
KINDS: Final = ("iou", "giou", "diou", "ciou")
_LARGEST: Final = 10.0


class Coder(Protocol):
    """How boxes are told relative to anchors: what a loss reads of the encoder's `BoxCoder`."""

    @property
    def kind(self) -> str:
        """Either "centre" or "corner"."""
        ...

    @property
    def std(self) -> tuple[float, float, float, float]:
        """Divisors of the four numbers, in their order."""
        ...


class PlainCoder(NamedTuple):
    """A `Coder` as a file holds it."""

    kind: str
    std: tuple[float, float, float, float]


def huber_loss(
    prediction: tf.Tensor,
    target: tf.Tensor,
    state: tf.Tensor,
    *,
    delta: float = 0.1,
    count_zeros: bool = True,
) -> tf.Tensor:
    """Return the sum over the positive anchors' coordinates: e^2 / 2, beyond delta linear.

    Args:
        prediction, target: (B, A, 4).
        state: (B, A), 1 positive.
        delta: where the linear part begins (row D8).
        count_zeros: False leaves out coordinates whose target is exactly 0, as google/automl's
            mask does: an object that fits an anchor exactly then teaches nothing.

    Returns:
        () float32.

    Reference:
        google/automl tf2/train_lib.py, BoxLoss.
    """
    error = tf.cast(prediction, tf.float32) - target
    counted = (state == POSITIVE)[..., None]
    if not count_zeros:
        counted = tf.logical_and(counted, target != 0)
    # An error of 0 has a gradient of 0: anchors without a box get exactly none.
    error = tf.where(counted, error, 0.0)
    size = tf.abs(error)
    quadratic = tf.minimum(size, delta)
    return tf.reduce_sum(quadratic * (size - 0.5 * quadratic))


def iou_loss(prediction: tf.Tensor, target: tf.Tensor, *, kind: Kind = "iou") -> tf.Tensor:
    """Return 1 - IoU, or a relative of it, of each pair of boxes.

    Args:
        prediction, target: (..., 4), (y_min, x_min, y_max, x_max) in any unit.
        kind: "iou"; "giou": less the share of the enclosing box that neither covers; "diou": less
            the squared distance of the centres over the enclosing box's squared diagonal;
            "ciou": also less a term for the aspect ratio.

    Returns:
        (...) float32; 0 where the target has no area. Boxes turned inside out have no area.

    Reference:
        https://arxiv.org/abs/1902.09630 (GIoU), https://arxiv.org/abs/1911.08287 (DIoU, CIoU), and
        google/automl iou_utils.py. CIoU's aspect term has its true gradient here; the official
        code's does not reach the prediction.
    """
    check_choice("kind", kind, KINDS)
    p, t = (tf.cast(boxes, tf.float32) for boxes in (prediction, target))
    p_low, p_high, t_low, t_high = p[..., :2], p[..., 2:], t[..., :2], t[..., 2:]
    p_sides, t_sides = tf.maximum(p_high - p_low, 0.0), tf.maximum(t_high - t_low, 0.0)
    p_area, t_area = tf.reduce_prod(p_sides, -1), tf.reduce_prod(t_sides, -1)
    shared_sides = tf.maximum(tf.minimum(p_high, t_high) - tf.maximum(p_low, t_low), 0.0)
    shared = tf.reduce_prod(shared_sides, -1)
    union = p_area + t_area - shared
    value = tf.math.divide_no_nan(shared, union)
    if kind != "iou":
        around = tf.maximum(p_high, t_high) - tf.minimum(p_low, t_low)  # (..., 2)
        if kind == "giou":
            enclosing = tf.reduce_prod(around, -1)
            value -= tf.math.divide_no_nan(enclosing - union, enclosing)
        else:
            apart = 0.5 * ((p_low + p_high) - (t_low + t_high))
            distance = tf.reduce_sum(apart**2, -1)
            penalty = tf.math.divide_no_nan(distance, tf.reduce_sum(around**2, -1))
            if kind == "ciou":
                aspect = _aspect(p_sides, t_sides)
                weight = tf.stop_gradient(tf.math.divide_no_nan(aspect, 1.0 - value + aspect))
                penalty += weight * aspect
            value -= penalty
    return tf.where(t_area > 0, 1.0 - value, 0.0)


def _aspect(p_sides: tf.Tensor, t_sides: tf.Tensor) -> tf.Tensor:
    """Return how far the aspect ratios differ, in [0, 1]: CIoU's v. A box without height has 0."""
    angles = [
        tf.atan(tf.math.divide_no_nan(sides[..., 1], sides[..., 0])) for sides in (p_sides, t_sides)
    ]
    return tf.square((angles[1] - angles[0]) * (2.0 / math.pi))


def decode_offsets(offsets: tf.Tensor, anchors: tf.Tensor, coder: Coder | None = None) -> tf.Tensor:
    """Return boxes (..., A, 4), (y_min, x_min, y_max, x_max) pixels, of offsets from anchors.

    Args:
        offsets: (..., A, 4) as the coder writes them. Logarithms of sides count as at most 10, a
            side 22,026 times the anchor's: a wild prediction must not make the loss, and with it
            every weight, infinite.
        anchors: (A, 4) pixels.
        coder: the encoder's `coder`; None: "centre" without standard deviations.
    """
    if coder is not None:
        offsets = offsets * tf.constant(coder.std, offsets.dtype)
    sides = anchors[:, 2:] - anchors[:, :2]
    if coder is not None and coder.kind == "corner":
        return anchors + offsets * tf.concat((sides, sides), axis=-1)
    centres = offsets[..., :2] * sides + (anchors[:, :2] + 0.5 * sides)
    half = 0.5 * tf.exp(tf.minimum(offsets[..., 2:], _LARGEST)) * sides
    return tf.concat((centres - half, centres + half), axis=-1)
