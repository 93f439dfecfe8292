"""EfficientDet: backbone, pyramid, a head for classes and one for boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from ytrue.model.bifpn import BiFPN
from ytrue.model.efficientnet import EfficientNet
from ytrue.model.heads import Head, Sharing
from ytrue.model.layers import Shape
from ytrue.model.losses import DetectionLoss, l2_loss
from ytrue.model.variants import DETECTORS, Fusion, known

MIN_LEVEL = 3


@keras.saving.register_keras_serializable("ytrue")
class EfficientDet(keras.Model):
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
        spec = DETECTORS[known(DETECTORS, variant, "EfficientDet variant")]
        super().__init__(**{"name": f"efficientdet-{variant}", **kwargs})
        fusion = spec.fusion if fusion is None else fusion
        self._arguments: dict[str, Any] = {
            "variant": variant,
            "num_classes": num_classes,
            "anchors": anchors,
            "fusion": fusion,
            "sharing": sharing,
            "survival_rate": survival_rate,
            "drop_connect_rate": drop_connect_rate,
            "prior": prior,
            "folded": folded,
        }
        self.variant = variant
        self.num_classes = num_classes
        self.image_size = spec.image_size
        self.levels = tuple(range(MIN_LEVEL, spec.max_level + 1))
        common: dict[str, Any] = {"folded": folded, "dtype": self.dtype_policy}
        self.backbone = EfficientNet(
            spec.backbone,
            include_top=False,
            drop_connect_rate=drop_connect_rate,
            pretrained=pretrained,
            **common,
        )
        common["activation"] = "relu6" if self.backbone.lite else "swish"
        self.pyramid = BiFPN(
            spec.filters,
            spec.cells,
            min_level=MIN_LEVEL,
            max_level=spec.max_level,
            fusion=fusion,
            name="pyramid",
            **common,
        )
        common |= {
            "levels": len(self.levels),
            "sharing": sharing,
            "survival_rate": survival_rate,
        }
        self.class_head = Head(
            anchors * num_classes, spec.head_repeats, prior=prior, name="class_head", **common
        )
        self.box_head = Head(anchors * 4, spec.head_repeats, name="box_head", **common)
        self.detection_loss: DetectionLoss | None = None
        self.loss_parts = {
            name: keras.metrics.Mean(name=f"{name}_loss") for name in ("class", "box", "iou", "l2")
        }
        self.build((None, None, None, 3))

    def build(self, input_shape: Shape) -> None:  # noqa: ARG002
        """Create the layers' weights, without a trace through them."""
        channels = self.backbone.channels[MIN_LEVEL - 1 :]
        self.pyramid.build([(None, None, None, width) for width in channels])
        for head in (self.class_head, self.box_head):
            head.build([(None, None, None, self.pyramid.filters)] * len(self.levels))

    def features(self, images: tf.Tensor, training: bool | None = None) -> list[tf.Tensor]:
        """Return the pyramid's features, what a head of your own would stand on."""
        features = self.backbone(images, training=training)
        return self.pyramid(features[MIN_LEVEL - 1 :], training=training)

    def call(self, images: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Return {"class": (B, A, C) logits, "box": (B, A, 4)}."""
        features = self.features(images, training=training)
        return {
            "class": self.class_head.flat(features, self.num_classes, training=training),
            "box": self.box_head.flat(features, 4, training=training),
        }

    def compile(  # type: ignore[override, unused-ignore]
        self,
        optimizer: Any = "rmsprop",
        loss: DetectionLoss | None = None,
        *,
        weight_decay: float = 4e-5,
        **kwargs: Any,
    ) -> None:
        """Make the model ready for `fit`.

        Args:
            optimizer: Keras' name or object.
            loss: compares the targets of `AnchorEncoder` with the outputs; None: google/automl's
                settings.
            weight_decay: of the L2 loss on kernels.
            **kwargs: Keras' own, such as `jit_compile`; False by default, as XLA is many times
                slower on a CPU.
        """
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})
        self.detection_loss = DetectionLoss() if loss is None else loss
        self.weight_decay = weight_decay

    def get_compile_config(self) -> None:
        """Return None: a model from a file is to be compiled again.

        Its loss may hold anchors, which no file keeps; to compile it with another would be worse.
        """
        return

    @property
    def metrics(self) -> list[Any]:
        """What `fit` reports: the loss and its parts."""
        iou = self.detection_loss is not None and self.detection_loss.iou is not None
        return [one for one in super().metrics if iou or one.name != "iou_loss"]

    def compute_loss(
        self,
        x: Any = None,  # noqa: ARG002
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Return this replica's share of the batch's loss, L2 included, for Keras' training step."""
        if self.detection_loss is None:
            raise ValueError("compile the model before training")
        if sample_weight is not None:
            raise ValueError("sample weights are not supported: leave anchors out by state -1")
        losses = self.detection_loss(y, y_pred, training=training)
        total = losses.pop("loss")
        losses["l2"] = l2_loss(self.trainable_variables, self.weight_decay)
        for name, value in losses.items():
            self.loss_parts[name].update_state(value)
        # Keras sums gradients over replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return (total + losses["l2"]) / replicas

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**self._arguments, "name": self.name, "dtype": self.dtype_policy.name}

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

    def fold(self) -> EfficientDet:
        """Return a copy for prediction whose batch norms are folded into the convolutions.

        Outputs equal the model's to float32 rounding. The copy cannot be trained further.
        """
        from ytrue.model.folding import folded

        return folded(self)
