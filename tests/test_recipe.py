"""The recipe: schedule, optimizers and the average of weights, against plain formulas."""

import math
from dataclasses import fields

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue.model.averaging import WeightAverage
from ytrue.model.recipe import Recipe, WarmupCosine, make_optimizer


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    schedule = WarmupCosine(0.8, warmup=4, total=12)
    rates = [float(schedule(step)) for step in range(13)]
    wanted = [0.2, 0.4, 0.6, 0.8]
    wanted += [0.8 * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(9)]
    np.testing.assert_allclose(rates, wanted, atol=1e-6)
    again = WarmupCosine(**schedule.get_config())
    assert float(again(5)) == float(schedule(5))


@pytest.mark.parametrize(("batch", "wanted"), [(64, 0.08), (8, 0.01), (256, 0.32)])
def test_the_rate_is_proportional_to_the_batch(batch, wanted):
    assert Recipe(batch_size=batch).peak_rate == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs=1.5: expected a whole number of at least 1"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0"),
        ({"alpha": 1.5}, r"alpha=1.5: expected a weight in \[0, 1\], or None"),
        ({"gamma": -1.0}, "gamma=-1.0: expected a finite number from 0"),
        ({"mask_weight": math.nan}, "mask_weight=nan: expected a finite number from 0"),
        ({"box_weight": math.inf}, "box_weight=inf: expected a finite number from 0"),
        ({"batch_size": 0}, "batch_size=0: expected"),
        ({"optimizer": "adam"}, "optimizer='adam': expected one of sgd, adamw"),
        ({"precision": "float64"}, "precision='float64': expected one of float32, mixed_bfloat16"),
        ({"momentum": 1.0}, "momentum=1.0: expected a number from 0 and below 1"),
        ({"average": -0.1}, "average=-0.1: expected"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0: expected a finite number from 0"),
        ({"weight_decay": math.inf}, "weight_decay=inf: expected"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_a_recipe_comes_back_from_its_config():
    changed = Recipe(
        epochs=7, batch_size=3, optimizer="adamw", learning_rate=0.5, warmup_epochs=2.0,
        momentum=0.5, weight_decay=0.25, clip_norm=1.0, average=0.5, freeze_norms=True,
        drop_connect=0.1, augment="strong", gamma=2.0, alpha=0.5, box_weight=10.0, xy_weight=2.0, mask_weight=6.125,
        precision="mixed_bfloat16", seed=4, deterministic=False,
    )  # fmt: skip
    plain = Recipe()
    assert all(getattr(changed, f.name) != getattr(plain, f.name) for f in fields(Recipe))
    assert Recipe.from_config(changed.config()) == changed


class Tiny(keras.Model):
    """A kernel, a bias and a count."""

    def __init__(self):
        super().__init__()
        self.kernel = self.add_weight(name="kernel", shape=(2,), initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(2,), initializer="ones")
        self.count = self.add_weight(name="count", shape=(), dtype="int64", trainable=False)
        self.built = True


def test_decoupled_decay_is_of_kernels_alone():
    model = Tiny()
    optimizer = make_optimizer(
        Recipe(epochs=1, batch_size=64, optimizer="adamw", weight_decay=0.5, warmup_epochs=0,
               learning_rate=0.1), 10, model,
    )  # fmt: skip
    optimizer.apply([tf.zeros(2), tf.zeros(2)], [model.kernel, model.bias])
    np.testing.assert_allclose(model.kernel.numpy(), 1 - 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(model.bias.numpy(), 1)


def test_the_average_follows_the_weights_and_gives_them_back():
    model = Tiny()
    average = WeightAverage(model, 0.9)
    rng = np.random.default_rng(0)
    expected = np.ones(2)
    for n in range(1, 200):
        values = rng.normal(size=2).astype(np.float32)
        model.kernel.assign(values)
        average.update(n)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * values
    own = model.kernel.numpy()
    with average.applied():
        np.testing.assert_allclose(model.kernel.numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.kernel.numpy(), own)
    assert len(average.averages) == 2  # the count is no weight to average
