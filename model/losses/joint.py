"""`JointLoss`: the losses of several heads together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import keras
import tensorflow as tf

from ytrue.contract import part_of, parts_of
from ytrue.errors import check_from_zero
from ytrue.model.losses.configured import ConfiguredLoss
from ytrue.model.losses.loss import Loss


@keras.saving.register_keras_serializable("ytrue")
class JointLoss(ConfiguredLoss):
    """The weighted sum of the losses of several heads.

    Args:
        losses: name of the head -> its loss. Targets and outputs are named "head/name".
        weights: name of the head -> weight; 1 where none is given.

    Raises:
        ValueError: a weight for no head, or below 0.
    """

    def __init__(
        self, losses: Mapping[str, Loss], weights: Mapping[str, float] | None = None
    ) -> None:
        self._keep(locals())
        self.losses = dict(losses)
        self.weights = dict.fromkeys(losses, 1.0) | dict(weights or {})
        unknown = self.weights.keys() - losses.keys()
        if unknown:
            raise ValueError(
                f"weights for {', '.join(sorted(unknown))}: the heads are {', '.join(losses)}"
            )
        for name, weight in self.weights.items():
            check_from_zero(f"weights[{name!r}]", weight)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain JSON values."""
        losses = {
            name: keras.saving.serialize_keras_object(one) for name, one in self.losses.items()
        }
        return {"losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the loss that `get_config()` described."""
        losses = {
            name: keras.saving.deserialize_keras_object(one)
            for name, one in config["losses"].items()
        }
        return cls(losses, config["weights"])

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what a call returns beside "loss"."""
        return tuple(
            part_of(head, name) for head, loss in self.losses.items() for name in loss.parts
        )

    @property
    def variables(self) -> list[Any]:
        """What a call may change."""
        return [variable for loss in self.losses.values() for variable in loss.variables]

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,
    ) -> dict[str, tf.Tensor]:
        """Return "loss", and every head's parts as "head/name", () float32 each.

        Raises:
            ValueError: as the heads' losses; targets or outputs of a head are missing.
        """
        wanted, given = parts_of(targets), parts_of(predictions)
        total, found = tf.constant(0.0), dict[str, tf.Tensor]()
        for head, loss in self.losses.items():
            losses = loss(wanted.get(head, {}), given.get(head, {}), training=training)
            total += self.weights[head] * losses.pop("loss")
            found |= {part_of(head, name): value for name, value in losses.items()}
        return {"loss": total, **found}
