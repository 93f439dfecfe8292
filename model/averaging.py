"""The moving average of a model's weights, batch norm statistics included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


class WeightAverage:
    """Keeps average = decay * average + (1 - decay) * weights, decay growing with the steps.

    After n updates the decay is min(`decay`, (1 + n) / (10 + n)), so that the random start is soon
    forgotten.

    Args:
        model: whose weights are followed, whole numbers (seeds) aside.
        decay: the highest.

    Reference:
        tf.train.ExponentialMovingAverage with num_updates, as google/automl uses it (0.9998).
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self.decay = decay
        self.followed = [w for w in model.weights if w.dtype.startswith(("float", "bfloat"))]
        # On several replicas all hold the same weights: one is enough.
        self.averages = [
            keras.Variable(
                keras.ops.copy(weight.value),
                dtype=weight.dtype,
                trainable=False,
                aggregation="only_first_replica",
                name=f"average_{place}",
            )
            for place, weight in enumerate(self.followed)
        ]

    def update(self, iterations: Any) -> None:
        """Take the weights in, after `iterations` steps."""
        n = tf.cast(iterations, tf.float32)
        decay = tf.minimum(self.decay, (1.0 + n) / (10.0 + n))
        for average, weight in zip(self.averages, self.followed, strict=True):
            rate = tf.cast(1.0 - decay, average.dtype)
            before = tf.convert_to_tensor(average)
            average.assign(before - (before - tf.convert_to_tensor(weight)) * rate)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the model; on leaving, the weights are back, bit for bit."""
        own = [weight.numpy() for weight in self.followed]
        for weight, average in zip(self.followed, self.averages, strict=True):
            weight.assign(average.numpy())
        try:
            yield
        finally:
            for weight, values in zip(self.followed, own, strict=True):
                weight.assign(values)
