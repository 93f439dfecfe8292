"""The published sizes of EfficientNet and EfficientDet, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Activation = Literal["swish", "relu6"]
Fusion = Literal["fast", "softmax", "sum", "channel_fast", "channel_softmax"]


@dataclass(frozen=True)
class Stage:
    """Blocks of one shape, as B0 has them; the first one strides and widens."""

    repeats: int
    kernel_size: int
    strides: int
    expansion: int
    filters: int


@dataclass(frozen=True)
class Backbone:
    """How one EfficientNet differs from B0.

    The lite ones drop squeeze-excite, cap activations at 6 and leave stem, first and last stage
    and the classifier's width unscaled.
    """

    width: float
    depth: float
    image_size: int
    dropout_rate: float
    lite: bool = False

    @property
    def activation(self) -> Activation:
        """What follows every normalised convolution but the projecting ones."""
        return "relu6" if self.lite else "swish"


@dataclass(frozen=True)
class Detector:
    """How one EfficientDet is scaled (table 1 of the paper; lite: google/automl's hparams)."""

    backbone: str
    image_size: int
    filters: int
    cells: int
    head_repeats: int
    fusion: Fusion = "fast"
    anchor_scale: float = 4.0
    max_level: int = 7


# Table 1 of https://arxiv.org/abs/1905.11946; google/automl efficientnetv2 and
# backbone/efficientnet_builder.py hold the same strings.
STAGES: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_FILTERS: Final = 32
TOP_FILTERS: Final = 1280
EXCITE_RATIO: Final = 0.25

BACKBONES: Final = {
    "b0": Backbone(1.0, 1.0, 224, 0.2),
    "b1": Backbone(1.0, 1.1, 240, 0.2),
    "b2": Backbone(1.1, 1.2, 260, 0.3),
    "b3": Backbone(1.2, 1.4, 300, 0.3),
    "b4": Backbone(1.4, 1.8, 380, 0.4),
    "b5": Backbone(1.6, 2.2, 456, 0.4),
    "b6": Backbone(1.8, 2.6, 528, 0.5),
    "b7": Backbone(2.0, 3.1, 600, 0.5),
    "lite0": Backbone(1.0, 1.0, 224, 0.2, lite=True),
    "lite1": Backbone(1.0, 1.1, 240, 0.2, lite=True),
    "lite2": Backbone(1.1, 1.2, 260, 0.3, lite=True),
    "lite3": Backbone(1.2, 1.4, 280, 0.3, lite=True),
    "lite4": Backbone(1.4, 1.8, 300, 0.3, lite=True),
    # Our own: small enough to be trained in minutes on a CPU. No official weights.
    "nano": Backbone(0.5, 0.5, 224, 0.2, lite=True),
}

# https://arxiv.org/abs/1911.09070 and google/automl efficientdet/hparams_config.py.
DETECTORS: Final = {
    "d0": Detector("b0", 512, 64, 3, 3),
    "d1": Detector("b1", 640, 88, 4, 3),
    "d2": Detector("b2", 768, 112, 5, 3),
    "d3": Detector("b3", 896, 160, 6, 4),
    "d4": Detector("b4", 1024, 224, 7, 4),
    "d5": Detector("b5", 1280, 288, 7, 4),
    "d6": Detector("b6", 1280, 384, 8, 5, "sum"),
    "d7": Detector("b6", 1536, 384, 8, 5, "sum", anchor_scale=5.0),
    "d7x": Detector("b7", 1536, 384, 8, 5, "sum", max_level=8),
    "lite0": Detector("lite0", 320, 64, 3, 3, "sum", anchor_scale=3.0),
    "lite1": Detector("lite1", 384, 88, 4, 3, "sum", anchor_scale=3.0),
    "lite2": Detector("lite2", 448, 112, 5, 3, "sum", anchor_scale=3.0),
    "lite3": Detector("lite3", 512, 160, 6, 4, "sum"),
    "lite3x": Detector("lite3", 640, 200, 6, 4, "sum", anchor_scale=3.0),
    "lite4": Detector("lite4", 640, 224, 7, 4, "sum"),
    "nano": Detector("nano", 256, 32, 1, 1, "sum", anchor_scale=2.0),
}


def scaled_filters(filters: int, width: float) -> int:
    """Return filters * width rounded to a multiple of 8, never more than 10 % below.

    Reference: round_filters in google/automl backbone/efficientnet_model.py.

    Example:
        >>> scaled_filters(40, 1.1), scaled_filters(32, 1.2)
        (48, 40)
    """
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def known(table: dict[str, Backbone] | dict[str, Detector], name: str, what: str) -> str:
    """Return the name if the table has it.

    Raises:
        ValueError: it has not; the message lists the names.
    """
    if name not in table:
        raise ValueError(f"{what} {name!r}: expected one of {', '.join(table)}")
    return name
