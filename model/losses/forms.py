"""Checks that a loss makes of targets and predictions, in words that name the array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from ytrue.contract import POSITIVE

# Axes, a letter for any length, "..." for any number of them; and whether integer.
Form = tuple[tuple[str | int, ...], bool]


def arrays_of(
    targets: Mapping[str, tf.Tensor],
    predictions: Mapping[str, tf.Tensor],
    forms: Mapping[str, Form],
) -> dict[str, tf.Tensor]:
    """Return the arrays that the forms name, as tensors.

    Args:
        targets, predictions: name -> array.
        forms: "targets' NAME" or "predictions' NAME" -> form.

    Raises:
        ValueError: an array is missing, or of another form.
    """
    given = {"targets": targets, "predictions": predictions}
    for side, arrays in given.items():
        names = [full.split("' ")[1] for full in forms if full.startswith(side)]
        check_present(side, arrays, names)
    found = {}
    for full, form in forms.items():
        side, name = full.split("' ")
        found[full] = tf.convert_to_tensor(given[side][name])
        check_form(full, found[full], form)
    return found


def check_present(what: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ValueError, telling what there is, if one of the names is missing."""
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"{what} lack {', '.join(missing)}: they have {', '.join(sorted(given))}")


def check_form(name: str, array: tf.Tensor, form: Form) -> None:
    """Raise ValueError if an array has another number or length of axes, or kind of dtype."""
    axes, integer = form
    dtype = tf.as_dtype(array.dtype)
    if not _fits(array.shape, axes) or not (dtype.is_integer if integer else dtype.is_floating):
        raise ValueError(
            f"{name} {shape_words(array)} {dtype.name}: expected ({', '.join(map(str, axes))}) "
            f"{'integer' if integer else 'floating'}"
        )


def _fits(shape: Any, axes: tuple[str | int, ...]) -> bool:
    shape = tf.TensorShape(shape)
    lengths = [None if isinstance(axis, str) else axis for axis in axes]
    if "..." in axes and shape.rank is not None:
        place = axes.index("...")
        lengths[place : place + 1] = [None] * max(0, shape.rank - len(axes) + 1)
    return bool(shape.rank is None or tf.TensorShape(lengths).is_compatible_with(shape))


def check_equal(what: str, sizes: Mapping[str, int | None], hint: str = "") -> None:
    """Raise ValueError if sizes differ; None, unknown until run time, equals any."""
    known = {name: size for name, size in sizes.items() if size is not None}
    if len(set(known.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in known.items())
        raise ValueError(f"{what}: {counts}{hint}")


def check_classes(arrays: Mapping[str, tf.Tensor], *names: str) -> None:
    """Raise ValueError if the last axes of these arrays, their classes, differ."""
    check_equal(
        "numbers of classes differ", {name: arrays[name].shape[-1] for name in names},
        "; are encoder and network made for the same classes?",
    )  # fmt: skip


def shape_words(array: tf.Tensor) -> str:
    """Return an array's shape as "(2, None, 4)"."""
    shape = tf.TensorShape(array.shape)
    return "(...)" if shape.rank is None else f"({', '.join(map(str, shape.as_list()))})"


def own_classes(label: tf.Tensor, state: tf.Tensor, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return each positive's class, 0 elsewhere, int32, and whether the network has it.

    Where it has not, a graph stops with the same words as the error below. XLA knows no such stop,
    and gathers something: there the caller makes the loss nan where the second array is false.

    Args:
        label, state: of one shape.
        classes: how many the predictions have.

    Raises:
        ValueError: a positive's label is none of the classes; in a graph InvalidArgumentError.
    """
    own = tf.where(state == POSITIVE, tf.cast(label, tf.int32), 0)
    known = (own >= 0) & (own < classes)
    words = (
        f"the targets' labels of positives must lie in [0, {classes}): the predictions have "
        f"{classes} classes; are encoder and network made for the same classes? the farthest label is"
    )
    low, high = tf.reduce_min(own), tf.reduce_max(own)
    farthest = tf.where(low < 0, low, high)
    if not tf.executing_eagerly():
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.reduce_all(known), [words, farthest])]
        ):
            own = tf.identity(own)
    elif not tf.reduce_all(known):
        raise ValueError(f"{words} {int(farthest)}")
    return tf.clip_by_value(own, 0, classes - 1), known
