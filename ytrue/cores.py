"""How many cores there are to work with, and the pools of threads that work on them."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_pool(threads: int | None = None) -> ThreadPoolExecutor:
    """Return this process's pool of so many threads, for work that waits for nobody.

    There is one for each number, however many ask for it; the default is the cores'.
    """
    return _pool(os.getpid(), threads)


@cache
def _pool(_process: int, threads: int | None) -> ThreadPoolExecutor:
    # Keyed by the process: a forked child has none of its parent's threads.
    return ThreadPoolExecutor(threads or available_cores(), thread_name_prefix="ytrue")
