"""How pixels of 0 to 255 become what a network is fed."""

from __future__ import annotations

from typing import Final

NORMALISATIONS: Final = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "lite": ((127.0,) * 3, (128.0,) * 3),
}
"""Name -> (mean, standard deviation) of each channel; "imagenet" is EfficientDet's own
(google/automl hparams_config.py), "lite" that of its lite models."""


def normalisation_of(lite: bool) -> str:
    """Return the name of what a backbone wants."""
    return "lite" if lite else "imagenet"


def mean_colour(name: str) -> tuple[int, int, int]:
    """Return what padding is filled with: the mean, in whole numbers."""
    red, green, blue = NORMALISATIONS[name][0]
    return round(red), round(green), round(blue)
