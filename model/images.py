"""What a network is fed: images as the official weights were trained on."""

from __future__ import annotations

import tensorflow as tf

from ytrue.normalising import NORMALISATIONS, normalisation_of


def normalised(images: tf.Tensor, *, lite: bool, dtype: str) -> tf.Tensor:
    """Return images (B, height, width, 3) as the network's dtype.

    Integers are taken as RGB in 0 to 255 and normalised with ImageNet's mean and deviation (the
    lite variants: with 127 and 128); floats are taken as normalised.

    Raises:
        ValueError: images of another shape.
    """
    images = tf.convert_to_tensor(images)
    # TensorFlow's kernels end the whole process over some wrong shapes.
    if not tf.TensorShape((None, None, None, 3)).is_compatible_with(images.shape):
        shape = ", ".join(map(str, images.shape))
        raise ValueError(f"images ({shape}): expected (B, height, width, 3), also for one image")
    # A trace for images of several ranks knows none: then they are asked as they come.
    images = tf.ensure_shape(images, (None, None, None, 3))
    if images.dtype.is_integer:
        mean, std = NORMALISATIONS[normalisation_of(lite)]
        images = (tf.cast(images, tf.float32) - tf.constant(mean)) / tf.constant(std)
    return tf.cast(images, dtype)
