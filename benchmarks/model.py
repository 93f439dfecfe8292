"""EfficientDet-D0 at 512 x 512 on a CPU against effdet and keras-hub's RetinaNet.

    python benchmarks/model.py                  # what is installed of effdet (torch) and keras-hub
    python benchmarks/model.py --xla            # ours with and without XLA

Every measurement runs in a process of its own, with the same number of threads, the processes in
turn, `--rounds` times. What folding gains is measured in one more process, call by call in turn, as
the machine's speed wanders by as much. Weights and images are random: they do not change the time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
from timing import in_turn, machine, table
from workload import CLASSES, SIZE, effdet_targets, random_targets

FORWARD, FOLDED, XLA = "forward", "folded", "forward, XLA"
STEP, XLA_STEP = "training step", "training step, XLA"


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(first, calls):
    """Return first call's and best and median later calls' seconds."""
    start = time.perf_counter()
    first()
    begun = time.perf_counter() - start
    first()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        first()
        times.append(time.perf_counter() - start)
    return {"first": begun, "best": min(times), "median": float(np.median(times))}


def tensorflow(threads):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def ours(what, batch, threads, calls):
    tf = tensorflow(threads)
    import keras

    from ytrue.model import EfficientDet
    from ytrue.model.losses import DetectionLoss
    from ytrue.model.step import training_step

    base = peak()
    start = time.perf_counter()
    model = EfficientDet("d0", num_classes=CLASSES)
    count = model.count_params()
    if what == FOLDED:
        model = model.fold()
    build = time.perf_counter() - start
    images = tf.random.normal((batch, SIZE, SIZE, 3))
    if what == XLA_STEP:
        optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
        model.compile(optimizer, DetectionLoss(), jit_compile=True)
        targets = random_targets(batch)

        def call():
            return float(model.train_on_batch(images, targets)[0])
    elif what == STEP:
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), DetectionLoss())
        step = training_step(model)
        data = images, {name: tf.constant(x) for name, x in random_targets(batch).items()}

        def call():
            return float(step(data)["loss"])
    else:
        predict = tf.function(model, jit_compile=what == XLA)

        def call():
            return predict(images)["box"].numpy()

    return {**measured(call, calls), "build": build, "parameters": count, "memory": peak() - base}


def gain(what, batch, threads, calls):
    """Return how many times faster the folded model is: medians of calls in turn."""
    if what != FOLDED:
        raise SystemExit(2)
    tf = tensorflow(threads)
    from ytrue.model import EfficientDet

    model = EfficientDet("d0", num_classes=CLASSES)
    images = tf.random.normal((batch, SIZE, SIZE, 3))
    predicts = [tf.function(model), tf.function(model.fold())]
    parts = [lambda predict=predict: predict(images)["box"].numpy() for predict in predicts]
    plain, folded = in_turn(parts, rounds=calls, warm_up=5)
    return {"median": float(np.median(plain / folded)), "best": plain.min() / folded.min()}


def keras_hub(what, batch, threads, calls):
    tf = tensorflow(threads)
    from keras_hub.models import ResNetBackbone, RetinaNetBackbone, RetinaNetObjectDetector

    base = peak()
    start = time.perf_counter()
    encoder = ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512], stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2], block_type="bottleneck_block",
        image_shape=(SIZE, SIZE, 3),
    )  # fmt: skip
    pyramid = RetinaNetBackbone(encoder, min_level=3, max_level=5, use_p5=True)
    model = RetinaNetObjectDetector(
        pyramid, num_classes=CLASSES, bounding_box_format="yxyx", preprocessor=None
    )
    build = time.perf_counter() - start
    images = tf.random.normal((batch, SIZE, SIZE, 3))
    if what != FORWARD:
        raise SystemExit(2)
    predict = tf.function(lambda x: model(x, training=False))

    def call():
        return predict(images)["bbox_regression"].numpy()

    return {
        **measured(call, calls),
        "build": build,
        "parameters": model.count_params(),
        "memory": peak() - base,
    }


def effdet(what, batch, threads, calls):
    import torch
    from effdet import create_model
    from effdet.loss import DetectionLoss

    torch.set_num_threads(threads)
    base = peak()
    start = time.perf_counter()
    model = create_model("tf_efficientdet_d0", pretrained=False, pretrained_backbone=False)
    build = time.perf_counter() - start
    images = torch.randn(batch, 3, SIZE, SIZE)
    if what == STEP:
        model.train()
        criterion = DetectionLoss(model.config)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        labels, boxes = effdet_targets(batch)
        positives = torch.full((batch,), 100.0)

        def call():
            loss, *_ = criterion(*model(images), labels, boxes, positives)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()
    else:
        model.eval()

        def call():
            with torch.inference_mode():
                return model(images)

    return {
        **measured(call, calls),
        "build": build,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "memory": peak() - base,
    }


WHO = {"ytrue": ours, "gain": gain, "effdet": effdet, "keras-hub RetinaNet R50": keras_hub}


def in_process(who, what, batch, threads, calls):
    code = [sys.executable, __file__, "--worker", json.dumps([who, what, batch, threads, calls])]
    done = subprocess.run(code, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{who}, {what}, batch {batch} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        who, what, batch, threads, calls = json.loads(options.worker)
        print(json.dumps(WHO[who](what, batch, threads, calls)))
        return
    modules = {} if options.xla else {"effdet": "effdet", "keras-hub RetinaNet R50": "keras_hub"}
    peers = [name for name, module in modules.items() if find_spec(module)]
    plan = [(FORWARD, 1), (FORWARD, 4), (FOLDED, 1), (FOLDED, 4), (STEP, 4)]
    if options.xla:
        plan = [(FORWARD, 1), (XLA, 1), (STEP, 4), (XLA_STEP, 4)]
    tasks = [
        (who, what, batch)
        for what, batch in plan
        for who in ("ytrue", *peers)
        if who == "ytrue" or what == FORWARD or (who == "effdet" and what == STEP)
    ]
    found = {task: [] for task in tasks}
    for _ in range(options.rounds):
        for task in tasks:
            calls = max(2, options.calls // (3 if STEP in task[1] else 1))
            found[task].append(in_process(*task, options.threads, calls))
    packages = ["tensorflow", "keras", *(["torch", "effdet"] if "effdet" in peers else [])]
    print(machine("numpy", *packages))
    print(f"\n{SIZE} x {SIZE}, {CLASSES} classes, {options.threads} threads, float32; milliseconds a "
          f"call, best of {options.rounds} processes\n")  # fmt: skip

    def low(task, key):
        return min(row[key] for row in found[task])

    rows = []
    for task in tasks:
        who, what, batch = task
        peer = ("effdet", FORWARD if what in (FOLDED, XLA) else what, batch)
        ratio = f"{low(task, 'best') / low(peer, 'best'):.2f}" if peer in found else ""
        rows.append((
            who, what, batch, f"{low(task, 'best') * 1e3:.0f}", f"{low(task, 'median') * 1e3:.0f}",
            ratio, f"{low(task, 'build') + low(task, 'first'):.1f}", f"{low(task, 'memory'):.0f}",
            f"{found[task][0]['parameters']:,}",
        ))  # fmt: skip
    head = ("model", "what", "batch", "best", "median", "/ effdet", "build + first call, s",
            "memory, MB", "parameters")  # fmt: skip
    print(table(head, rows))
    for batch in () if options.xla else (1, 4):
        times = in_process("gain", FOLDED, batch, options.threads, 100 // batch)
        print(
            f"\nFolded, batch {batch}: {times['median']:.2f} times faster (median of calls in turn; "
            f"{times['best']:.2f} by the best calls)."
        )


if __name__ == "__main__":
    main()
