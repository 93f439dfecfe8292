"""`KeypointHead`: classes and positions of points in the cells of pyramid levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from ytrue.errors import check_choice
from ytrue.model.heads import Head
from ytrue.model.layers import ConvNorm, Shape


@keras.saving.register_keras_serializable("ytrue")
class KeypointHead(keras.layers.Layer):
    """Two towers on chosen levels: which classes stand in each slot, and where in its cell.

    Each is a `Head` whose kernels the levels share and whose batch norms they do not. A level of
    stride s has the cells of `KeypointGridEncoder(image_size, stride=s)`.

    `on="global"` regresses points of the whole image, its only cell: the towers stand on the
    coarsest features, whose cells see all of the image, and their outputs are averaged over the
    cells. That is global average pooling and a dense layer, in the order that needs no layer of
    its own: averaging commutes with the output's 1x1 convolution. An average forgets which cell
    said what, so each cell says where it is: before the towers, a learned linear function of its
    centre is added to its features, as coordinate channels would be by the first convolution.
    (The border's zero padding tells the same to a map of 4x4 cells, but less well to a larger.)

    Args:
        num_classes: C.
        points_per_cell: P.
        repeats: convolutions before the outputs; "global" wants one at least, as only its
            activation joins what a cell sees with where it is.
        on: positions of levels in the list of features, fine to coarse, (0, 1, 2) for levels 3 to
            5 of a pyramid from level 3; or "global".
        levels: number of features given at the call; those not in `on` are not looked at.
        activation: "swish" or "relu6".
        prior: probability of every class at the start; offsets start around 0.5.
        folded: without batch norms; see `ytrue.model.folding`.
        survival_rate, separable: see `Head`.

    Call:
        features, one a level, (B, h, w, channels). Returns {"class": logits, "xy": logits of the
        offsets (y, x)}, float32, of the shapes of the encoder's "label" and "offset" with B ahead:
        (B, h, w, P, C) and (B, h, w, P, 2) on one level; (B, cells, P, C) and (B, cells, P, 2) on
        several, in the order level, row, column; (B, 1, 1, P, C) and (B, 1, 1, P, 2) globally.

    Raises:
        ValueError: an argument out of range, named with its value; or at the call, a number of
            features that is not `levels`.

    Reference:
        Towers: google/automl tf2/efficientdet_keras.py, ClassNet and BoxNet. Coordinates: Liu et
        al., https://arxiv.org/abs/1807.03247; zero padding: Islam et al.,
        https://arxiv.org/abs/2001.08248.
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
        super().__init__(**kwargs)
        for name, value, least in (
            ("num_classes", num_classes, 1),
            ("points_per_cell", points_per_cell, 1),
            ("repeats", repeats, 0),
            ("levels", levels, 1),
        ):
            if int(value) != value or value < least:
                raise ValueError(f"{name}={value}: expected a whole number of at least {least}")
        check_choice("activation", activation, ("swish", "relu6"))
        pooled = isinstance(on, str) and on == "global"
        positions = (levels - 1,) if pooled else _positions(on, levels)
        self._arguments: dict[str, Any] = {
            "num_classes": num_classes,
            "points_per_cell": points_per_cell,
            "repeats": repeats,
            "on": "global" if pooled else list(positions),
            "levels": levels,
            "activation": activation,
            "prior": prior,
            "folded": folded,
            "survival_rate": survival_rate,
            "separable": separable,
        }
        self.pooled = pooled
        self.on = positions
        self.levels = levels
        self.widths = {"class": num_classes, "xy": 2}
        common: dict[str, Any] = {
            "levels": len(self.on),
            "activation": activation,
            "survival_rate": survival_rate,
            "separable": separable,
            "folded": folded,
            "dtype": self.dtype_policy,
        }
        self.class_head = Head(
            points_per_cell * num_classes, repeats, prior=prior, name="class_head", **common
        )
        self.xy_head = Head(points_per_cell * 2, repeats, name="xy_head", **common)

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Create the towers' weights, without a trace through them."""
        self._check(input_shape)
        shapes = [input_shape[position] for position in self.on]
        channels: Any = shapes[0][-1]
        if self.pooled:
            self.place = ConvNorm(
                channels,
                1,
                norms=0,
                kernel_initializer=keras.initializers.VarianceScaling(),
                name="place",
                dtype=self.dtype_policy,
            )
            self.place.build((None, None, None, 2))
        for head in (self.class_head, self.xy_head):
            head.build(shapes)

    def call(
        self, features: Sequence[tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Return {"class": (B, ..., P, C), "xy": (B, ..., P, 2)}."""
        self._check(features)
        chosen = [features[position] for position in self.on]
        if self.pooled:
            chosen = [x + self.place(centres(x)) for x in chosen]
        heads = {"class": self.class_head, "xy": self.xy_head}
        return {
            name: self._output(head, chosen, self.widths[name], training)
            for name, head in heads.items()
        }

    def _output(
        self, head: Head, features: Sequence[tf.Tensor], width: int, training: bool | None
    ) -> tf.Tensor:
        slots = (self._arguments["points_per_cell"], width)
        if len(features) > 1:
            flat = head.flat(features, width, training=training)
            return tf.reshape(flat, (tf.shape(flat)[0], -1, *slots))
        output = tf.cast(head(features, training=training)[0], tf.float32)
        if self.pooled:
            output = tf.reduce_mean(output, axis=(1, 2), keepdims=True)
        ahead = tf.unstack(tf.shape(output)[:3])
        return tf.reshape(output, (*ahead, *slots))

    def _check(self, features: Sequence[Any]) -> None:
        if len(features) != self.levels:
            raise ValueError(f"{len(features)} features: this head was made for {self.levels}")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), **self._arguments}


def _positions(on: Any, levels: int) -> tuple[int, ...]:
    given = list(on) if isinstance(on, Sequence) else []
    positions = tuple(one for one in range(levels) if one in given)
    if not given or given != list(positions):
        raise ValueError(
            f"on={on!r}: expected positions among {levels} features, each once and fine to coarse, "
            'or "global"'
        )
    return positions


def centres(features: tf.Tensor) -> tf.Tensor:
    """Return (1, h, w, 2) in the features' dtype: (y, x) of cells' centres, the image [-1, 1]."""
    rows, columns = (
        (2 * tf.range(count, dtype=tf.float32) + 1) / tf.cast(count, tf.float32) - 1
        for count in (tf.shape(features)[1], tf.shape(features)[2])
    )
    grid = tf.stack(tf.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return tf.cast(grid[None], features.dtype)
