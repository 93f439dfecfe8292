"""EfficientDet-D0 at 512 x 512 on one GPU, in float32, bfloat16 and float16, against effdet.

    python benchmarks/gpu.py          # latency of one image, throughput of 16, training step
    python benchmarks/gpu.py --xla    # and compiled by XLA, which takes minutes for each

One process for each library and precision. Weights and images are random, and on the GPU before
the clock starts. effdet is measured where torch and effdet are installed, in eager mode,
channels last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec

import numpy as np
from timing import machine, table
from workload import CLASSES, SIZE, effdet_targets, random_targets

FORWARD, FOLDED, XLA = "forward", "folded", "forward, XLA"
STEP, XLA_STEP = "training step", "training step, XLA"
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
LATENCY, THROUGHPUT = 1, 16
PLAN = (
    *((what, batch) for what in (FORWARD, FOLDED) for batch in (LATENCY, THROUGHPUT)),
    (STEP, THROUGHPUT),
)
XLA_PLAN = (*PLAN, (XLA, LATENCY), (XLA, THROUGHPUT), (XLA_STEP, THROUGHPUT))


def measured(call, wait, calls):
    """Return the first call's seconds, and best and median of later calls, each waited for."""
    times = []
    for _ in range(calls + 3):
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    later = times[3:]
    return {"first": times[0], "best": min(later), "median": float(np.median(later))}


def ours(precision, calls, plan):
    """Yield (what, batch, figures)."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    from ytrue.model import EfficientDet
    from ytrue.model.losses import DetectionLoss
    from ytrue.model.step import training_step

    if not tf.config.list_physical_devices("GPU"):
        raise SystemExit("TensorFlow sees no GPU")
    device = tf.config.list_physical_devices("GPU")[0]
    tf.config.experimental.set_memory_growth(device, True)
    yield "device", 0, tf.config.experimental.get_device_details(device)["device_name"]
    keras.config.set_dtype_policy(PRECISIONS[precision])
    wait = tf.test.experimental.sync_devices
    for what, batch in plan:
        model = EfficientDet("d0", num_classes=CLASSES)
        if what == FOLDED:
            model = model.fold()
        images = tf.random.normal((batch, SIZE, SIZE, 3))
        if what in (STEP, XLA_STEP):
            optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
            model.compile(optimizer, DetectionLoss(), jit_compile=what == XLA_STEP)
            targets = {name: tf.constant(x) for name, x in random_targets(batch).items()}
            if what == XLA_STEP:
                call = partial(model.train_on_batch, images, targets)
            else:
                call = partial(training_step(model), (images, targets))
        else:
            call = partial(tf.function(model, jit_compile=what == XLA), images)
        tf.config.experimental.reset_memory_stats("GPU:0")
        figures = measured(call, wait, calls)
        figures["memory"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
        yield what, batch, figures


def effdet(precision, calls, plan):
    """Yield (what, batch, figures)."""
    import torch
    from effdet import create_model
    from effdet.loss import DetectionLoss

    yield "device", 0, torch.cuda.get_device_name(0)
    torch.backends.cudnn.benchmark = True
    # As TensorFlow does by itself.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    dtype = getattr(torch, precision)
    mixed = torch.autocast("cuda", dtype, enabled=precision != "float32")
    for what, batch in plan:
        if what not in (FORWARD, STEP):
            continue
        model = create_model("tf_efficientdet_d0", pretrained=False, pretrained_backbone=False)
        model = model.to("cuda", memory_format=torch.channels_last)
        images = torch.randn(batch, 3, SIZE, SIZE, device="cuda")
        images = images.to(memory_format=torch.channels_last)
        if what == STEP:
            model.train()
            criterion = DetectionLoss(model.config)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
            scaler = torch.amp.GradScaler("cuda", enabled=precision == "float16")
            labels, boxes = effdet_targets(batch, "cuda")
            positives = torch.full((batch,), 100.0, device="cuda")

            def call(
                model=model, images=images, criterion=criterion, optimizer=optimizer,
                scaler=scaler, labels=labels, boxes=boxes, positives=positives,
            ):  # fmt: skip
                with mixed:
                    loss, *_ = criterion(*model(images), labels, boxes, positives)
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        else:
            model.eval()

            def call(model=model, images=images):
                with torch.inference_mode(), mixed:
                    model(images)

        torch.cuda.reset_peak_memory_stats()
        figures = measured(call, torch.cuda.synchronize, calls)
        figures["memory"] = torch.cuda.max_memory_allocated() / 2**20
        yield what, batch, figures


WHO = {"ytrue": ours, "effdet": effdet}


def in_process(who, precision, calls, xla):
    """Return what a process of its own yields; each is said as it comes."""
    code = [sys.executable, __file__, "--worker", json.dumps([who, precision, calls, xla])]
    found = []
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            found.append(json.loads(line))
            print(f"{who}, {precision}:", line.strip(), file=sys.stderr, flush=True)
    if process.returncode:
        print(f"{who}, {precision}: stopped with {process.returncode}", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        who, precision, calls, xla = json.loads(options.worker)
        for found in WHO[who](precision, calls, XLA_PLAN if xla else PLAN):
            print(json.dumps(found), flush=True)
        return
    peers = ["effdet"] if find_spec("effdet") and find_spec("torch") else []
    found, device = {}, "?"
    for precision in options.precisions:
        for who in ("ytrue", *peers):
            for what, batch, figures in in_process(who, precision, options.calls, options.xla):
                if what == "device":
                    device = figures
                else:
                    found[who, what, batch, precision] = figures
    if not found:
        raise SystemExit("nothing was measured")
    packages = ["tensorflow", "keras", *(["torch", "effdet"] if peers else [])]
    print(device)
    print(machine("numpy", *packages))
    print(f"\n{SIZE} x {SIZE}, {CLASSES} classes; best of {options.calls} calls\n")
    rows = []
    for (who, what, batch, precision), figures in sorted(
        found.items(), key=lambda item: (XLA_PLAN.index(item[0][1:3]), item[0][3], item[0][0])
    ):
        best = figures["best"]
        rows.append((
            what, batch, precision, who, f"{best * 1e3:.1f}", f"{figures['median'] * 1e3:.1f}",
            f"{batch / best:.0f}", f"{figures['first']:.1f}", f"{figures['memory']:.0f}",
        ))  # fmt: skip
    head = ("what", "batch", "precision", "model", "best, ms", "median, ms", "images/s",
            "first call, s", "memory, MB")  # fmt: skip
    print(table(head, rows))


if __name__ == "__main__":
    main()
