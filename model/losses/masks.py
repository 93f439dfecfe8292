"""`MaskLoss`: that of boxes on anchors, and of the masks that their coefficients make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import keras
import tensorflow as tf

from ytrue.contract import POSITIVE
from ytrue.errors import check_count, check_from_zero
from ytrue.model.losses.detection import DetectionLoss
from ytrue.model.losses.forms import Form, arrays_of, check_equal

MARGIN: Final = 1.0
"""Cells around an object's box that count, too."""

_FORMS: Final[dict[str, Form]] = {
    "targets' object": (("B", "A"), True),
    "targets' masks": (("B", "N", "h", "w"), True),
    "targets' mask_state": (("B", "N"), True),
    "targets' mask_box": (("B", "N", 4), False),
    "predictions' coefficients": (("B", "A", "K"), False),
    "predictions' prototypes": (("B", "h", "w", "K"), False),
}


@keras.saving.register_keras_serializable("ytrue")
class MaskLoss(DetectionLoss):
    """YOLACT's mask loss beside `DetectionLoss`, on the targets of `MaskEncoder`.

    For a positive whose object has a mask t (h, w) and, in cells, a box of height b_h and width
    b_w, with x the sum of the prototypes weighted by the positive's coefficients and
    H(t, p) = -t log p - (1 - t) log(1 - p),

        mask = 1 / N * sum over these positives of sum over cells of H(t, sigmoid(x)) / (b_h * b_w)
        loss = DetectionLoss + mask_weight * mask

    N is the number of positives that `DetectionLoss` divides by. The cells are those that touch the
    box, and one more all around; b_h * b_w counts as 1 at least. Of an image's positives with
    masks at most `max_masks` are looked at, evenly spread in the order of anchors, and weigh the
    more for it: the sum stands for all of them.

    Args:
        mask_weight: of the masks in the sum; 6.125 is YOLACT's.
        max_masks: most positives of an image whose masks are compared.
        options: of `DetectionLoss`.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Bolya et al. 2019 (YOLACT), section 3; github.com/dbolya/yolact
        layers/modules/multibox_loss.py, lincomb_mask_loss, which draws the positives at random. Its
        classes are learnt by a softmax and the hardest negatives, here by the focal loss.
    """

    def __init__(self, *, mask_weight: float = 6.125, max_masks: int = 100, **options: Any) -> None:
        self._keep(locals())
        super().__init__(**options)
        check_from_zero("mask_weight", mask_weight)
        check_count("max_masks", max_masks)
        self.max_masks = int(max_masks)
        self.weights["mask"] = mask_weight

    def config(self) -> dict[str, Any]:
        """Return the arguments, but anchors, as plain JSON values."""
        return super().config() | {
            "mask_weight": self.weights["mask"],
            "max_masks": self.max_masks,
        }

    def _sums(
        self, targets: Mapping[str, tf.Tensor], predictions: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        arrays = arrays_of(targets, predictions, _FORMS)
        shapes = {name: arrays[name].shape for name in _FORMS}
        for axis, at in (("rows", (2, 1)), ("columns", (3, 2))):
            check_equal(
                f"numbers of {axis} differ",
                {"targets' masks": shapes["targets' masks"][at[0]],
                 "predictions' prototypes": shapes["predictions' prototypes"][at[1]]},
                "; are encoder and network of one image size and stride?",
            )  # fmt: skip
        state = tf.convert_to_tensor(targets["state"])
        return super()._sums(targets, predictions) | {"mask": self._mask(state, *arrays.values())}

    def _mask(
        self,
        state: tf.Tensor,
        owner: tf.Tensor,
        masks: tf.Tensor,
        mask_state: tf.Tensor,
        boxes: tf.Tensor,
        coefficients: tf.Tensor,
        prototypes: tf.Tensor,
    ) -> tf.Tensor:
        places, image, weight = self._chosen(state, owner, mask_state)
        count = tf.shape(state, tf.int64)[0]

        def rows(values: tf.Tensor) -> tf.Tensor:
            """(B, J, ...) of the (M, ...) of each place: J is the largest number of an image."""
            return tf.RaggedTensor.from_value_rowids(values, image, nrows=count).to_tensor()

        objects = rows(tf.gather_nd(owner, places))
        weight = rows(weight)  # 0 where an image has fewer
        true = tf.cast(tf.gather(masks, objects, batch_dims=1), tf.float32)  # (B, J, h, w)
        box = tf.gather(tf.cast(boxes, tf.float32), objects, batch_dims=1)  # (B, J, 4)
        own = rows(tf.cast(tf.gather_nd(coefficients, places), tf.float32))  # (B, J, K)
        logits = tf.einsum("bjk,bhwk->bjhw", own, tf.cast(prototypes, tf.float32))
        terms = tf.nn.sigmoid_cross_entropy_with_logits(labels=true, logits=logits)
        sides = box[..., 2:] - box[..., :2]
        area = tf.maximum(tf.reduce_prod(sides, axis=-1), 1.0)
        inside = tf.where(_near(box, tf.shape(true)[2:]), terms, 0.0)
        return tf.reduce_sum(weight * tf.reduce_sum(inside, axis=(2, 3)) / area)

    def _chosen(
        self, state: tf.Tensor, owner: tf.Tensor, mask_state: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return (M, 2) places in (B, A), (M,) their image, and (M,) what each weighs."""
        places = tf.where(state == POSITIVE)
        objects = tf.stack((places[:, 0], tf.cast(tf.gather_nd(owner, places), tf.int64)), axis=-1)
        places = tf.boolean_mask(places, tf.gather_nd(mask_state, objects) == POSITIVE)
        image = places[:, 0]
        images = tf.shape(state, tf.int64)[0]
        counts = tf.math.unsorted_segment_sum(tf.ones_like(image), image, images)
        rank = tf.range(tf.size(image, tf.int64)) - tf.gather(tf.cumsum(counts) - counts, image)
        most = tf.minimum(counts, self.max_masks)
        n, kept = tf.gather(counts, image), tf.gather(most, image)
        chosen = (rank + 1) * kept // n > rank * kept // n
        weight = tf.cast(n, tf.float32) / tf.cast(kept, tf.float32)
        return (
            tf.boolean_mask(places, chosen),
            tf.boolean_mask(image, chosen),
            tf.boolean_mask(weight, chosen),
        )


def _near(box: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """Return (B, J, h, w) which cells touch the boxes (B, J, 4), in cells, or the margin around."""
    rows, columns = (tf.range(cells[axis], dtype=tf.float32) for axis in (0, 1))
    low, high = box[..., None, :2] - MARGIN, box[..., None, 2:] + MARGIN  # (B, J, 1, 2)
    in_rows = (rows + 1.0 > low[..., 0]) & (rows < high[..., 0])  # (B, J, h)
    in_columns = (columns + 1.0 > low[..., 1]) & (columns < high[..., 1])
    return in_rows[..., :, None] & in_columns[..., None, :]
