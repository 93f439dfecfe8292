"""One training step on any number of replicas, where Keras' `fit` does not reach.

`fit` trains on one device and under MirroredStrategy. Under MultiWorkerMirroredStrategy Keras 3.15
fails on its own metrics; the step here does the same arithmetic and works under all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from ytrue.model.losses import l2_loss

if TYPE_CHECKING:
    from ytrue.model.averaging import WeightAverage
    from ytrue.model.pyramidnet import PyramidNet


def training_step(
    model: PyramidNet,
    strategy: tf.distribute.Strategy | None = None,
    *,
    average: WeightAverage | None = None,
    clip_norm: float = 0.0,
    spec: Any = None,
) -> Callable[[Any], dict[str, tf.Tensor]]:
    """Return a compiled function of a batch that trains the model and returns its losses.

    Args:
        model: compiled, and made under `strategy.scope()`.
        strategy: None for one device.
        average: of the model's weights, updated after each step.
        clip_norm: largest norm of all gradients of the whole batch together; 0: any. (Keras' own
            `global_clipnorm` does the same and took nearly half of a small model's step.)
        spec: `element_spec` of the (distributed) dataset. With it the step is compiled once also
            where shapes differ from batch to batch, as those of masks do; without it, for the
            first shapes and then for all.

    Returns:
        A function of (images, targets), an element of a (distributed) dataset, returning
        {"loss": the whole batch's, the parts of it by name, "l2": ...}.

    Raises:
        ValueError: the model is not compiled.
    """
    loss = model.detection_loss
    if loss is None:
        raise ValueError("compile the model before training")
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    replicas = strategy.num_replicas_in_sync
    # One norm for all, and one replica's overflow is all's: Keras' loss scale asks the first alone.
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    together = replicas > 1 and (scaled or clip_norm > 0)

    def on_replica(images: Any, targets: Any) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = loss(targets, model(images, training=True))
            losses["l2"] = l2_loss(model.trainable_variables, model.weight_decay)
            losses["loss"] += losses["l2"]
            share = model.optimizer.scale_loss(losses["loss"] / replicas)
        gradients = tape.gradient(share, model.trainable_variables)
        if together:
            gradients = _averaged(gradients)
        if clip_norm:
            gradients, _ = tf.clip_by_global_norm(
                gradients, clip_norm / replicas * model.optimizer.scale_loss(1.0)
            )
        # apply_gradients sums over the replicas.
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        if average is not None:
            average.update(model.optimizer.iterations)
        return losses

    @tf.function(input_signature=None if spec is None else [spec], reduce_retracing=True)
    def step(batch: Any) -> dict[str, tf.Tensor]:
        losses = strategy.run(on_replica, args=batch)
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
            for name, value in losses.items()
        }

    return step


def _averaged(gradients: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Return the means over the replicas."""
    context = tf.distribute.get_replica_context()
    present = [g for g in gradients if g is not None]
    means = iter(context.all_reduce(tf.distribute.ReduceOp.MEAN, present))
    return [g if g is None else next(means) for g in gradients]
