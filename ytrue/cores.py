"""How many cores there are to work with, and the one pool of threads that works on them."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_pool() -> ThreadPoolExecutor:
    """Return this process's pool, for work that releases the GIL and waits for nobody."""
    return _pool(os.getpid())


@cache
def _pool(_process: int) -> ThreadPoolExecutor:
    # Keyed by the process: a forked child has none of its parent's threads.
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="ytrue")
