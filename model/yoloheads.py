"""`YoloHead`: what answers the targets of `YoloEncoder`, and of `PolygonEncoder` on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ytrue.errors import check_whole
from ytrue.model.cellheads import CellHeads
from ytrue.model.heads import Sharing


@keras.saving.register_keras_serializable("ytrue")
class YoloHead(CellHeads):
    """Towers on chosen levels: objectness, class and box of every anchor, and its polygon.

    Args:
        num_classes: C.
        anchors: A, anchors in a cell.
        bins: V of the polygons; None for boxes only.
        prior: objectness at the start; classes start at 0.5, as only positives teach them.
        sharing: "shared" kernels, or "individual" ones for each level; see `Head`.
        repeats, on, levels, activation, folded, survival_rate: see `CellHeads`.

    Call:
        features, one a level, (B, h, w, channels). Returns {"objectness": (B, *cells, A) logits,
        "class": (B, *cells, A, C) logits, "box": (B, *cells, A, 4)}, with `bins` also "polygon":
        (B, *cells, A, V, 3), float32; cells are those of the encoder's arrays.

    Raises:
        ValueError: an argument out of range, named with its value; or at the call, a number of
            features that is not `levels`.
    """

    def __init__(
        self,
        num_classes: int,
        anchors: int,
        repeats: int,
        *,
        on: Sequence[int],
        levels: int,
        bins: int | None = None,
        activation: str = "swish",
        prior: float = 0.01,
        folded: bool = False,
        sharing: Sharing = "shared",
        survival_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        check_whole("num_classes", num_classes, 1)
        check_whole("anchors", anchors, 1)
        common: dict[str, Any] = {
            "levels": levels,
            "activation": activation,
            "folded": folded,
            "sharing": sharing,
            "survival_rate": survival_rate,
        }
        numbers: dict[str, tuple[int, ...]] = {
            "objectness": (),
            "class": (num_classes,),
            "box": (4,),
        }
        if bins is not None:
            check_whole("bins", bins, 3)
            numbers["polygon"] = (bins, 3)
        super().__init__(
            anchors, numbers, repeats, on=on, priors={"objectness": prior}, **common, **kwargs
        )
        self._arguments = {
            "num_classes": num_classes,
            "anchors": anchors,
            "repeats": repeats,
            "on": list(on),
            "bins": bins,
            "prior": prior,
            **common,
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}
