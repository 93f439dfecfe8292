"""`KeypointHead`: classes and positions of points in the cells of pyramid levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras

from ytrue.errors import check_whole
from ytrue.model.cellheads import CellHeads
from ytrue.model.heads import Head


@keras.saving.register_keras_serializable("ytrue")
class KeypointHead(CellHeads):
    """Two towers on chosen levels: which classes stand in each slot, and where in its cell.

    It answers the targets of `KeypointGridEncoder(image_size, stride=s)` on the level of stride s;
    with `on="global"` those of `grid="global"`. See `CellHeads`.

    Args:
        num_classes: C.
        points_per_cell: P.
        prior: probability of every class at the start; positions start near the cells' centres.
        repeats, on, levels, activation, folded, survival_rate, separable: see `CellHeads`.

    Call:
        features, one a level, (B, h, w, channels). Returns {"class": logits, "xy": logits of the
        offsets (y, x)}, float32, of the shapes of the encoder's "label" and "offset" with B ahead:
        (B, h, w, P, C) and (B, h, w, P, 2) on one level; (B, cells, P, C) and (B, cells, P, 2) on
        several, in the order level, row, column; (B, 1, 1, P, C) and (B, 1, 1, P, 2) globally.

    Raises:
        ValueError: an argument out of range, named with its value; or at the call, a number of
            features that is not `levels`.
    """

    def __init__(
        self,
        num_classes: int,
        points_per_cell: int,
        repeats: int,
        *,
        on: Sequence[int] | Literal["global"],
        levels: int,
        activation: str = "swish",
        prior: float = 0.01,
        folded: bool = False,
        survival_rate: float | None = None,
        separable: bool = True,
        **kwargs: Any,
    ) -> None:
        check_whole("num_classes", num_classes, 1)
        check_whole("points_per_cell", points_per_cell, 1)
        common: dict[str, Any] = {
            "levels": levels,
            "activation": activation,
            "folded": folded,
            "survival_rate": survival_rate,
            "separable": separable,
        }
        super().__init__(
            points_per_cell, {"class": (num_classes,), "xy": (2,)}, repeats, on=on,
            priors={"class": prior}, **common, **kwargs,
        )  # fmt: skip
        self._arguments = {
            "num_classes": num_classes,
            "points_per_cell": points_per_cell,
            "repeats": repeats,
            "on": on if on == "global" else list(on),
            "prior": prior,
            **common,
        }

    @property
    def class_head(self) -> Head:
        """What tells the classes."""
        return self.heads["class"]

    @property
    def xy_head(self) -> Head:
        """What tells the positions."""
        return self.heads["xy"]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}
