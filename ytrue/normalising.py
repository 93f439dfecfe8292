"""How pixels of 0 to 255 become what a network is fed."""

from __future__ import annotations

from typing import Final

NORMALISATIONS: Final = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "lite": ((127.0,) * 3, (128.0,) * 3),
}
"""Name -> (mean, standard deviation) of each channel; "imagenet" is EfficientDet's own
(google/automl hparams_config.py), "lite" that of its lite models."""
