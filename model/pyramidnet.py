"""`PyramidNet`: an EfficientNet, a pyramid, and the last layers that stand on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import keras
import tensorflow as tf

from ytrue.contract import part_of
from ytrue.model.bifpn import BiFPN
from ytrue.model.boxheads import BoxHeads
from ytrue.model.centernetheads import CenterHead
from ytrue.model.efficientnet import EfficientNet
from ytrue.model.fcosheads import FCOSHead
from ytrue.model.folding import constant_weights, folded
from ytrue.model.keypointheads import KeypointHead
from ytrue.model.layers import Shape
from ytrue.model.losses import (
    CenterNetLoss,
    DetectionLoss,
    FCOSLoss,
    JointLoss,
    KeypointLoss,
    Loss,
    MaskLoss,
    PolygonLoss,
    YoloLoss,
    l2_loss,
)
from ytrue.model.losses.loss import is_loss
from ytrue.model.maskheads import MaskHeads
from ytrue.model.variants import DETECTORS, Fusion, known
from ytrue.model.yoloheads import YoloHead

MIN_LEVEL: Final = 3

HEADS: Final[Mapping[str, tuple[type[keras.layers.Layer], type[Loss]]]] = {
    "anchor": (BoxHeads, DetectionLoss),
    "keypoint-grid": (KeypointHead, KeypointLoss),
    "mask": (MaskHeads, MaskLoss),
    "fcos": (FCOSHead, FCOSLoss),
    "centernet": (CenterHead, CenterNetLoss),
    "yolo": (YoloHead, YoloLoss),
    "polygon": (YoloHead, PolygonLoss),
}
"""Name of the encoder -> the last layer that answers its targets, and the loss between the two."""


@keras.saving.register_keras_serializable("ytrue")
class PyramidNet(keras.Model):
    """A detector of any task: EfficientNet and BiFPN as EfficientDet has them, with other heads.

    Args:
        variant: "d0" to "d7", "d7x", "lite0" to "lite4", "lite3x", "nano".
        heads: name -> {"kind": a key of `HEADS`, and the arguments of that layer}, plain JSON
            values; `ytrue.model.tasks` makes them for an encoder.
        fusion: of the pyramid; None: the variant's. See `ytrue.model.BiFPN`.
        drop_connect_rate: of the backbone; see `ytrue.model.EfficientNet`.
        pretrained: weights of the backbone, "lite0-imagenet" (extra `pretrained`).
        folded: without batch norms, their arithmetic in the kernels; see `fold`.

    Call:
        images (B, height, width, 3) of any size; uint8 RGB, which is normalised as the variant
        wants, or floats, normalised already. Returns the head's outputs by name, float32; of
        several heads each by "head/name".

    Raises:
        ValueError: no such variant or kind of head, or an argument out of range.

    Example:
        >>> head = {"kind": "keypoint-grid", "num_classes": 17, "points_per_cell": 1, "on": [0]}
        >>> net = PyramidNet("nano", {"keypoints": head})
        >>> {name: array.shape[1:] for name, array in net(np.zeros((1, 64, 96, 3))).items()}
        {'class': TensorShape([8, 12, 1, 17]), 'xy': TensorShape([8, 12, 1, 2])}
    """

    def __init__(
        self,
        variant: str,
        heads: Mapping[str, Mapping[str, Any]],
        *,
        fusion: Fusion | None = None,
        drop_connect_rate: float = 0.2,
        pretrained: str | None = None,
        folded: bool = False,
        **kwargs: Any,
    ) -> None:
        spec = DETECTORS[known(DETECTORS, variant, "EfficientDet variant")]
        for name, head in heads.items():
            if head.get("kind") not in HEADS:
                raise ValueError(
                    f"head {name!r} is of kind {head.get('kind')!r}: expected one of "
                    f"{', '.join(HEADS)}"
                )
        if not heads:
            raise ValueError("heads is empty: expected one at least")
        super().__init__(**{"name": f"{variant}-{'-'.join(heads)}", **kwargs})
        fusion = spec.fusion if fusion is None else fusion
        self._arguments: dict[str, Any] = {
            "variant": variant,
            "heads": {name: dict(head) for name, head in heads.items()},
            "fusion": fusion,
            "drop_connect_rate": drop_connect_rate,
            "folded": folded,
        }
        self.variant = variant
        self.image_size = spec.image_size
        self.levels = levels_of(variant)
        common: dict[str, Any] = {"folded": folded, "dtype": self.dtype_policy}
        self.backbone = EfficientNet(
            spec.backbone,
            include_top=False,
            drop_connect_rate=drop_connect_rate,
            pretrained=pretrained,
            **common,
        )
        common["activation"] = "relu6" if self.backbone.lite else "swish"
        wanted = sorted({k for head in heads.values() for k in self._on(head)})
        self.pyramid = BiFPN(
            spec.filters,
            spec.cells,
            min_level=MIN_LEVEL,
            max_level=spec.max_level,
            fusion=fusion,
            wanted=[self.levels[k] for k in wanted],
            name="pyramid",
            **common,
        )
        common |= {"levels": len(wanted), "repeats": spec.head_repeats}
        self.heads = {
            name: HEADS[head["kind"]][0](**_arguments(head, wanted), name=f"{name}_heads", **common)
            for name, head in heads.items()
        }
        self.head_settings = {name: dict(head) for name, head in heads.items()}
        self.detection_loss: Loss | None = None
        self._meters = _Meters()
        self.trainable = not folded
        self.build((None, None, None, 3))

    def _on(self, head: Mapping[str, Any]) -> list[int]:
        """Return which of the levels a head stands on."""
        count = len(self.levels)
        on = head.get("on", range(count))
        places = [count - 1] if on == "global" else list(on)
        if not set(places) <= set(range(count)):
            raise ValueError(f"on={on}: {self.variant} has {count} levels, from 0")
        return places

    def build(self, input_shape: Shape) -> None:  # noqa: ARG002
        """Create the layers' weights, without a trace through them."""
        channels = self.backbone.channels[MIN_LEVEL - 1 :]
        self.pyramid.build([(None, None, None, width) for width in channels])
        for head in self.heads.values():
            head.build([(None, None, None, self.pyramid.filters)] * len(self.pyramid.wanted))

    def features(self, images: tf.Tensor, training: bool | None = None) -> list[tf.Tensor]:
        """Return the pyramid's features that heads stand on, fine to coarse."""
        features = self.backbone(images, training=training)
        return self.pyramid(features[MIN_LEVEL - 1 :], training=training)

    def call(self, images: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Return the heads' outputs by name."""
        with constant_weights(self, training):
            features = self.features(images, training=training)
            outputs = {name: head(features, training=training) for name, head in self.heads.items()}
        if len(outputs) == 1:
            (alone,) = outputs.values()
            return alone
        return {part_of(head, name): x for head in outputs for name, x in outputs[head].items()}

    def _default_loss(self) -> Loss:
        losses = {name: HEADS[head["kind"]][1]() for name, head in self.head_settings.items()}
        return JointLoss(losses) if len(losses) > 1 else losses.popitem()[1]

    def _default_names(self) -> str:
        losses = [f"{HEADS[head['kind']][1].__name__}()" for head in self.head_settings.values()]
        return losses[0] if len(losses) == 1 else f"JointLoss of {', '.join(losses)}"

    def compile(  # type: ignore[override, unused-ignore]
        self,
        optimizer: Any = "rmsprop",
        loss: Loss | None = None,
        *,
        weight_decay: float = 4e-5,
        **kwargs: Any,
    ) -> None:
        """Make the model ready for `fit`.

        Args:
            optimizer: Keras' name or object.
            loss: compares the encoder's targets with the outputs; None: the heads' own with its
                default settings, which are google/automl's for boxes.
            weight_decay: of the L2 loss on kernels.
            **kwargs: Keras' own, such as `jit_compile`; False by default, as XLA is many times
                slower on a CPU.

        Raises:
            ValueError: a loss of Keras, which knows one output alone.
        """
        if loss is not None and not is_loss(loss):
            raise ValueError(
                f"loss={loss!r}: it compares one output with one target, a detector's compares all "
                f"with all; pass a loss of ytrue.model.losses, such as {self._default_names()}, or "
                "None for it"
            )
        super().compile(optimizer=optimizer, **{"jit_compile": False, **kwargs})
        self.detection_loss = self._default_loss() if loss is None else loss
        self._meters = _Meters(*self.detection_loss.parts, "l2")
        self.weight_decay = weight_decay

    def get_compile_config(self) -> None:
        """Return None: a model from a file is to be compiled again.

        Its loss may hold anchors, which no file keeps; to compile it with another would be worse.
        """
        return

    @property
    def metrics(self) -> list[Any]:
        """What `fit` reports: the loss and its parts."""
        return [*super().metrics, *self._meters.means.values()]

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
            self._meters.means[name].update_state(value)
        # Keras sums gradients over replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return (total + losses["l2"]) / replicas

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**self._arguments, "name": self.name, "dtype": self.dtype_policy.name}

    def fold(self) -> Self:
        """Return a copy for prediction whose batch norms are folded into the convolutions.

        Outputs equal the model's to float32 rounding. The copy cannot be trained further, and its
        weights are not to be changed: what is compiled of it, by `tf.function` or `predict`, holds
        those of a small model (`ytrue.model.folding.CONSTANT_BYTES`) as constants.
        """
        return folded(self)


def levels_of(variant: str) -> tuple[int, ...]:
    """Return the pyramid levels of a variant, fine to coarse.

    Raises:
        ValueError: no such variant.
    """
    spec = DETECTORS[known(DETECTORS, variant, "EfficientDet variant")]
    return tuple(range(MIN_LEVEL, spec.max_level + 1))


class _Meters:
    """Means of the parts of the loss. In an object of its own: Keras tracks none after building."""

    def __init__(self, *names: str) -> None:
        self.means = {name: keras.metrics.Mean(name=f"{name}_loss") for name in names}


def _arguments(head: Mapping[str, Any], wanted: list[int]) -> dict[str, Any]:
    """Return the arguments of a head's layer, which is given the wanted levels only."""
    given = {name: value for name, value in head.items() if name != "kind"}
    if isinstance(given.get("on"), list | tuple):
        given["on"] = [wanted.index(k) for k in given["on"]]
    return given
