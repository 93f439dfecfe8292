"""The compact focal loss against the one-hot formulation: time and peak memory.

    python benchmarks/loss.py                # D0's outputs at 512: 49,104 anchors, 90 classes

Value and gradient in one graph. Every formulation runs in a process of its own; memory is what the
process takes beyond its inputs and the gradient that both return.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys

import numpy as np
from timing import machine, seconds, table

ANCHORS, CLASSES, POSITIVES = 49104, 90, 100


def one_hot(logits, label, state):
    """The usual formulation (google/automl tf2/train_lib.py), ignored anchors masked."""
    import tensorflow as tf

    alpha, gamma = 0.25, 1.5
    targets = tf.one_hot(label, CLASSES)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    probability = tf.sigmoid(logits)
    right = targets * probability + (1.0 - targets) * (1.0 - probability)
    weight = targets * alpha + (1.0 - targets) * (1.0 - alpha)
    loss = weight * (1.0 - right) ** gamma * entropy
    return tf.reduce_sum(loss * tf.cast(state != -1, tf.float32)[..., None])


def compact(logits, label, state):
    from ytrue.model.losses import focal_loss

    return focal_loss(logits, label, state)


FORMULATIONS = {"one-hot": one_hot, "ytrue": compact}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def worker(name, batch, compiled):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(-4.6, 1, (batch, ANCHORS, CLASSES)).astype(np.float32))
    state = np.zeros((batch, ANCHORS), np.int8)
    state[:, rng.choice(ANCHORS, POSITIVES, replace=False)] = 1
    state[:, rng.choice(ANCHORS, 2 * POSITIVES, replace=False)] = -1
    label = np.where(state == 1, rng.integers(0, CLASSES, state.shape), -1).astype(np.int32)

    @tf.function(jit_compile=compiled)
    def step(logits, label, state):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = FORMULATIONS[name](logits, label, state)
        return value, tape.gradient(value, logits)

    inputs = logits, tf.constant(label), tf.constant(state)
    gradient = np.ones(logits.shape, np.float32)  # touched: part of what both must hold
    base = peak()
    del gradient
    value = float(step(*inputs)[0])
    memory = peak() - base
    return seconds(lambda: step(*inputs)[0].numpy(), budget=4.0), memory, value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(*json.loads(options.worker))))
        return
    print(machine("numpy", "tensorflow", "keras"))
    print(f"\n{ANCHORS} anchors, {CLASSES} classes, float32; value and gradient\n")
    rows = []
    for compiled in (False, True):
        for batch in options.batches:
            found = {}
            for name in FORMULATIONS:
                command = [
                    sys.executable,
                    __file__,
                    "--worker",
                    json.dumps([name, batch, compiled]),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name] = json.loads(done.stdout.strip().splitlines()[-1])
            (slow, more, value), (fast, less, ours) = found["one-hot"], found["ytrue"]
            assert abs(value - ours) < 1e-3 * abs(value)
            rows.append((
                "XLA" if compiled else "graph", batch, f"{slow * 1e3:.0f}", f"{fast * 1e3:.0f}",
                f"{slow / fast:.1f}", f"{more:.0f}", f"{less:.0f}", f"{less / max(more, 1):.2f}",
            ))  # fmt: skip
    print(table(("", "batch", "one-hot, ms", "ytrue, ms", "times faster", "one-hot, MB", "ytrue, MB",
                 "of the memory"), rows))  # fmt: skip


if __name__ == "__main__":
    main()
