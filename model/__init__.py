"""EfficientNet and EfficientDet in Keras 3, their losses and official weights; evaluation.

Keras loads only with a name that needs it: `ytrue.model.evaluate` compares files without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ytrue.model.bifpn import BiFPN
    from ytrue.model.efficientdet import EfficientDet
    from ytrue.model.efficientnet import EfficientNet
    from ytrue.model.heads import Head
    from ytrue.model.losses import DetectionLoss, KeypointLoss
    from ytrue.model.predict import Detector
    from ytrue.model.pyramidnet import PyramidNet
    from ytrue.model.recipe import Recipe
    from ytrue.model.training import train

_HOME = {
    "BiFPN": "bifpn",
    "DetectionLoss": "losses",
    "Detector": "predict",
    "EfficientDet": "efficientdet",
    "EfficientNet": "efficientnet",
    "Head": "heads",
    "KeypointLoss": "losses",
    "PyramidNet": "pyramidnet",
    "Recipe": "recipe",
    "train": "training",
}

__all__ = [
    "BiFPN",
    "DetectionLoss",
    "Detector",
    "EfficientDet",
    "EfficientNet",
    "Head",
    "KeypointLoss",
    "PyramidNet",
    "Recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"ytrue.model.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ytrue.model' has no attribute {name!r}")
