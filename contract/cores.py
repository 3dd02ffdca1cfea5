"""How many cores a process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(limit: Path = _CGROUP_LIMIT) -> int:
    """Cores that this process may use: of its affinity, and within the limit of its container (cgroup version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such file, no limit ("max")
        quota_us, period_us = map(int, limit.read_text().split())
        return max(1, min(cores, math.ceil(quota_us / period_us)))
    return cores
