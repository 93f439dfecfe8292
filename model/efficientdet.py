"""`EfficientDet`: the network with a head for classes and one for boxes, as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import keras

from ytrue.model.boxheads import BoxHeads
from ytrue.model.heads import Head, Sharing
from ytrue.model.pyramidnet import PyramidNet
from ytrue.model.variants import Fusion


@keras.saving.register_keras_serializable("ytrue")
class EfficientDet(PyramidNet):
    """EfficientDet D0 to D7x and lite0 to lite4.

    Args:
        variant: "d0" to "d7", "d7x", "lite0" to "lite4", "lite3x".
        num_classes: classes without background.
        anchors: anchors in a cell.
        fusion: of the pyramid; None: the variant's. See `ytrue.model.BiFPN`.
        sharing: of the heads' kernels over levels; see `ytrue.model.Head`.
        survival_rate: of the heads' identity adds; see `ytrue.model.Head`.
        drop_connect_rate: of the backbone; see `ytrue.model.EfficientNet`.
        prior: probability of every class at the start.
        pretrained: weights of the backbone, "lite0-imagenet" (extra `pretrained`).
        folded: without batch norms, their arithmetic in the kernels; see `fold`.

    Call:
        images (B, height, width, 3) of any size; uint8 RGB, which is normalised as the variant
        wants, or floats, normalised already. Returns {"class": (B, A, num_classes) logits,
        "box": (B, A, 4) offsets (ty, tx, th, tw)}, float32, in the order of `AnchorGrid`'s anchors
        of that image size.

    Raises:
        ValueError: no such variant, or an argument out of range.

    Example:
        >>> EfficientDet("d0", num_classes=90).count_params()
        3927203
    """

    def __init__(
        self,
        variant: str,
        num_classes: int,
        *,
        anchors: int = 9,
        fusion: Fusion | None = None,
        sharing: Sharing = "shared",
        survival_rate: float | None = None,
        drop_connect_rate: float = 0.2,
        prior: float = 0.01,
        pretrained: str | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        own = {
            "num_classes": num_classes,
            "anchors": anchors,
            "sharing": sharing,
            "survival_rate": survival_rate,
            "prior": prior,
        }
        super().__init__(
            variant,
            {"box": {"kind": "anchor", **own}},
            fusion=fusion,
            drop_connect_rate=drop_connect_rate,
            pretrained=pretrained,
            folded=folded,
            **{"name": f"efficientdet-{variant}", **kwargs},
        )
        self.num_classes = num_classes
        del self._arguments["heads"]
        self._arguments |= own

    @property
    def _both(self) -> BoxHeads:
        heads: BoxHeads = self.heads["box"]
        return heads

    @property
    def class_head(self) -> Head:
        """What tells the classes."""
        return self._both.class_head

    @property
    def box_head(self) -> Head:
        """What tells the boxes."""
        return self._both.box_head

    def load_official(self, path: str | Path, head: Literal["load", "skip"] = "load") -> None:
        """Load google/automl's weights; see `ytrue.model.checkpoints.load_detector`.

        Args:
            path: `.h5` file, folder or prefix of a TF1 or TF2 checkpoint, or a `.tar.gz` of one.
            head: "skip" leaves the class head's output as it is, for other `num_classes`.

        Raises:
            DataError: no weights there; or weights missing, surplus or of another shape.
        """
        from ytrue.model.checkpoints import load_detector

        load_detector(self, path, head)
