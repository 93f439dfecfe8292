"""Files to datasets to batches. TensorFlow loads only where batches are made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ytrue.datasets.augment import Augment, light, strong
    from ytrue.datasets.converting import convert
    from ytrue.datasets.dataset import Dataset
    from ytrue.datasets.loading import FORMATS, load
    from ytrue.datasets.records import write_records
    from ytrue.datasets.shapes import write_shapes
    from ytrue.datasets.tfdata import Report, pipeline

_HOME = {
    "Augment": "augment",
    "light": "augment",
    "strong": "augment",
    "convert": "converting",
    "Dataset": "dataset",
    "Report": "tfdata",
    "FORMATS": "loading",
    "load": "loading",
    "write_records": "records",
    "write_shapes": "shapes",
    "pipeline": "tfdata",
}

__all__ = [
    "Augment",
    "Dataset",
    "FORMATS",
    "Report",
    "convert",
    "light",
    "load",
    "pipeline",
    "strong",
    "write_records",
    "write_shapes",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"ytrue.datasets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ytrue.datasets' has no attribute {name!r}")
