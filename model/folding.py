"""Batch norms folded into the convolutions before them: fewer steps, equal outputs.

In inference a batch norm is x * scale + shift, channel by channel, so its scale goes into the
kernel and the rest into a bias. Where batch norms of several levels share one kernel, each level
gets a kernel of its own. The pyramid's fusion weights become the shares that they stand for.

A folded model does not learn, so the graphs made of a small one hold its weights as constants:
oneDNN lays a constant kernel out once, a variable's with every call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope, in_stateless_scope  # public under no other name
from numpy.typing import NDArray

from ytrue.model.bifpn import Fuse
from ytrue.model.layers import ConvNorm

Model = TypeVar("Model", bound=keras.Model)

CONSTANT_BYTES: Final = 32_000_000
"""Most weights, bytes, that are constants: up to D1 and lite2. A graph and what TensorFlow makes of
it hold about twelve copies of a constant, and the images of larger networks are so large that the
layout of kernels takes next to no time."""


def folded(model: Model) -> Model:
    """Return a copy of the model without batch norms, for prediction.

    Raises:
        ValueError: the model is folded already.
    """
    config = model.get_config()
    if config["folded"]:
        raise ValueError(f"{model.name} is folded already")
    copy = type(model).from_config({**config, "folded": True})
    for source, target in zip(_leaves(model), _leaves(copy), strict=True):
        if isinstance(source, ConvNorm):
            _fold(source, target)
        elif isinstance(source, Fuse):
            _copy(source.shares() if source.fusion_weights else [], target.weights)
        else:
            _copy(source.weights, target.weights)
    return copy


@contextmanager
def constant_weights(model: keras.Model, training: bool | None) -> Iterator[None]:
    """Where a graph for prediction is made of a small folded model, let its weights be constants.

    Elsewhere, where Keras has put other values in the weights' place, and within the call of a
    model that asked for the same, it does nothing.
    """
    folded = model.get_config()["folded"] and not training
    if not folded or tf.executing_eagerly() or in_stateless_scope() or _ASKED.get():
        yield
        return
    asked = _ASKED.set(True)
    try:
        with _constants_of(model) if _bytes(model) <= CONSTANT_BYTES else nullcontext():
            yield
    finally:
        _ASKED.reset(asked)


_ASKED: ContextVar[bool] = ContextVar("asked", default=False)


def _constants_of(model: keras.Model) -> Any:
    with AutocastScope(None):  # as they are kept, whatever the layers compute in
        with tf.init_scope():
            values = [weight.numpy() for weight in model.weights]
        return keras.StatelessScope(zip(model.weights, map(_constant, values), strict=True))


def _bytes(model: keras.Model) -> int:
    return sum(tf.as_dtype(weight.dtype).size * math.prod(weight.shape) for weight in model.weights)


def _constant(value: NDArray[Any]) -> tf.Tensor:
    constant = tf.constant(value)
    if value.any():
        return constant
    # TensorFlow would leave out the sum with a bias of zeros, and fuses no convolution without one.
    return tf.raw_ops.PlaceholderWithDefault(input=constant, shape=constant.shape)


def _copy(values: Iterable[Any], variables: Iterable[Any]) -> None:
    for value, variable in zip(values, variables, strict=True):
        variable.assign(value)


def _leaves(layer: Any) -> Iterator[Any]:
    """Yield the layers that own weights, in one order for a model and its folded copy."""
    inner = [] if isinstance(layer, ConvNorm) else list(layer._flatten_layers(False, False))
    if not inner:
        if layer.weights:
            yield layer
        return
    own = {id(weight) for weight in layer.weights}
    own -= {id(weight) for one in inner for weight in one.weights}
    assert not own, f"{layer.path} holds weights beside layers"
    for one in inner:
        yield from _leaves(one)


def _fold(source: ConvNorm, target: ConvNorm) -> None:
    if source.kind == "separable":
        _copy(source.depthwise_kernels, target.depthwise_kernels)
    if not source.norms:
        _copy(source.kernels, target.kernels)
        _copy(source.biases, target.biases)
        return
    bias = source.biases[0].numpy() if source.biases else 0.0
    for level, norm in enumerate(source.norms):
        scale, shift = norm.scale_and_shift()
        if source.kind == "depthwise":
            scaled = source.depthwise_kernels[0].numpy() * scale[:, None]
            target.depthwise_kernels[level].assign(scaled)
        else:
            target.kernels[level].assign(source.kernels[0].numpy() * scale)
        target.biases[level].assign(bias * scale + shift)
