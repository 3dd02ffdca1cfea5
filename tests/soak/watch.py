"""Samples the resources of processes and of Redis during a load, and measures their growth."""

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from contract.ledger import keys

#: Tolerated memory growth during a run, because allocators and counters cause some.
_FLAT_SHARE, _FLAT_BYTES = 0.05, 10_000_000


@dataclass(frozen=True)
class Sample:
    """The resources of a process at one moment."""

    at_s: float
    rss_bytes: int
    fds: int
    threads: int


@dataclass
class Watch:
    """Samples processes, by name, and the keys in Redis from a background thread."""

    pids: dict[str, int]
    redis_url: str
    interval_s: float = 5.0
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    #: Seconds, number of keys, and bytes used by Redis.
    stored: list[tuple[float, int, int]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start sampling."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        processes = {name: psutil.Process(pid) for name, pid in self.pids.items()}
        with redis.Redis.from_url(self.redis_url) as client:
            while not self._stopping.wait(self.interval_s):
                at_s = time.monotonic() - began_s
                for name, process in processes.items():
                    self.samples.setdefault(name, []).append(_sample(process, at_s))
                used = int(client.info("memory")["used_memory"])
                self.stored.append((at_s, int(client.dbsize()), used))

    def findings(self, warm_up_share: float) -> dict[str, dict[str, Any]]:
        """Memory, file descriptors and threads by process, and their growth after the warm-up."""
        found = {name: _findings(rows[int(len(rows) * warm_up_share) :]) for name, rows in self.samples.items()}
        rows = self.stored[int(len(self.stored) * warm_up_share) :]
        counts = [(at_s, float(count)) for at_s, count, _ in rows]
        found["redis"]["keys"] = _range([count for _, count, _ in rows])
        found["redis"]["keys_growth"] = round(_growth(counts))
        return found


def _sample(process: psutil.Process, at_s: float) -> Sample:
    return Sample(at_s, process.memory_info().rss, process.num_fds(), process.num_threads())


def _findings(rows: Sequence[Sample]) -> dict[str, Any]:
    memory = [(row.at_s, float(row.rss_bytes)) for row in rows]
    growth, middle = _growth(memory), statistics.median(value for _, value in memory)
    return {
        "rss_mb": round(middle / 1e6, 1),
        "slope_kb_per_minute": round(60 * slope(memory) / 1e3, 1),
        "growth_mb": round(growth / 1e6, 2),
        "is_flat": growth < max(_FLAT_SHARE * middle, _FLAT_BYTES),
        "fds": _range([row.fds for row in rows]),
        "fds_growth": _steps([row.fds for row in rows]),
        "threads": _range([row.threads for row in rows]),
        "threads_growth": _steps([row.threads for row in rows]),
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Median slope between points half a run apart (a thinned Theil-Sen estimator): robust against single jumps."""
    half = len(points) // 2
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in zip(points, points[half:], strict=False) if x1 > x0]
    return statistics.median(slopes) if slopes else 0.0


def _growth(points: Sequence[tuple[float, float]]) -> float:
    return slope(points) * (points[-1][0] - points[0][0])


def _steps(values: Sequence[int]) -> float:
    """The change from the median of the first quarter to the median of the last quarter."""
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[:quarter])


def _range(values: Sequence[int]) -> str:
    return f"{min(values)}-{max(values)}"


def lasting_keys(redis_url: str, max_ttl_s: int) -> list[str]:
    """Keys that do not expire within `max_ttl_s`, except those in `_LASTING` with no more entries than listed there."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        names = [str(name) for name in client.scan_iter(count=1000)]
        return sorted(name for name in names if not _is_expected(client, name, max_ttl_s))


#: The keys that never expire, with their maximum number of entries.
_LASTING = {
    keys.TOTALS: 100,
    keys.ERRORS: 100,
    keys.COUNTERS: 20,
    keys.QUEUED_BYTES: 2,
    keys.SECRET: 64,  # characters
    keys.MODELS: 1,
    keys.model("cats-dogs"): 20,
    keys.DEFAULT_MODEL: 64,  # characters
    keys.MODEL_CHANGES: 10,
    keys.MODEL_TOTALS: 10,
    keys.WORKERS: 20,
    keys.WORKERS_ALIVE: 20,
    # The cap is approximate: Redis removes whole nodes.
    keys.EVENTS: keys.EVENTS_KEPT + 1000,
}
#: Entries of the counts of a version for a day: mostly its predict times, in steps of 10 %.
_COUNTS_MAX = 300
_SIZES = {"hash": "hlen", "zset": "zcard", "list": "llen", "stream": "xlen", "set": "scard", "string": "strlen"}


def _is_expected(client: Any, name: str, max_ttl_s: int) -> bool:
    if name.startswith(keys.MODEL_COUNTS):
        return client.ttl(name) <= keys.MODEL_COUNTS_DAYS * 86_400 and client.hlen(name) <= _COUNTS_MAX
    if client.ttl(name) != -1:
        return bool(client.ttl(name) <= max_ttl_s)
    if "_kombu.binding" in name:
        return True
    return bool(getattr(client, _SIZES[client.type(name)])(name) <= _LASTING.get(name, -1))
