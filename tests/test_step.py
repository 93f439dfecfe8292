"""One step: `fit` on a pipeline's batches, and the same arithmetic on several replicas."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ytrue.datasets import load, pipeline, write_shapes
from ytrue.encoders import preset
from ytrue.model import DetectionLoss, EfficientDet
from ytrue.model.step import training_step


def small(classes=2):
    keras.utils.set_random_seed(1)
    return EfficientDet("lite0", num_classes=classes, drop_connect_rate=0.0)


def noise(images=4, size=64, classes=2):
    """Images and targets of noise: the same in every process."""
    rng = np.random.default_rng(0)
    encoder = preset("ytrue", size, classes)
    state = rng.choice([-1, 0, 0, 0, 1], (images, len(encoder.grid))).astype(np.int8)
    label = np.where(state == 1, rng.integers(0, classes, state.shape), -1).astype(np.int32)
    box = np.where((state == 1)[..., None], rng.normal(size=(*state.shape, 4)), 0)
    pixels = rng.normal(size=(images, size, size, 3)).astype(np.float32)
    return pixels, {"state": state, "label": label, "box": box.astype(np.float32)}


def test_fit_trains_on_a_pipelines_batches(tmp_path):
    dataset = load(write_shapes(tmp_path, num_images=8, image_size=(96, 128)))
    encoder = preset("ytrue", 64, dataset.num_classes)
    batches = pipeline(dataset, encoder, batch_size=4)
    model = small(dataset.num_classes)
    loss = DetectionLoss(iou="giou", anchors=encoder.grid.boxes, coder=encoder.coder)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    before = [weight.numpy() for weight in model.weights]
    history = model.fit(batches.take(2), epochs=3, shuffle=False, verbose=0).history
    assert set(history) == {"loss", "class_loss", "box_loss", "iou_loss", "l2_loss"}
    assert all(np.isfinite(values).all() for values in history.values())
    changed = [not np.array_equal(w, b) for w, b in zip(model.weights, before, strict=True)]
    assert np.mean(changed) > 0.9  # norms of box levels without a positive anchor stay
    found = model.evaluate(batches.take(1), verbose=0, return_dict=True)
    outputs = model.predict(batches.take(1), verbose=0)
    targets = next(iter(batches.take(1)))[1]
    assert found["class_loss"] == pytest.approx(float(loss(targets, outputs)["class"]), rel=1e-4)


def test_a_model_from_a_file_is_to_be_compiled_again(tmp_path):
    model = small()
    model.compile("sgd", DetectionLoss(gamma=2.0))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again.compiled
    with pytest.raises(ValueError, match="compile the model before training"):
        training_step(again)


def test_half_precision_trains():
    keras.utils.set_random_seed(1)
    model = EfficientDet("lite0", num_classes=2, dtype="mixed_bfloat16")
    model.compile(keras.optimizers.SGD(0.01), DetectionLoss())
    before = model.box_head.towers[0][0].kernels[0].numpy()
    step = training_step(model)
    for _ in range(2):
        assert np.isfinite(float(step(tuple(map(as_tensors, noise(2))))["loss"]))
    assert (model.box_head.towers[0][0].kernels[0].numpy() != before).any()


@pytest.mark.slow
def test_a_step_compiled_by_xla_is_the_same():
    losses = []
    for compiled in (False, True):
        model = small()
        model.compile(keras.optimizers.SGD(0.01), DetectionLoss(), jit_compile=compiled)
        losses.append([float(model.train_on_batch(*noise())[0]) for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_a_step_of_ours_is_keras_step():
    data = noise()
    results = []
    for ours in (False, True):
        model = small()
        model.compile(keras.optimizers.SGD(0.1), DetectionLoss())
        if ours:
            loss = float(training_step(model)(tuple(map(as_tensors, data)))["loss"])
        else:
            loss = float(model.train_on_batch(*data, return_dict=True)["loss"])
        results.append((loss, [weight.numpy() for weight in model.weights]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_all_gradients_together_are_clipped(scaled):
    model = small()
    before = [weight.numpy() for weight in model.trainable_variables]
    sgd = keras.optimizers.SGD(1.0)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=64.0) if scaled else sgd
    model.compile(optimizer, DetectionLoss())
    training_step(model, clip_norm=0.25)(tuple(map(as_tensors, noise(2))))
    moved = [w.numpy() - b for w, b in zip(model.trainable_variables, before, strict=True)]
    norm = np.sqrt(sum((np.float64(m) ** 2).sum() for m in moved))
    assert norm == pytest.approx(0.25, rel=1e-3)


def as_tensors(value):
    return tf.nest.map_structure(tf.convert_to_tensor, value)


def test_sample_weights_are_refused():
    model = small()
    model.compile("sgd")
    pixels, targets = noise(1)
    with pytest.raises(ValueError, match="sample weights are not supported"):
        model.train_on_batch(pixels, targets, sample_weight=np.ones(1))


def run(code, **environment):
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", path + code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Norms are frozen: each replica would normalise its part of the batch by that part's statistics.
MIRRORED = """
import numpy as np, tensorflow as tf, keras
from test_step import noise, small, as_tensors
from ytrue.model import DetectionLoss
from ytrue.model.layers import BatchNorm
from ytrue.model.step import training_step
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
data = noise()
def trained(strategy, how):
    with strategy.scope():
        model = small()
        for layer in model._flatten_layers():
            if isinstance(layer, BatchNorm):
                layer.trainable = False
        model.compile(keras.optimizers.SGD(0.1), DetectionLoss())
    batches = tf.data.Dataset.from_tensor_slices(data).batch(4, drop_remainder=True)
    if how == "fit":
        loss = model.fit(batches, shuffle=False, verbose=0).history["loss"][0]
    else:
        step = training_step(model, strategy, clip_norm=0.05 if how == "clipped" else 0.0)
        distributed = strategy.experimental_distribute_dataset(batches)
        loss = float(step(next(iter(distributed)))["loss"])
    return loss, [weight.numpy() for weight in model.weights]
alone = tf.distribute.get_strategy()
whole, clipped = trained(alone, "fit"), trained(alone, "clipped")
assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(whole[1], clipped[1]))
for how in ("fit", "step", "clipped"):
    one = clipped if how == "clipped" else whole
    two = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), how)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-5)
    for a, b in zip(one[1], two[1]):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
print("equal")
"""


@pytest.mark.slow
def test_two_devices_train_as_one():
    process = run(MIRRORED)
    output, errors = process.communicate()
    assert output.strip() == "equal", errors[-3000:]


# The first half of the batch teaches nothing: only the second replica's gradients overflow.
OVERFLOW = """
import numpy as np, tensorflow as tf, keras
from test_step import noise, small
from ytrue.model import DetectionLoss
from ytrue.model.averaging import WeightAverage
from ytrue.model.step import training_step
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.config.set_dtype_policy("mixed_float16")
pixels, targets = noise()
targets["state"][:2] = -1
with strategy.scope():
    model = small()
    sgd = keras.optimizers.SGD(0.01)
    model.compile(keras.optimizers.LossScaleOptimizer(sgd, initial_scale=2.0**26), DetectionLoss())
    model.optimizer.build(model.trainable_variables)
    average = WeightAverage(model, 0.9)
before = [weight.numpy() for weight in model.trainable_variables]
batches = tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(4)
batches = strategy.experimental_distribute_dataset(batches)
training_step(model, strategy, average=average)(next(iter(batches)))
for weight, b in zip(model.trainable_variables, before):
    np.testing.assert_array_equal(weight.numpy(), b)
assert all(np.isfinite(a.numpy()).all() for a in average.averages)
print(float(np.asarray(model.optimizer.dynamic_scale)) / 2**26)
"""


@pytest.mark.slow
def test_an_overflow_on_any_replica_skips_the_step():
    process = run(OVERFLOW)
    output, errors = process.communicate()
    assert output.strip() == "0.5", errors[-3000:]


WORKER = """
import json, os, numpy as np, tensorflow as tf, keras
strategy = tf.distribute.MultiWorkerMirroredStrategy()
from test_step import noise, small
from ytrue.model import DetectionLoss
from ytrue.model.step import training_step
with strategy.scope():
    model = small()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), DetectionLoss())
pixels, targets = noise()
batches = tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(4, drop_remainder=True)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
distributed = strategy.experimental_distribute_dataset(batches.with_options(options))
step = training_step(model, strategy)
losses = [float(step(batch)["loss"]) for _ in range(2) for batch in distributed]
weights = np.concatenate([weight.numpy().ravel() for weight in model.weights])
print(json.dumps([losses, float(np.abs(weights).sum(dtype=np.float64)), float(weights.std())]))
"""


@pytest.mark.slow
def test_two_processes_train_one_model():
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    workers = [f"localhost:{port}" for port in ports]
    processes = [
        run(
            WORKER,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}}
            ),
        )
        for i in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs[0][1][-3000:]
    first, second = (json.loads(output.strip().splitlines()[-1]) for output, _ in outputs)
    assert first == second
    assert np.isfinite(first[0]).all()
    assert first[0][1] != first[0][0]
