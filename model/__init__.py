"""EfficientNet and EfficientDet in Keras 3, their losses and official weights."""

from ytrue.model.bifpn import BiFPN
from ytrue.model.efficientdet import EfficientDet
from ytrue.model.efficientnet import EfficientNet
from ytrue.model.heads import Head

__all__ = ["BiFPN", "EfficientDet", "EfficientNet", "Head"]
