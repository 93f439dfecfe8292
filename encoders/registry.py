"""Name -> encoder class: the one line that a new encoder adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ytrue.contract import Encoder
from ytrue.encoders.anchor import AnchorEncoder
from ytrue.encoders.centernet import CenterNetEncoder
from ytrue.encoders.fcos import FCOSEncoder
from ytrue.encoders.keypoints import KeypointGridEncoder
from ytrue.encoders.mask import MaskEncoder
from ytrue.encoders.polygon import PolygonEncoder
from ytrue.encoders.pose import PoseEncoder
from ytrue.encoders.yolo import YoloEncoder

ENCODERS: Final[Mapping[str, type[Encoder]]] = {
    "anchor": AnchorEncoder,
    "centernet": CenterNetEncoder,
    "fcos": FCOSEncoder,
    "keypoint-grid": KeypointGridEncoder,
    "mask": MaskEncoder,
    "polygon": PolygonEncoder,
    "pose": PoseEncoder,
    "yolo": YoloEncoder,
}


def from_config(config: Mapping[str, Any]) -> Encoder:
    """Return the encoder whose `config()` this is.

    Raises:
        ValueError: no encoder of that name.
    """
    name = config.get("encoder")
    if not isinstance(name, str) or name not in ENCODERS:
        raise ValueError(
            f"config names the encoder {name!r}: expected one of {', '.join(ENCODERS)}"
        )
    return ENCODERS[name].from_config(config)
