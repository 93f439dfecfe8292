"""`PolygonLoss`: YOLO's losses and those of the outline in polar bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import keras
import tensorflow as tf

from ytrue.errors import check_from_zero
from ytrue.model.losses.forms import Form, check_equal
from ytrue.model.losses.yolo import YoloLoss, rows_of

LEAST_DISTANCE: Final = 0.005
"""In diagonals of the box: a vertex beside the centre must not outweigh all others."""


@keras.saving.register_keras_serializable("ytrue")
class PolygonLoss(YoloLoss):
    """Poly-YOLO's loss on the targets of `PolygonEncoder`.

    Beside the parts of `YoloLoss`, with the same N, s and sums over positives, for each of V bins
    with distance r, place a and mark k (1 where the bin has a vertex), and d what the place's
    predicted distances are told in (`PolygonEncoder.distance_scale`):

        distance = 1 / N * sum of s * k * 1/2 * (log(max(r, LEAST_DISTANCE) / d) - raw)^2
        angle    = 1 / N * sum of s * k * H(a, p)
        vertex   = 1 / N * sum of s * H(k, p)
        loss     = YoloLoss + polygon_weight * (distance + angle + vertex)

    A call takes what `YoloLoss` does, and polygon (B, ..., A, V, 3) on both sides: of a prediction
    the logarithm of the distance in its scale, the logits of the place in the bin and of the vertex.

    Args:
        distance_scales: (P,) d of each place, in the order of the target's places; None: 1.
        polygon_weight: of the outline in the sum; 0.2 is Poly-YOLO's.
        options: of `YoloLoss`.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Hurtik et al. 2020 (Poly-YOLO), section 4; gitlab.com/irafm-ai/poly-yolo poly_yolo.py,
        yolo_loss, which divides by one positive more.
    """

    forms: ClassVar[Mapping[str, Form]] = {
        **YoloLoss.forms,
        "targets' polygon": (("B", "...", "A", "V", 3), False),
        "predictions' polygon": (("B", "...", "A", "V", 3), False),
    }

    def __init__(
        self, distance_scales: Any = None, *, polygon_weight: float = 0.2, **options: Any
    ) -> None:
        self._keep(locals())
        super().__init__(**options)
        check_from_zero("polygon_weight", polygon_weight)
        scales = [1.0] if distance_scales is None else distance_scales
        self.log_scales = tf.math.log(tf.constant(scales, tf.float32))
        self.weights |= dict.fromkeys(("distance", "angle", "vertex"), polygon_weight)

    def _checked(
        self, targets: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        arrays = super()._checked(targets, predictions)
        polygons = ("targets' polygon", "predictions' polygon")
        check_equal("numbers of bins differ", {name: arrays[name].shape[-2] for name in polygons})
        return arrays

    def _sums(
        self, arrays: Mapping[str, tf.Tensor], state: tf.Tensor, places: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        sums = super()._sums(arrays, state, places)
        scale = self._scale(rows_of(arrays["targets' box"], places), places)[:, None]
        true = rows_of(arrays["targets' polygon"], places, axes=2)  # (M, V, 3)
        raw = rows_of(arrays["predictions' polygon"], places, axes=2)
        vertex = true[..., 2]
        # Also where there is no vertex, and the distance 0.
        distance = tf.math.log(tf.maximum(true[..., 0], LEAST_DISTANCE))
        distance -= tf.gather(self.log_scales, places % tf.size(self.log_scales, tf.int64))[:, None]
        entropy = tf.nn.sigmoid_cross_entropy_with_logits
        terms = {
            "distance": vertex * 0.5 * tf.square(distance - raw[..., 0]),
            "angle": vertex * entropy(labels=true[..., 1], logits=raw[..., 1]),
            "vertex": entropy(labels=vertex, logits=raw[..., 2]),
        }
        return sums | {name: tf.reduce_sum(scale * term) for name, term in terms.items()}
