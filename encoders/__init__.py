"""Annotations to targets. NumPy and numba only."""

from ytrue.encoders.anchor import AnchorEncoder
from ytrue.encoders.cellgrid import CellGrid
from ytrue.encoders.centernet import CenterNetEncoder
from ytrue.encoders.coders import BoxCoder
from ytrue.encoders.fcos import FCOSEncoder
from ytrue.encoders.grid import AnchorGrid
from ytrue.encoders.keypoints import KeypointGridEncoder
from ytrue.encoders.mask import MaskEncoder
from ytrue.encoders.polygon import PolygonEncoder
from ytrue.encoders.pose import PoseEncoder
from ytrue.encoders.presets import PRESETS, preset
from ytrue.encoders.registry import ENCODERS, from_config
from ytrue.encoders.yolo import YoloEncoder

__all__ = [
    "AnchorEncoder",
    "AnchorGrid",
    "BoxCoder",
    "CellGrid",
    "CenterNetEncoder",
    "ENCODERS",
    "FCOSEncoder",
    "KeypointGridEncoder",
    "MaskEncoder",
    "PRESETS",
    "PolygonEncoder",
    "PoseEncoder",
    "YoloEncoder",
    "from_config",
    "preset",
]
