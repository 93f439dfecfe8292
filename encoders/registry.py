"""Name -> encoder class: the one line that a new encoder adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ytrue.contract import Encoder
from ytrue.encoders.anchor import AnchorEncoder
from ytrue.encoders.keypoints import KeypointGridEncoder
from ytrue.encoders.pose import PoseEncoder

ENCODERS: Final[
    Mapping[str, type[AnchorEncoder] | type[KeypointGridEncoder] | type[PoseEncoder]]
] = {
    "anchor": AnchorEncoder,
    "keypoint-grid": KeypointGridEncoder,
    "pose": PoseEncoder,
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
