"""Weights from others' files into our models: all of them, each once, or an error that names both.

Files of google/automl: `.h5`, TF2 checkpoints and the released TF1 ones. Of a weight that has a
moving average in the file, the average is taken, as the official evaluation does.
"""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError
from ytrue.model.names import (
    automl_backbone,
    automl_detector,
    backbone_scope,
    keras_applications,
)

if TYPE_CHECKING:
    from ytrue.model.efficientdet import EfficientDet
    from ytrue.model.efficientnet import EfficientNet

Array = NDArray[Any]
HeadRule = Literal["load", "skip"]

_TF2_END: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
_TF2_AVERAGE: Final = "/.OPTIMIZER_SLOT/optimizer/average"
_TF1_AVERAGE: Final = "/ExponentialMovingAverage"
_TF1_SLOTS: Final = ("/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1")
# What training keeps beside weights; part of no model.
_STATE: Final = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", "global_step", "optimizer")


class Weights:
    """Named arrays of one file, read when asked for.

    Attributes:
        where: the file, for messages.
        kind: "keras" or "tf2", which of the official namings.
        shapes: name -> shape, training state left out.
    """

    def __init__(
        self,
        where: str,
        kind: Literal["keras", "tf2"],
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Array],
    ) -> None:
        self.where = where
        self.kind = kind
        self.shapes = shapes
        self.read = read


def load_detector(model: EfficientDet, path: str | Path, head: HeadRule = "load") -> None:
    """Put google/automl's weights of an EfficientDet into the model.

    Args:
        path: `.h5` file, folder or prefix of a TF1 or TF2 checkpoint, or a `.tar.gz` of one.
        head: "skip" leaves the class head's output as it is, for other `num_classes`.

    Raises:
        DataError: no weights there; or weights missing, surplus or of another shape, each named.
        ValueError: a model that the official one has no weights for.
    """
    if head not in ("load", "skip"):
        raise ValueError(f"head={head!r}: expected 'load' or 'skip'")
    _refuse_folded(model)
    named = automl_detector(model)
    output = model.class_head.towers[0][-1].weights if head == "skip" else []
    skipped = {id(variable) for variable in output}
    with _opened(Path(path)) as weights:
        wanted = {getattr(n, weights.kind): n.variable for n in named}
        passed = {name for name, variable in wanted.items() if id(variable) in skipped}
        hint = "pass head='skip' to keep the new class output, if only num_classes differs"
        _assign(
            {name: variable for name, variable in wanted.items() if name not in passed},
            weights,
            surplus=set(weights.shapes) - set(wanted),
            hint=hint,
        )


def load_backbone(model: EfficientNet, path: str | Path) -> None:
    """Put google/automl's weights of an EfficientNet into the model.

    The file may be a classifier's or a detector's, whose other parts are left alone.

    Raises:
        DataError: no weights there; or weights missing, surplus or of another shape, each named.
    """
    _refuse_folded(model)
    scope = f"{backbone_scope(model)}/"
    with _opened(Path(path)) as weights:
        wanted = {getattr(n, weights.kind): n.variable for n in automl_backbone(model)}
        scope = scope if weights.kind == "keras" else "backbone/"
        heads = (f"{scope}head/", f"{scope}_head/") if model.top is None else ()
        ours = {n for n in weights.shapes if n.startswith(scope) and not n.startswith(heads)}
        _assign(wanted, weights, surplus=ours - set(wanted), hint="is it another variant's file?")


def load_keras_applications(model: EfficientNet, other: Any) -> None:
    """Put the weights of a keras.applications EfficientNet (B0 to B7) into the model.

    Its rescaling and normalisation layers are not weights of ours: it takes 0 to 255, ours what
    `EfficientNet` says.

    Raises:
        DataError: weights missing, surplus or of another shape, each named.
    """
    _refuse_folded(model)
    inputs = ("rescaling", "normalization")
    found = {
        f"{layer.name}/{_part(weight)}": weight
        for layer in other.layers
        if not layer.name.startswith(inputs)
        for weight in layer.weights
    }
    wanted = {f"{layer}/{part}": variable for variable, layer, part in keras_applications(model)}
    top = ("top_conv/", "top_bn/", "predictions/") if model.top is None else ()
    weights = Weights(
        f"keras.applications model {other.name}",
        "keras",
        {name: tuple(weight.shape) for name, weight in found.items()},
        lambda name: np.asarray(found[name]),
    )
    surplus = {name for name in found if not name.startswith(top)} - set(wanted)
    _assign(wanted, weights, surplus=surplus, hint="is it another variant?")


def _part(weight: Any) -> str:
    name = str(weight.path).split("/")[-1]
    return "kernel" if name == "depthwise_kernel" else name


def assign(wanted: Mapping[str, Any], found: Mapping[str, Array], *, where: str, hint: str) -> None:
    """Give every variable the array of its name; both must have the same names and shapes.

    Raises:
        DataError: weights missing, surplus or of another shape, each named.
    """
    shapes = {name: array.shape for name, array in found.items()}
    weights = Weights(where, "keras", shapes, found.__getitem__)
    _assign(wanted, weights, surplus=set(found) - set(wanted), hint=hint)


def _assign(
    wanted: Mapping[str, Any], weights: Weights, *, surplus: Iterable[str], hint: str
) -> None:
    missing = [
        f"{name} {tuple(variable.shape)} for our {variable.path}"
        for name, variable in wanted.items()
        if name not in weights.shapes
    ]
    other = [
        f"{name} is {weights.shapes[name]}, our {variable.path} is {tuple(variable.shape)}"
        for name, variable in wanted.items()
        if name in weights.shapes and weights.shapes[name] != tuple(variable.shape)
    ]
    more = [f"{name} {weights.shapes[name]}" for name in sorted(surplus)]
    findings = [
        f"{len(lines)} {what}: {_some(lines)}"
        for what, lines in (("missing", missing), ("of another shape", other), ("surplus", more))
        if lines
    ]
    if findings:
        raise DataError(
            "the weights do not fit the model; " + "; ".join(findings), where=weights.where, do=hint
        )
    # All are read before one is assigned: a broken file leaves the model as it was.
    arrays = {name: weights.read(name) for name in wanted}
    for name, variable in wanted.items():
        variable.assign(arrays[name])


def _some(lines: list[str], count: int = 5) -> str:
    rest = len(lines) - count
    return ", ".join(lines[:count]) + (f" and {rest} more" if rest > 0 else "")


def _refuse_folded(model: Any) -> None:
    if model.get_config()["folded"]:
        raise ValueError("a folded model has no batch norms to load: load first, then fold()")


@contextmanager
def _opened(path: Path) -> Any:
    """Yield the `Weights` of a file or folder; what cannot be read in it is a DataError."""
    import tensorflow as tf

    try:
        with _opened_any(path) as weights:
            yield weights
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, tarfile.TarError, tf.errors.OpError, LookupError,
            AttributeError, TypeError, RuntimeError, ValueError, ArithmeticError,
            MemoryError) as error:  # fmt: skip
        said = str(error).strip().splitlines() or [""]
        raise DataError(
            f"the weights cannot be read: {type(error).__name__}: {said[0]}", where=str(path),
            do="is the file whole? get it again",
        ) from error  # fmt: skip


@contextmanager
def _opened_any(path: Path) -> Any:
    if path.name.endswith((".tar.gz", ".tgz")):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
            yield _checkpoint(Path(folder), str(path))
    elif path.suffix in (".h5", ".hdf5"):
        with _h5(path) as weights:
            yield weights
    else:
        yield _checkpoint(path, str(path))


@contextmanager
def _h5(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        if "layer_names" not in file.attrs:
            raise DataError(
                "the HDF5 file has no layer_names: it is no file of google/automl's weights",
                where=str(path),
                do="give the official .h5 file; weights that ytrue train wrote lie beside their "
                "run.json, those of Keras 3 are read by keras' load_weights",
            )
        sets = {
            name.removesuffix(":0"): file[group][name]
            for group in _texts(file.attrs["layer_names"])
            for name in _texts(file[group].attrs["weight_names"])
        }
        shapes = {name: tuple(data.shape) for name, data in sets.items()}
        yield Weights(str(path), "keras", shapes, lambda name: np.asarray(sets[name]))


def _texts(values: Iterable[Any]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _checkpoint(path: Path, where: str) -> Weights:
    """Open a TF1 or TF2 checkpoint by folder or prefix."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(_prefix(path, where)))
    shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    tf2 = "_CHECKPOINTABLE_OBJECT_GRAPH" in shapes
    tensor_of = _tf2_tensors(shapes) if tf2 else _tf1_tensors(shapes)
    return Weights(
        where,
        "tf2" if tf2 else "keras",
        {name: shapes[tensor] for name, tensor in tensor_of.items()},
        lambda name: np.asarray(reader.get_tensor(tensor_of[name])),
    )


def _prefix(path: Path, where: str) -> Path:
    if path.is_dir():
        found = sorted(path.rglob("*.index"))
        newest = _named_newest(path)
        if newest is not None:
            return newest
        if len(found) == 1:
            return found[0].with_suffix("")
        what = f"{len(found)} checkpoints" if found else "no checkpoint"
        raise DataError(
            f"the folder holds {what}",
            where=where,
            do="name one: the path without .index",
        )
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if not Path(f"{prefix}.index").exists():
        raise DataError(
            "no weights there",
            where=where,
            do="expected an .h5 file, a folder or prefix of a TensorFlow checkpoint, or a .tar.gz",
        )
    return prefix


def _named_newest(path: Path) -> Path | None:
    """Return what the file `checkpoint` in the folder (or its only subfolder) names."""
    import tensorflow as tf

    inner = [found.parent for found in path.rglob("checkpoint")]
    state = tf.train.get_checkpoint_state(str(inner[0])) if len(inner) == 1 else None
    if state is None:
        return None
    # The path may be absolute, of a folder that this one was copied from: its name counts.
    newest = inner[0] / Path(state.model_checkpoint_path).name
    return newest if Path(f"{newest}.index").exists() else None


def _tf2_tensors(shapes: Iterable[str]) -> dict[str, str]:
    tensors: dict[str, str] = {}
    averages: dict[str, str] = {}
    for tensor in shapes:
        name = tensor.removesuffix(_TF2_END)
        if name.endswith(_TF2_AVERAGE):
            averages[name.removesuffix(_TF2_AVERAGE)] = tensor
        elif "/.OPTIMIZER_SLOT/" not in name and name.split("/")[0] not in _STATE:
            tensors[name] = tensor
    return tensors | averages


def _tf1_tensors(shapes: Iterable[str]) -> dict[str, str]:
    tensors: dict[str, str] = {}
    averages: dict[str, str] = {}
    for tensor in shapes:
        if tensor.endswith(_TF1_AVERAGE):
            averages[tensor.removesuffix(_TF1_AVERAGE)] = tensor
        elif not tensor.endswith(_TF1_SLOTS) and tensor.split("/")[0] not in _STATE:
            tensors[tensor] = tensor
    return tensors | averages
