"""`ConfiguredLoss`: a loss that Keras can train with, write to a file and make again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import tensorflow as tf

from ytrue.model.losses import kerascompile


class ConfiguredLoss:
    """A loss that the arguments it was made of describe wholly, as Keras' `get_config` wants it."""

    _arguments: Mapping[str, Any] = {}

    def _keep(self, arguments: Mapping[str, Any]) -> None:
        """Keep the arguments of a class's `__init__`, its `locals()` before anything else is."""
        kerascompile.install()
        own = {k: v for k, v in arguments.items() if k not in ("self", "__class__", "options")}
        self._arguments = {**self._arguments, **own}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain JSON values."""
        return {name: _plain(value) for name, value in self._arguments.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the loss that `get_config()` described."""
        return cls(**config)


def _plain(value: Any) -> Any:
    if isinstance(value, tf.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(map(_plain, value)) if isinstance(value, tuple) else value
