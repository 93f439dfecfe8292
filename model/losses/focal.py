"""Focal loss from logits, finite in value and gradient for every gamma >= 0.

With z the logit of a negative and minus that of a positive, the loss of either is

    weight * g(z),   g(z) = sigmoid(z)^gamma * (softplus(z) - smoothing / 2 * z)

with weight 1 - alpha or alpha (row D7). The power is taken as exp(gamma * (z - softplus(z))), so
no power of a number near 0 is ever differentiated: the usual form gives nan or infinite gradients
below gamma 1. Smoothing moves the targets of the cross entropy only, as google/automl's.

Reference: Lin et al., https://arxiv.org/abs/1708.02002, and google/automl tf2/train_lib.py.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from ytrue.contract import IGNORE, POSITIVE
from ytrue.errors import check_from_zero
from ytrue.model.losses.forms import own_classes


def focal_terms(
    logits: tf.Tensor,
    targets: tf.Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Return the loss of each logit, of its shape, float32.

    Args:
        logits: any shape.
        targets: 0 or 1, of the same shape.
        alpha: weight of positives; negatives weigh 1 - alpha. None: both weigh 1.
        gamma: how much easy ones are played down; 0 is the plain cross entropy.
        label_smoothing: in [0, 1); the cross entropy's targets become `smoothing / 2` and
            `1 - smoothing / 2`.

    Raises:
        ValueError: an argument out of range, named with its value.
    """
    check(alpha, gamma, label_smoothing)
    logits, targets = tf.cast(logits, tf.float32), tf.cast(targets, tf.float32)
    positive = targets > 0.5
    z = tf.where(positive, -logits, logits)
    # log(1 - p_t) as a softplus, not a difference, so that automatic gradients do not cancel.
    power = tf.exp(-gamma * tf.math.softplus(-z))
    if alpha is not None:
        power = tf.where(positive, alpha, 1.0 - alpha) * power
    return power * _entropy(z, tf.math.softplus(z), label_smoothing)


def focal_loss(
    logits: tf.Tensor,
    label: tf.Tensor,
    state: tf.Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Return the sum of the loss over all classes of all anchors that are not ignored.

    Never makes a one-hot array: everything counts as negative first, and each positive anchor's
    one logit is exchanged. Value and gradient come from one pass, of three arrays or so of the
    logits' size at a time; the last, the gradient, waits for the backward pass. A graph in which
    nobody asks for the gradient does not compute it. A second derivative is refused.

    Args:
        logits: (B, A, C).
        label: (B, A) int, the class of each positive anchor, anything elsewhere.
        state: (B, A), 1 positive, 0 negative, -1 ignore.
        alpha, gamma, label_smoothing: see `focal_terms`.

    Returns:
        () float32.

    Raises:
        ValueError: an argument out of range, named with its value; a label that is none of the C
            classes (in a graph InvalidArgumentError; under XLA the loss is nan).
        NotImplementedError: a second derivative is asked for.
    """
    check(alpha, gamma, label_smoothing)

    logits = tf.convert_to_tensor(logits)
    rows = tf.reshape(logits, (-1, logits.shape[-1]))  # (N, C), N = B * A
    state = tf.reshape(state, (-1,))
    own, known = own_classes(tf.reshape(label, (-1,)), state, logits.shape[-1])

    @tf.custom_gradient
    def total(rows: tf.Tensor) -> Any:
        value, slope = _compact(rows, own, known, state, alpha, gamma, label_smoothing)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.cast(_once(rows, slope) * upstream, rows.dtype)

        return value, gradient

    return total(rows)


def _compact(
    rows: tf.Tensor,
    own: tf.Tensor,
    known: tf.Tensor,
    state: tf.Tensor,
    alpha: float,
    gamma: float,
    smoothing: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the loss and its gradient, () and (N, C), of logits (N, C) and own classes (N,).

    known: (N,) whether the own class is one of the C.
    """
    z = tf.cast(rows, tf.float32)
    one = tf.where(known, tf.gather(z, own, batch_dims=1), math.nan)  # (N,)
    weight = tf.where(state != IGNORE, 1.0 - alpha, 0.0)
    positive = state == POSITIVE
    softplus = tf.math.softplus(z)

    negatives = tf.reduce_sum(
        _power(z, softplus, gamma) * _entropy(z, softplus, smoothing), axis=-1
    )
    exchange = alpha * _value(-one, gamma, smoothing) - weight * _value(one, gamma, smoothing)
    # Not `weight * negatives`: an ignored logit that is no number counts nowhere, either.
    counted = tf.math.multiply_no_nan(negatives, weight)
    loss = tf.reduce_sum(counted + tf.where(positive, exchange, 0.0))

    # The slope waits for the loss, and its second factor for the first: run side by side they hold
    # more arrays of the logits' size. XLA, which fuses them, minds no order.
    with tf.control_dependencies([loss]):
        factor = _factor(z, softplus, gamma, smoothing)
        with tf.control_dependencies([factor]):
            power = _power(tf.identity(z), softplus, gamma)
        slope = tf.math.multiply_no_nan(power * factor, weight[:, None])
        exchange = tf.where(
            positive,
            -alpha * _slope(-one, gamma, smoothing),
            tf.math.multiply_no_nan(_slope(one, gamma, smoothing), weight),
        )
        places = tf.stack((tf.range(tf.size(own)), own), axis=1)
        return loss, tf.tensor_scatter_nd_update(slope, places, exchange)


def _once(rows: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Return `slope`, but differentiating it by the logits is an error instead of 0."""

    @tf.custom_gradient
    def first(_: tf.Tensor) -> Any:
        def second(_: tf.Tensor) -> tf.Tensor:
            raise NotImplementedError(
                "focal_loss has no second derivative: sum focal_terms of one-hot targets instead"
            )

        return tf.identity(slope), second

    return first(rows)


def _value(z: tf.Tensor, gamma: float, smoothing: float) -> tf.Tensor:
    softplus = tf.math.softplus(z)
    return _power(z, softplus, gamma) * _entropy(z, softplus, smoothing)


def _slope(z: tf.Tensor, gamma: float, smoothing: float) -> tf.Tensor:
    """Return dg/dz = _power * _factor."""
    softplus = tf.math.softplus(z)
    return _power(z, softplus, gamma) * _factor(z, softplus, gamma, smoothing)


def _power(z: tf.Tensor, softplus: tf.Tensor, gamma: float) -> tf.Tensor:
    return tf.exp((z - softplus) * gamma)


def _entropy(z: tf.Tensor, softplus: tf.Tensor, smoothing: float) -> tf.Tensor:
    return softplus - z * (smoothing / 2) if smoothing else softplus


def _factor(z: tf.Tensor, softplus: tf.Tensor, gamma: float, smoothing: float) -> tf.Tensor:
    """Return gamma * (1 - q) * entropy + q - smoothing / 2, with q = sigmoid(z)."""
    factor = tf.exp(z - softplus)
    if gamma:
        # gamma * (1 - q) from logarithms: where q rounds to 1 the entropy magnifies what is lost,
        # and a product with gamma TensorFlow would reorder to hold one more array.
        factor += tf.exp(math.log(gamma) - softplus) * _entropy(z, softplus, smoothing)
    return factor - smoothing / 2 if smoothing else factor


def check(alpha: float | None, gamma: float, label_smoothing: float) -> None:
    """Raise ValueError for arguments out of range."""
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: expected a weight in [0, 1], or None")
    check_from_zero("gamma", gamma)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}: expected a share in [0, 1)")
