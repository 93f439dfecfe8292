"""Focal loss from logits, finite in value and gradient for every gamma >= 0.

With z the logit of a negative and minus that of a positive, the loss of either is

    weight * g(z),   g(z) = sigmoid(z)^gamma * (softplus(z) - smoothing / 2 * z)

with weight 1 - alpha or alpha (row D7). The power is taken as exp(-gamma * softplus(-z)), so no
power of a number near 0 is ever differentiated: the usual form gives nan or infinite gradients
below gamma 1. Smoothing moves the targets of the cross entropy only, as google/automl's.

Reference: Lin et al., https://arxiv.org/abs/1708.02002, and google/automl tf2/train_lib.py.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ytrue.contract import IGNORE, POSITIVE


def focal_terms(
    logits: tf.Tensor,
    targets: tf.Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Return the loss of each logit, of its shape, float32.

    Args:
        logits: any shape.
        targets: 0 or 1, of the same shape.
        alpha: weight of positives; negatives weigh 1 - alpha.
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
    weight = tf.where(positive, alpha, 1.0 - alpha)
    return weight * _value(z, gamma, label_smoothing)


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
    one logit is exchanged. The gradient is computed from the logits again, so that nothing of
    their size is kept for it; it cannot be differentiated a second time.

    Args:
        logits: (B, A, C).
        label: (B, A) int, the class of each positive anchor, anything elsewhere.
        state: (B, A), 1 positive, 0 negative, -1 ignore.
        alpha, gamma, label_smoothing: see `focal_terms`.

    Returns:
        () float32.

    Raises:
        ValueError: an argument out of range, named with its value.
    """
    check(alpha, gamma, label_smoothing)

    @tf.custom_gradient
    def total(logits: tf.Tensor) -> Any:
        dtype = logits.dtype
        counted = tf.cast(state != IGNORE, tf.float32)[..., None]  # (B, A, 1)
        places = tf.where(state == POSITIVE)  # (P, 2)
        chosen = tf.cast(tf.gather_nd(label, places), places.dtype)
        places = tf.concat((places, chosen[:, None]), axis=1)  # (P, 3)
        one = tf.cast(tf.gather_nd(logits, places), tf.float32)
        everything = tf.cast(logits, tf.float32)
        negatives = tf.reduce_sum(_value(everything, gamma, label_smoothing) * counted)
        wrongly = tf.reduce_sum(_value(one, gamma, label_smoothing))
        positives = tf.reduce_sum(_value(-one, gamma, label_smoothing))

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            slope = _slope(tf.cast(logits, tf.float32), gamma, label_smoothing)
            slope *= counted * (upstream * (1.0 - alpha))
            right = _slope(-one, gamma, label_smoothing) * (-alpha * upstream)
            return tf.cast(tf.tensor_scatter_nd_update(slope, places, right), dtype)

        return (1.0 - alpha) * (negatives - wrongly) + alpha * positives, gradient

    return total(logits)


def _value(z: tf.Tensor, gamma: float, smoothing: float) -> tf.Tensor:
    entropy = tf.math.softplus(z)
    if smoothing:
        entropy -= 0.5 * smoothing * z
    if gamma:
        entropy *= tf.exp(-gamma * tf.math.softplus(-z))
    return entropy


def _slope(z: tf.Tensor, gamma: float, smoothing: float) -> tf.Tensor:
    """Return dg/dz."""
    slope = tf.sigmoid(z)
    if smoothing:
        slope -= 0.5 * smoothing
    if not gamma:
        return slope
    entropy = tf.math.softplus(z)
    if smoothing:
        entropy -= 0.5 * smoothing * z
    slope += entropy * (gamma * tf.sigmoid(-z))
    return slope * tf.exp(-gamma * tf.math.softplus(-z))


def check(alpha: float, gamma: float, label_smoothing: float) -> None:
    """Raise ValueError for arguments out of range."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: expected a weight in [0, 1]")
    if not gamma >= 0:
        raise ValueError(f"gamma={gamma}: expected 0 or more")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}: expected a share in [0, 1)")
