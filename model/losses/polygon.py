"""`PolygonLoss`: YOLO's losses and those of the outline in polar bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import tensorflow as tf

from ytrue.contract import POSITIVE
from ytrue.model.losses.forms import check_form, check_present
from ytrue.model.losses.yolo import YoloLoss, rows_of

LEAST_DISTANCE: Final = 0.005
"""In diagonals of the box: a vertex beside the centre must not outweigh all others."""


class PolygonLoss(YoloLoss):
    """Poly-YOLO's loss on the targets of `PolygonEncoder`.

    Beside the parts of `YoloLoss`, with the same N, s and sums over positives, for each of V bins
    with distance r, place a and mark k (1 where the bin has a vertex), and d what the place's
    predicted distances are told in (`PolygonEncoder.distance_scale`):

        distance = 1 / N * sum of s * k * 1/2 * (log(max(r, LEAST_DISTANCE) / d) - raw)^2
        angle    = 1 / N * sum of s * k * H(a, p)
        vertex   = 1 / N * sum of s * H(k, p)
        loss     = YoloLoss + polygon_weight * (distance + angle + vertex)

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

    parts = ("objectness", "class", "box", "distance", "angle", "vertex")

    def __init__(
        self, distance_scales: Any = None, *, polygon_weight: float = 0.2, **options: Any
    ) -> None:
        super().__init__(**options)
        if not polygon_weight >= 0:
            raise ValueError(f"polygon_weight={polygon_weight}: expected 0 or more")
        scales = [1.0] if distance_scales is None else distance_scales
        self.log_scales = tf.math.log(tf.constant(scales, tf.float32))
        self.polygon_weight = polygon_weight

    def __call__(
        self,
        targets: Mapping[str, tf.Tensor],
        predictions: Mapping[str, tf.Tensor],
        training: bool = True,
    ) -> dict[str, tf.Tensor]:
        """Return "loss" and the six parts, () float32 each; see `YoloLoss`.

        Args:
            targets: those of `YoloLoss`, and polygon (B, ..., A, V, 3).
            predictions: those of `YoloLoss`, and polygon (B, ..., A, V, 3): the logarithm of the
                distance in its scale, the logits of the place in the bin and of the vertex.
            training: makes no difference to this loss.

        Raises:
            ValueError: arrays missing, or of shapes or dtypes that do not go together.
        """
        losses = super().__call__(targets, predictions, training=training)
        check_present("targets", targets, ("polygon",))
        check_present("predictions", predictions, ("polygon",))
        for name, side in (("targets' polygon", targets), ("predictions' polygon", predictions)):
            check_form(name, side["polygon"], (("B", "...", "A", "V", 3), False))
        state = tf.reshape(targets["state"], (-1,))
        places = tf.where(state == POSITIVE)[:, 0]
        share = self._share(state)
        weight = share * self._scale(rows_of(targets["box"], places), places)[:, None]
        true = rows_of(targets["polygon"], places, axes=2)  # (M, V, 3)
        raw = rows_of(predictions["polygon"], places, axes=2)
        vertex = true[..., 2]
        # Also where there is no vertex, and the distance 0.
        distance = tf.math.log(tf.maximum(true[..., 0], LEAST_DISTANCE))
        distance -= tf.gather(self.log_scales, places % tf.size(self.log_scales, tf.int64))[:, None]
        entropy = tf.nn.sigmoid_cross_entropy_with_logits
        parts = {
            "distance": weight * vertex * 0.5 * tf.square(distance - raw[..., 0]),
            "angle": weight * vertex * entropy(labels=true[..., 1], logits=raw[..., 1]),
            "vertex": weight * entropy(labels=vertex, logits=raw[..., 2]),
        }
        outline = {name: tf.reduce_sum(terms) for name, terms in parts.items()}
        losses["loss"] += self.polygon_weight * tf.add_n(list(outline.values()))
        return losses | outline
