"""A batch as many small calls beside each other, one a core, instead of one call over all cores."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: uint8 (batch, height, width, 3) to raw outputs (batch, units).
Call = Callable[[NDArray[np.uint8]], NDArray[np.floating]]

#: Pictures of a part: what a layer hands to the next then stays in the cache (measured, docs/performance.md).
PART = 4
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


class SideBySide:
    """Calls `narrow`, which takes one core, on parts of a batch at once; a batch smaller than `cores` goes to `wide`.

    Within one call over all cores each layer waits for its slowest core, and whatever else runs on one of them stops
    all. Parts wait for each other once a batch.
    """

    def __init__(self, wide: Call, narrow: Call, cores: int) -> None:
        self._wide, self._narrow, self._cores = wide, narrow, cores
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="model")

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Raw outputs of `pixels`, in their order; raises what a part raises."""
        if len(pixels) < max(2, self._cores):
            return self._wide(pixels)
        # As many for each core, so that none waits for another's last part.
        parts = math.ceil(len(pixels) / (PART * self._cores)) * self._cores
        return np.concatenate(list(self._pool.map(self._narrow, np.array_split(pixels, parts))))


def usable_cores(limit: Path = _CGROUP_LIMIT) -> int:
    """Cores that this process may use: of its affinity, and within the limit of its container (cgroup version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such file, no limit ("max")
        quota_us, period_us = map(int, limit.read_text().split())
        return max(1, min(cores, math.ceil(quota_us / period_us)))
    return cores
