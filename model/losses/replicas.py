"""Counts of the whole batch, where each replica holds a part of it."""

from __future__ import annotations

import tensorflow as tf


def over_replicas(count: tf.Tensor) -> tuple[tf.Tensor, int]:
    """Return the sum of each replica's count over all replicas, and the number of replicas.

    Losses divided by `sum / replicas` have the whole batch's loss as their mean over replicas.

    Args:
        count: () float32, this replica's.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        return count, 1
    return context.all_reduce(tf.distribute.ReduceOp.SUM, count), context.num_replicas_in_sync
