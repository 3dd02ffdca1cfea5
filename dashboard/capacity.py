"""How many images the workers can do, how many workers the queue wants, and how long it takes to clear."""

import math
from dataclasses import dataclass

from dashboard.quantities import RATE_S, Series

#: The queue is to be cleared within this time: the number of workers wanted follows from it.
CLEAR_WITHIN_S = 60.0
#: A worker that was busy for less of the time tells too little about its limit.
_BUSY_MIN = 0.05


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is known; None where it cannot be told."""

    workers: int
    #: Jobs that wait or run.
    backlog: float | None
    #: Images a second that come in, and that all workers do just now.
    accepted_per_s: float | None
    done_per_s: float | None
    #: Images a second that one worker could do if it were busy all the time.
    limit_per_worker: float | None
    #: Whether that was seen under a full load; else it is an estimate.
    is_seen: bool = False

    @property
    def limit_per_s(self) -> float | None:
        """Images a second that all workers could do."""
        return None if self.limit_per_worker is None else self.limit_per_worker * self.workers

    def clear_s(self, workers: int) -> float | None:
        """Seconds until nothing waits, with so many workers; infinite if the queue grows, None if not known."""
        if self.backlog is None or self.limit_per_worker is None:
            return None
        if self.backlog == 0:
            return 0.0
        spare = self.limit_per_worker * workers - (self.accepted_per_s or 0.0)
        return self.backlog / spare if spare > 0 else math.inf

    @property
    def wanted(self) -> int | None:
        """Workers that clear the queue within `CLEAR_WITHIN_S` while as much comes in as now; at least one."""
        if self.backlog is None or not self.limit_per_worker:
            return None
        needed_per_s = (self.accepted_per_s or 0.0) + self.backlog / CLEAR_WITHIN_S
        return max(1, math.ceil(needed_per_s / self.limit_per_worker - 1e-9))


def capacity_of(series: dict[str, tuple[Series, ...]], workers: int) -> Capacity:
    """Reckon it out of the newest numbers."""
    limit, is_seen = limit_of(series)
    return Capacity(
        workers=workers,
        backlog=_sum(series.get("jobs", ())),
        accepted_per_s=_sum(series.get("accepted", ())),
        done_per_s=_sum(series.get("images", ())),
        limit_per_worker=limit,
        is_seen=is_seen,
    )


def limit_of(series: dict[str, tuple[Series, ...]]) -> tuple[float | None, bool]:
    """Images a second of one worker at full load, and whether that was seen: else it is an estimate.

    Seen: the most that a worker did in a minute through which jobs waited. Estimated: what it did by the share of the
    time it was busy. The median over workers is taken.
    """
    seen = [limit for line in series.get("images", ()) if (limit := _seen(line, _full_at(series)))]
    guessed = [limit for line in series.get("images", ()) if (limit := _guessed(line, series.get("busy", ())))]
    limits = sorted(seen or guessed)
    return (limits[len(limits) // 2] if limits else None), bool(seen)


def _full_at(series: dict[str, tuple[Series, ...]]) -> set[float]:
    """When jobs had been waiting all the while over which a rate is taken: a moment's wait is no full load."""
    waiting: dict[float, float] = {}
    for line in series.get("jobs", ()):
        if line.label("state") == "queued":
            for at_s, count in line.points:
                waiting[at_s] = waiting.get(at_s, 0.0) + (count or 0.0)
    full, since_s = set(), None
    for at_s, count in sorted(waiting.items()):
        since_s = (at_s if since_s is None else since_s) if count else None
        if since_s is not None and at_s - since_s >= RATE_S:
            full.add(at_s)
    return full


def _seen(line: Series, full_at: set[float]) -> float | None:
    return max((rate for at_s, rate in line.points if rate and at_s in full_at), default=None)


def _guessed(line: Series, busy: tuple[Series, ...]) -> float | None:
    shares = dict(next((other.points for other in busy if other.labels == line.labels), ()))
    pairs = [(rate, shares.get(at_s) or 0.0) for at_s, rate in line.points if rate]
    known = [(rate, share) for rate, share in pairs if share >= _BUSY_MIN]
    return sum(rate for rate, _ in known) / sum(share for _, share in known) if known else None


def _sum(lines: tuple[Series, ...]) -> float | None:
    known = [line.last for line in lines if line.last is not None]
    return sum(known) if known else None
