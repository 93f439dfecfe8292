"""EfficientNet and EfficientDet in Keras 3, their losses and official weights."""

from ytrue.model.bifpn import BiFPN
from ytrue.model.efficientdet import EfficientDet
from ytrue.model.efficientnet import EfficientNet
from ytrue.model.heads import Head
from ytrue.model.losses import DetectionLoss

__all__ = ["BiFPN", "DetectionLoss", "EfficientDet", "EfficientNet", "Head"]
