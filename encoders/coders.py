"""How a box is told relative to its anchor, and back."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.arguments import numbers_of
from ytrue.errors import check_choice, check_number

CODERS: Final = ("centre", "corner")
LARGEST_LOG: Final = math.log(1000 / 16)
"""Where predicted log sides are cut, so that exp stays finite (torchvision, detectron2)."""


@dataclass(frozen=True)
class BoxCoder:
    """A box relative to an anchor, four numbers in the order (y, x, y, x).

    "centre": `((cy - cy_a) / h_a, (cx - cx_a) / w_a, log(h / h_a), log(w / w_a)) / std`, sides
    not below `epsilon` (google/automl; with std (.1, .1, .2, .2) SSD's).
    "corner": `((y_min - y_min_a) / h_a, (x_min - x_min_a) / w_a, ...) / std` (keras-retinanet).

    The law: `decode(encode(box)) == box` up to rounding, for boxes with area.

    Args:
        kind: "centre" or "corner".
        std: four divisors, in the order of the output.
        epsilon: the shortest side that is told apart, pixels; for "centre" only.

    Reference:
        google/automl object_detection/faster_rcnn_box_coder.py; fizyr/keras-retinanet
        utils/anchors.py, bbox_transform.
    """

    kind: Literal["centre", "corner"] = "centre"
    std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", numbers_of(self.std))
        object.__setattr__(self, "epsilon", check_number("epsilon", self.epsilon))
        check_choice("kind", self.kind, CODERS)
        if len(self.std) != 4 or not all(0 < number < math.inf for number in self.std):
            raise ValueError(f"std={self.std}: expected four numbers above 0")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon={self.epsilon}: expected a number in (0, 1)")

    def config(self) -> dict[str, Any]:
        """Return the arguments as plain JSON values."""
        return asdict(self) | {"std": list(self.std)}

    def decode(
        self, offsets: NDArray[Any], anchors: NDArray[Any], *, largest_log: float = math.inf
    ) -> NDArray[np.float32]:
        """Return (..., 4) float32 boxes `(y_min, x_min, y_max, x_max)` in the anchors' pixels.

        Args:
            offsets: (..., 4) what `encode` wrote or a network predicted.
            anchors: (..., 4) the anchors' boxes.
            largest_log: upper bound of the log sides; for predictions `LARGEST_LOG`.
        """
        offsets = offsets.astype(np.float64) * np.array(self.std)
        low, high = anchors[..., :2].astype(np.float64), anchors[..., 2:].astype(np.float64)
        side = high - low
        if self.kind == "corner":
            corners = (low + offsets[..., :2] * side, high + offsets[..., 2:] * side)
        else:
            centre = low + side / 2 + offsets[..., :2] * side
            half = np.exp(np.minimum(offsets[..., 2:], largest_log)) * side / 2
            corners = (centre - half, centre + half)
        return np.concatenate(corners, axis=-1).astype(np.float32)
