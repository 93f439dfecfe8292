"""A graph as TFLite files: float32, float16 weights, int8 with a float tail."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def float32(function: Any, owner: Any) -> bytes:
    """Return the concrete function as a TFLite file; owner is what it belongs to."""
    return _converted(_converter(function, owner))


def float16(function: Any, owner: Any) -> bytes:
    """Return a TFLite file of half the size: float16 weights, computed with in float32."""
    converter = _converter(function, owner)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return _converted(converter)


def int8(function: Any, owner: Any, representative: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return a TFLite file with 8-bit weights and activations, but for its tail.

    From the heads' last convolution on the file stays in float32: sides grow by exp, so a step of
    an 8-bit offset is many pixels of a large anchor, and a step of an 8-bit score is 1/256.

    Args:
        function: takes one image.
        owner: what the function belongs to.
        representative: images (1, height, width, 3), whose activations set the 8-bit ranges.
    """
    converter = _converter(function, owner)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in representative)
    with quiet_interpreter():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=converter.representative_dataset
        )
        debugger.options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=_tail(debugger.calibrated_model)
        )
        return bytes(debugger.get_nondebug_quantized_model())


CONVERTERS: Final[dict[str, Callable[..., bytes]]] = {
    "float32": float32,
    "float16": float16,
    "int8": int8,
}


@contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Silence tf.lite.Interpreter's announcement that another package will take its place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        yield


def _converter(function: Any, owner: Any) -> Any:
    return tf.lite.TFLiteConverter.from_concrete_functions([function], owner)


def _converted(converter: Any) -> bytes:
    return bytes(converter.convert())


def _tail(model: bytes) -> list[str]:
    """Return the names of all tensors from each output back to the first convolution."""
    interpreter = tf.lite.Interpreter(
        model_content=model,
        experimental_op_resolver_type=(
            tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    # Public in no other way; TensorFlow's own quantisation debugger reads it, too.
    makers = {int(op["outputs"][0]): op for op in interpreter._get_ops_details()}
    ahead = [int(output["index"]) for output in interpreter.get_output_details()]
    tail: list[str] = []
    while ahead:
        tensor = ahead.pop()
        if tensor not in makers or names[tensor] in tail:
            continue
        tail.append(names[tensor])
        if makers[tensor]["op_name"] != "CONV_2D":
            ahead += [int(source) for source in makers[tensor]["inputs"] if source >= 0]
    return tail
