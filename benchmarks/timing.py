"""Timing shared by the benchmarks: repeated runs, alone or in turn, and tables in Markdown."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray


def seconds(call: Callable[[], object], *, budget: float = 0.4, rounds: int = 5) -> float:
    """Return the median over rounds of the mean time of a call, after one warm-up."""
    call()
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-7)
    repeats = max(1, int(budget / rounds / once))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - start) / repeats)
    return float(np.median(times))


def in_turn(
    calls: Sequence[Callable[[], object]], *, rounds: int, warm_up: int = 1, twice: bool = False
) -> NDArray[np.float64]:
    """Return (calls, rounds) seconds: each round takes the calls in turn, so that all meet the same load.

    twice: of two calls in a row take the second, which finds in the caches what a loop of such calls
    would, not what another call left there.
    """
    times = np.empty((len(calls), warm_up + rounds))
    for turn in range(warm_up + rounds):
        for k, call in enumerate(calls):
            if twice:
                call()
            start = time.perf_counter()
            call()
            times[k, turn] = time.perf_counter() - start
    return times[:, warm_up:]


def filler(arrays: Sequence[NDArray[np.generic]]) -> Callable[[], None]:
    """Return what fills arrays (B, ...): image by image, as kernels write them, and by bytes.

    Bytes are what NumPy fills fastest.
    """
    plain = [array.reshape(len(array), -1).view(np.uint8) for array in arrays]

    def fill() -> None:
        for image in range(len(plain[0])):
            for array in plain:
                array[image].fill(0)

    return fill


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def machine(*packages: str) -> str:
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {versions}"
