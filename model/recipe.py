"""How a detector is trained: google/automl's recipe as a value, its schedule and optimizers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

import keras
import tensorflow as tf

from ytrue.errors import check_choice, check_from_zero, check_whole
from ytrue.model.losses.focal import check

OptimizerName = Literal["sgd", "adamw"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

RATES: Final[dict[str, float]] = {"sgd": 0.08, "adamw": 4e-3}
"""Optimizer -> learning rate of a batch of `REFERENCE_BATCH`; sgd's is google/automl's."""
DECAYS: Final[dict[str, float]] = {"sgd": 4e-5, "adamw": 1e-4}
"""Optimizer -> weight decay; sgd's is google/automl's."""
REFERENCE_BATCH: Final = 64


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run. Defaults are google/automl's, but for the batch size.

    Args:
        epochs: how many.
        batch_size: examples of all replicas together in a step.
        optimizer: "sgd" with momentum, or "adamw".
        learning_rate: of a batch of 64, scaled by batch_size / 64 (row D1); None: 0.08 for sgd,
            0.004 for adamw.
        warmup_epochs: over which the rate rises from 0, before it falls along a cosine to 0.
        momentum: of sgd.
        weight_decay: sgd: of the L2 loss on kernels; adamw: decoupled, of kernels; None: 4e-5 and
            1e-4.
        clip_norm: largest norm of all gradients together; 0: any.
        average: decay of the moving average of weights, which is what is evaluated and kept; its
            window grows with the steps taken. 0: no average.
        freeze_norms: keep the batch norms' statistics, scales and shifts as they are.
        drop_connect: rate of the backbone; see `ytrue.model.EfficientNet`.
        augment: "none", "flip", "mild", "light", "strong" or what `ytrue.datasets.pipeline` takes.
        gamma: of the focal loss.
        alpha: of the focal loss; None: 0.25 for boxes, google/automl's, and 0.5 for points, which
            are rarer: with less their scores stay low.
        box_weight: of the box loss.
        xy_weight: of the loss of keypoints' places.
        mask_weight: of the loss of masks; with YOLACT's 6.125 classes come later.
        precision: the model's dtype policy.
        seed: of weights, augmentation and order.
        deterministic: only operations that repeat to the bit. This holds for the whole process
            from then on, as TensorFlow has it.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        google/automl efficientdet hparams_config.py and tf2/train_lib.py.
    """

    epochs: int = 300
    batch_size: int = 8
    optimizer: OptimizerName = "sgd"
    learning_rate: float | None = None
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float | None = None
    clip_norm: float = 10.0
    average: float = 0.9998
    freeze_norms: bool = False
    drop_connect: float = 0.2
    augment: Any = "light"
    gamma: float = 1.5
    alpha: float | None = None
    box_weight: float = 50.0
    xy_weight: float = 1.0
    mask_weight: float = 1.0
    precision: Precision = "float32"
    seed: int = 0
    deterministic: bool = True

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            object.__setattr__(self, name, check_whole(name, getattr(self, name), least))
        for name in (
            "warmup_epochs",
            "clip_norm",
            "box_weight",
            "xy_weight",
            "mask_weight",
        ):
            check_from_zero(name, getattr(self, name))
        for name in ("momentum", "average", "drop_connect"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value}: expected a number from 0 and below 1")
        check(self.alpha, self.gamma, label_smoothing=0.0)
        for name, allowed in (("optimizer", OptimizerName), ("precision", Precision)):
            check_choice(name, getattr(self, name), get_args(allowed))
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if value is not None:
                check_from_zero(name, value)

    @property
    def peak_rate(self) -> float:
        """The learning rate at the end of the warm-up."""
        rate = RATES[self.optimizer] if self.learning_rate is None else self.learning_rate
        return rate * self.batch_size / REFERENCE_BATCH

    @property
    def decay(self) -> float:
        """The weight decay."""
        return DECAYS[self.optimizer] if self.weight_decay is None else self.weight_decay

    @property
    def l2(self) -> float:
        """The weight decay that belongs into the loss."""
        return self.decay if self.optimizer == "sgd" else 0.0

    def config(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; an augmentation of one's own in words."""
        return asdict(self) | {"augment": _in_words(self.augment)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `config()` described."""
        return cls(**{field.name: config[field.name] for field in fields(cls)})


def _in_words(augment: Any) -> str | None:
    """Return an augmentation's name or repr; of one that has none, as a function, its place."""
    said = augment if augment is None or isinstance(augment, str) else repr(augment)
    if said is None or " at 0x" not in said:
        return said
    of = augment if hasattr(augment, "__qualname__") else type(augment)
    return f"{of.__module__}.{of.__qualname__}"


@keras.saving.register_keras_serializable("ytrue")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises from 0 to `peak` over `warmup` steps, then falls to 0 at `total`.

    Reference:
        Row D1; google/automl det_model_fn.py, cosine_lr_schedule.

    Example:
        >>> rate = WarmupCosine(0.5, warmup=10, total=110)
        >>> [round(float(rate(step)), 3) for step in (0, 4, 9, 60, 110)]
        [0.05, 0.25, 0.5, 0.25, 0.0]
    """

    def __init__(self, peak: float, warmup: int, total: int) -> None:
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the rate of a step, () float32; the first one is step 0."""
        step = tf.cast(step, tf.float32)
        rising = self.peak * (step + 1.0) / max(1.0, self.warmup)
        done = (step - self.warmup) / max(1.0, self.total - self.warmup)
        falling = self.peak * 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))
        return tf.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


def make_optimizer(recipe: Recipe, steps_per_epoch: int, model: Any) -> Any:
    """Return the recipe's optimizer, with its schedule, for the model."""
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total // 2)
    rate = WarmupCosine(recipe.peak_rate, warmup, total)
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=recipe.momentum)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.decay)
        optimizer.exclude_from_weight_decay(
            [weight for weight in model.trainable_variables if not weight.name.endswith("kernel")]
        )
    if recipe.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer
