"""Work on all cores: kernels release the GIL, so threads are enough."""

from __future__ import annotations

from collections.abc import Callable

from ytrue.cores import available_cores, shared_pool

# Below this much output a hand-over to another thread costs more than it saves.
SMALLEST_SHARE = 256 * 1024


def run_split(job: Callable[[int, int], int], count: int, *, bytes_each: int) -> int:
    """Run job(first, end) over [0, count) in shares on all cores; return the largest answer."""
    shares = min(available_cores(), count, max(1, count * bytes_each // SMALLEST_SHARE))
    if shares <= 1:
        return job(0, count)
    bounds = [count * share // shares for share in range(shares + 1)]
    pool = shared_pool()
    pending = [pool.submit(job, bounds[i], bounds[i + 1]) for i in range(1, shares)]
    first = job(bounds[0], bounds[1])
    return max([first, *(future.result() for future in pending)])
