"""What runs an exported file: one call, images to decoded outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ytrue.model.exporting.lite import quiet_interpreter

Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
Library = Literal["ai_edge_litert", "tensorflow"]


def saved_model(path: Path) -> Run:
    """Return a call of the SavedModel on a batch of any size."""
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {name: array.numpy() for name, array in serve(images=tf.constant(images)).items()}

    # The signature does not keep what it was loaded with alive.
    run.__dict__["loaded"] = loaded
    return run


def lite(path: Path, threads: int, library: Library | None = None) -> Run:
    """Return a call of the TFLite file, image by image.

    library: whose interpreter; None: `ai_edge_litert`'s where it is installed, whose XNNPACK is
    newer and faster, otherwise TensorFlow's.
    """
    if library is None:
        library = "ai_edge_litert" if find_spec("ai_edge_litert") else "tensorflow"
    interpreter = _interpreter(path, threads, library)
    interpreter.allocate_tensors()
    (images_in,) = interpreter.get_input_details()
    runner = interpreter.get_signature_runner()
    outputs = {name: int(detail["index"]) for name, detail in runner.get_output_details().items()}
    busy = threading.Lock()

    def one(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        interpreter.set_tensor(images_in["index"], image)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with busy:
            found = [one(images[i : i + 1]) for i in range(len(images))]
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([each[name] for each in found]) for name in outputs}

    return run


def _interpreter(path: Path, threads: int, library: Library) -> Any:
    if library == "ai_edge_litert":
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_path=str(path), num_threads=threads)
    with quiet_interpreter():
        return tf.lite.Interpreter(model_path=str(path), num_threads=threads)
