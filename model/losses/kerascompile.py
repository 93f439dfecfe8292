"""Losses of ours in `compile` of any Keras model.

Keras 3.15 hands a loss one output at a time, with the target of the same name. A detector's losses
compare all outputs with all targets: which anchors count in the box loss stands in the state. For a
loss of ours, and for no other, `keras.Model.compile` is given what hands on the whole of both.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras.src.trainers import trainer
from keras.src.trainers.compile_utils import CompileLoss

from ytrue.model.losses.loss import is_loss


class WholeLoss(CompileLoss):
    """Keras' keeper of a compiled loss, for one that compares all outputs with all targets."""

    def call(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """Return this replica's share of the batch's loss."""
        if sample_weight is not None:
            raise ValueError("sample weights are not supported: leave anchors out by state -1")
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return self._user_loss(y_true, y_pred)["loss"] / replicas


def install() -> None:
    """Let `keras.Model.compile` take losses of ours; everything else is as it was."""
    trainer.CompileLoss = _compile_loss


def _compile_loss(loss: Any, loss_weights: Any = None, **options: Any) -> CompileLoss:
    if not is_loss(loss):
        return CompileLoss(loss, loss_weights, **options)
    if loss_weights is not None:
        raise ValueError("loss_weights: the parts of a detector's loss have weights of their own")
    if loss.variables:
        raise ValueError(
            "normalizer='moving_average': Keras does not say whether it trains, so evaluation "
            "would move the average; take normalizer='batch', or a PyramidNet"
        )
    return WholeLoss(loss, **options)
