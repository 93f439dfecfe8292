"""`CellHeads`: some numbers for every slot of every cell of chosen pyramid levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from ytrue.errors import check_choice, check_whole
from ytrue.model.heads import Head, Sharing
from ytrue.model.layers import ConvNorm, Shape


class CellHeads(keras.layers.Layer):
    """One tower for each kind of number, on chosen levels of the pyramid.

    Each is a `Head` whose kernels the levels share and whose batch norms they do not. A level of
    stride s has the cells of `CellGrid(image_size, stride=s)`.

    `on="global"` regresses for the whole image, its only cell: the towers stand on the
    coarsest features, whose cells see all of the image, and their outputs are averaged over the
    cells. That is global average pooling and a dense layer, in the order that needs no layer of
    its own: averaging commutes with the output's 1x1 convolution. An average forgets which cell
    said what, so each cell says where it is: before the towers, a learned linear function of its
    centre is added to its features, as coordinate channels would be by the first convolution.
    (The border's zero padding tells the same to a map of 4x4 cells, but less well to a larger.)

    Args:
        slots: of a cell.
        numbers: name -> trailing shape of a slot's numbers, such as {"class": (5,), "score": ()}.
        repeats: convolutions before the outputs.
        on: positions of levels in the list of features, fine to coarse, (0, 1, 2) for levels 3 to
            5 of a pyramid from level 3; or "global".
        levels: number of features given at the call; those not in `on` are not looked at.
        priors: name -> probability at the start, for logits.
        activation: "swish" or "relu6".
        folded: without batch norms; see `ytrue.model.folding`.
        sharing, survival_rate, separable: see `Head`.

    Call:
        features, one a level, (B, h, w, channels). Returns name -> float32 (B, *cells, slots,
        *trailing shape): cells are (h, w) on one level, (cells,) on several, in the order level,
        row, column, and (1, 1) globally.

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
        slots: int,
        numbers: Mapping[str, tuple[int, ...]],
        repeats: int,
        *,
        on: Sequence[int] | Literal["global"],
        levels: int,
        priors: Mapping[str, float] | None = None,
        activation: str = "swish",
        folded: bool = False,
        sharing: Sharing = "shared",
        survival_rate: float | None = None,
        separable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value, least in (("repeats", repeats, 0), ("levels", levels, 1)):
            check_whole(name, value, least)
        check_choice("activation", activation, ("swish", "relu6"))
        self.pooled = on == "global"
        self.on = (levels - 1,) if on == "global" else positions(on, levels)
        self.levels = levels
        self.slots = slots
        self.numbers = {name: tuple(shape) for name, shape in numbers.items()}
        self.heads = {
            name: Head(
                slots * math.prod(shape), repeats, prior=(priors or {}).get(name),
                levels=len(self.on), activation=activation, sharing=sharing, folded=folded,
                survival_rate=survival_rate, separable=separable, name=f"{name}_head",
                dtype=self.dtype_policy,
            )
            for name, shape in self.numbers.items()
        }  # fmt: skip

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
        for head in self.heads.values():
            head.build(shapes)

    def call(
        self, features: Sequence[tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Return name -> (B, *cells, slots, *trailing shape)."""
        self._check(features)
        chosen = [features[position] for position in self.on]
        if self.pooled:
            chosen = [x + self.place(centres(x)) for x in chosen]
        return {
            name: self._output(head, chosen, self.numbers[name], training)
            for name, head in self.heads.items()
        }

    def _output(
        self, head: Head, features: Sequence[tf.Tensor], shape: tuple[int, ...],
        training: bool | None,
    ) -> tf.Tensor:  # fmt: skip
        slots = (self.slots, *shape)
        if len(features) > 1:
            flat = head.flat(features, math.prod(shape), training=training)
            return tf.reshape(flat, (tf.shape(flat)[0], -1, *slots))
        output = tf.cast(head(features, training=training)[0], tf.float32)
        if self.pooled:
            output = tf.reduce_mean(output, axis=(1, 2), keepdims=True)
        ahead = tf.unstack(tf.shape(output)[:3])
        return tf.reshape(output, (*ahead, *slots))

    def _check(self, features: Sequence[Any]) -> None:
        if len(features) != self.levels:
            raise ValueError(f"{len(features)} features: this head was made for {self.levels}")


def positions(on: Any, levels: int) -> tuple[int, ...]:
    """Return the levels that a head stands on, checked: in order, each once."""
    given = list(on) if isinstance(on, Sequence) else []
    found = tuple(one for one in range(levels) if one in given)
    if not given or given != list(found):
        raise ValueError(
            f"on={on!r}: expected positions among {levels} features, each once and fine to coarse, "
            'or "global"'
        )
    return found


def centres(features: tf.Tensor) -> tf.Tensor:
    """Return (1, h, w, 2) in the features' dtype: (y, x) of cells' centres, the image [-1, 1]."""
    rows, columns = (
        (2 * tf.range(count, dtype=tf.float32) + 1) / tf.cast(count, tf.float32) - 1
        for count in (tf.shape(features)[1], tf.shape(features)[2])
    )
    grid = tf.stack(tf.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return tf.cast(grid[None], features.dtype)
