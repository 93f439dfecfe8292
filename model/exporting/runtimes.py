"""What runs an exported file: images to decoded outputs, which TFLite has read where they lie."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ytrue.model.exporting.lite import quiet_interpreter

T = TypeVar("T")
Outputs = Mapping[str, NDArray[np.float32]]
Library = Literal["ai_edge_litert", "tensorflow"]


class Run(Protocol):
    """A loaded file."""

    def __call__(self, images: NDArray[np.uint8], read: Callable[[Outputs], T]) -> list[T]:
        """Return what `read` makes of the outputs of each image.

        images: (B, height, width, 3) uint8. The arrays that `read` is given, of one image, without
        an axis for it, may be the runtime's own: it must not keep them. Calls from several threads
        may wait for each other, `read` included.
        """


def saved_model(path: Path) -> Run:
    """Return a call of the SavedModel on a batch of any size."""
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images: NDArray[np.uint8], read: Callable[[Outputs], T]) -> list[T]:
        found = serve(images=tf.constant(images))
        outputs = {name: array.numpy() for name, array in found.items()}
        return [
            read({name: array[row] for name, array in outputs.items()})
            for row in range(len(images))
        ]

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
    details = runner.get_output_details()
    views = {name: interpreter.tensor(int(of["index"])) for name, of in details.items()}
    busy = threading.Lock()

    def one(image: NDArray[np.uint8], read: Callable[[Outputs], T]) -> T:
        interpreter.set_tensor(images_in["index"], image)
        interpreter.invoke()
        return read({name: _borrowed(view())[0] for name, view in views.items()})

    def run(images: NDArray[np.uint8], read: Callable[[Outputs], T]) -> list[T]:
        with busy:
            return [one(images[i : i + 1], read) for i in range(len(images))]

    return run


def _borrowed(view: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an array of the same memory that does not hold the interpreter.

    That runs only while no view of its memory is left, and an error's traceback keeps all it saw.
    """
    memory: Any = (ctypes.c_float * view.size).from_address(view.ctypes.data)
    return np.frombuffer(memory, np.float32).reshape(view.shape)


def _interpreter(path: Path, threads: int, library: Library) -> Any:
    if library == "ai_edge_litert":
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_path=str(path), num_threads=threads)
    with quiet_interpreter():
        return tf.lite.Interpreter(model_path=str(path), num_threads=threads)
