"""`Loss`: what a loss of a detector is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

import tensorflow as tf


@runtime_checkable
class Loss(Protocol):
    """Compares an encoder's targets with a head's outputs."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what a call returns beside "loss"."""
        ...

    @property
    def variables(self) -> list[Any]:
        """What a call may change, such as a moving average."""
        ...

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,
    ) -> dict[str, tf.Tensor]:
        """Return the losses by name, () float32 each: "loss" is what is minimised.

        On a replica they are this replica's share times the number of replicas, so that their mean
        over replicas is the loss of the whole batch.
        """
        ...


def is_loss(value: Any) -> TypeGuard[Loss]:
    """Return whether something is a loss, made and not only its class."""
    return isinstance(value, Loss) and not isinstance(value, type)
