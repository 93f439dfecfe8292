"""Presets are data: name -> parameters and source. Each is held to official outputs in tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from ytrue.encoders.anchor import AnchorEncoder
from ytrue.encoders.coders import BoxCoder
from ytrue.encoders.grid import AnchorGrid, Shape

GRID_ARGUMENTS: Final = tuple(
    field.name for field in fields(AnchorGrid) if field.name != "image_size"
)
ENCODER_ARGUMENTS: Final = tuple(
    field.name for field in fields(AnchorEncoder) if field.name not in ("grid", "num_classes")
)

_LEVELS: Final = range(3, 8)
_ONE_SQUARE: Final = {"num_scales": 1, "aspect_ratios": (1.0,), "anchor_scale": 8.0}


@dataclass(frozen=True)
class Preset:
    """Parameters of the grid and of the encoder, and where they come from."""

    source: str
    summary: str
    grid: Callable[[], dict[str, Any]]
    encoder: dict[str, Any]

    @property
    def own_anchors(self) -> bool:
        """Whether its anchors are its own, so that no argument of a grid can be chosen."""
        return "shapes" in self.grid()


def _fizyr_shapes() -> list[list[Shape]]:
    """Return keras-retinanet's anchors: ratios (height / width) outside, scales inside.

    Scales and ratios are float32 there, which moves an anchor by a millionth of a pixel.
    """
    scales = np.array([2**0, 2 ** (1 / 3), 2 ** (2 / 3)], np.float32).astype(np.float64)
    ratios = np.array([0.5, 1, 2], np.float32).astype(np.float64)
    levels = []
    for level in _LEVELS:
        sides = 2 ** (level + 2) * scales
        widths = [math.sqrt(side * side / ratio) for ratio in ratios for side in sides]
        heights = np.array(widths) * np.repeat(ratios, 3)
        levels.append(list(zip(heights.tolist(), widths, strict=True)))
    return levels


def _keras_hub_shapes() -> list[list[Shape]]:
    """Return keras-hub's anchors: sides cut to whole pixels, half sides rounded to whole pixels."""
    levels = []
    for level in _LEVELS:
        sides = [int(2**level * 4 * 2 ** (octave / 3)) for octave in range(3)]
        levels.append(
            [
                (_whole(math.sqrt(ratio) * side), _whole(1 / math.sqrt(ratio) * side))
                for ratio in (0.5, 1.0, 2.0)
                for side in sides
            ]
        )
    return levels


def _whole(side: float) -> float:
    return 2.0 * round(side / 2)


PRESETS: Final[dict[str, Preset]] = {
    "ytrue": Preset(
        source="RetinaNet's thresholds, YOLACT's greedy reservation, EfficientDet's anchors",
        summary="positive from 0.5, ignore from 0.4, every object owns an anchor, crowds ignored",
        grid=dict,
        encoder={},
    ),
    "efficientdet": Preset(
        source="google/automl efficientdet/tf2/anchors.py, AnchorLabeler (commit 6a54c87)",
        summary="one threshold, no ignore, each object's best anchor forced, bug for bug",
        grid=dict,
        encoder={
            "negative_iou": 0.5,
            "force": "argmax",
            "min_force_iou": -1.0,
            "crowd": "negative",
            "degenerate": "match",
        },
    ),
    "retinanet": Preset(
        source="fizyr/keras-retinanet utils/anchors.py, anchor_targets_bbox (commit 7ac91df)",
        summary="float64, ignore strictly above 0.4, no forcing, corner offsets, bug for bug",
        grid=lambda: {"shapes": _fizyr_shapes(), "stride": "power", "precision": "float64"},
        encoder={
            # There IoU > 0.4 is ignored, here IoU >= negative_iou: the next number does both.
            "negative_iou": math.nextafter(0.4, 1.0),
            "force": "none",
            "crowd": "negative",
            "padding": "ignore-positive",
            "degenerate": "match",
            "coder": BoxCoder("corner", std=(0.2, 0.2, 0.2, 0.2)),
        },
    ),
    "keras_hub": Preset(
        source="keras-team/keras-hub RetinaNetLabelEncoder (commit 71453d0)",
        summary="whole-pixel anchors at the cells' corners, no forcing, bug for bug",
        grid=lambda: {"shapes": _keras_hub_shapes(), "stride": "floor", "cell_offset": 0.0},
        encoder={
            "force": "none",
            "crowd": "negative",
            "degenerate": "match",
            "coder": BoxCoder(epsilon=1e-7),
            "union_epsilon": 1e-7,
        },
    ),
    "atss": Preset(
        source="Zhang et al. 2020 (ATSS), algorithm 1, k = 9; anchors and coder of sfzhang15/ATSS",
        summary="one square anchor a cell, threshold from each object's own candidates, no forcing",
        grid=lambda: dict(_ONE_SQUARE),
        encoder={"matcher": "atss", "force": "none", "coder": BoxCoder(std=(0.1, 0.1, 0.2, 0.2))},
    ),
    "center_prior": Preset(
        source="3 x 3 cells about the centre, as YOLOX has them, on anchors; YOLACT's reservation",
        summary="one square anchor a cell, those of its shape nearest an object's centre, no IoU",
        grid=lambda: dict(_ONE_SQUARE, anchor_scale=4.0),
        encoder={"matcher": "center-prior"},
    ),
}


def preset(
    name: str, image_size: int | Sequence[int], num_classes: int, **arguments: Any
) -> AnchorEncoder:
    """Return the encoder of a preset.

    Args:
        name: "ytrue", "efficientdet", "retinanet", "keras_hub", "atss" or "center_prior" (see
            `PRESETS`).
        image_size: (height, width) of the network input in pixels; one number for a square.
        num_classes: labels lie in [0, num_classes).
        arguments: of `AnchorGrid` and `AnchorEncoder` in place of the preset's own, such as
            `anchor_scale=3.0` or `positive_iou=0.6`.

    Raises:
        ValueError: an unknown name or argument, one out of range, or another grid for a preset
            whose anchors are its own.

    Example:
        >>> preset("ytrue", (512, 512), num_classes=90).spec["box"]
        ((49104, 4), dtype('float32'))
        >>> preset("atss", 512, num_classes=90, top_k=5).top_k
        5
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    chosen = PRESETS[name]
    grid = {key: value for key, value in arguments.items() if key in GRID_ARGUMENTS}
    encoder = {key: value for key, value in arguments.items() if key in ENCODER_ARGUMENTS}
    if chosen.own_anchors and grid:
        raise ValueError(
            f"preset {name!r} has anchors of its own, so {', '.join(grid)} cannot be chosen: take "
            "preset 'ytrue' or 'efficientdet'"
        )
    unknown = [key for key in arguments if key not in grid and key not in encoder]
    if unknown:
        takes = (*(() if chosen.own_anchors else GRID_ARGUMENTS), *ENCODER_ARGUMENTS)
        raise ValueError(f"preset {name!r} takes {', '.join(takes)}, no {', '.join(unknown)}")
    return AnchorEncoder(
        AnchorGrid(image_size, **chosen.grid() | grid), num_classes, **chosen.encoder | encoder
    )
