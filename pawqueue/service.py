"""What the gateway tells of the service as a whole: its queues, workers and totals, out of its metrics."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pawqueue.deadline import Deadline
from pawqueue.wire import Call, Wire


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The service at one moment."""

    #: By queue.
    queued: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    #: Seconds that the oldest waiting job has waited, by queue.
    oldest_s: dict[str, float] = field(default_factory=dict)
    #: Jobs that ended so far, by status, and those with a prediction by label.
    ended: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    workers: int = 0
    #: Whether the ledger answers; without it everything above is unknown.
    ledger_up: bool = True
    seen_s: float = field(default_factory=time.monotonic)

    def rate_since(self, before: "ServiceState | None") -> float | None:
        """Jobs that ended per second since an earlier look; None without one."""
        if before is None or self.seen_s <= before.seen_s:
            return None
        return max(0, self.ended.total() - before.ended.total()) / (self.seen_s - before.seen_s)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "ledger_up": self.ledger_up,
            "workers": self.workers,
            "queued": dict(self.queued),
            "running": dict(self.running),
            "oldest_s": self.oldest_s,
            "ended": dict(self.ended),
            "labels": dict(self.labels),
            "dead": self.dead,
        }


def look_at_service(wire: Wire, deadline: Deadline) -> ServiceState:
    """Read the gateway's metrics once; raises what `Wire.send` raises."""
    text = wire.send(Call("GET", "/metrics", accept="text/plain"), deadline).text
    try:
        return _state(list(_samples(text)))
    except ValueError as error:
        raise wire.stranger() from error


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def _state(samples: list[Sample]) -> ServiceState:
    single = {"pawqueue_ledger_up": 1, "pawqueue_workers": 0, "pawqueue_dead_jobs": 0}
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("queued", "running", "ended", "labels")}
    oldest_s: dict[str, float] = {}
    for name, labels, value, *_ in samples:
        if name == "pawqueue_queue_jobs":
            counts[labels["state"]][labels["queue"]] = int(value)
        elif name == "pawqueue_oldest_job_age_seconds":
            oldest_s[labels["queue"]] = value
        elif name == "pawqueue_jobs_total":
            counts["ended"][labels["status"]] += int(value)
            if labels["label"]:
                counts["labels"][labels["label"]] += int(value)
        elif name in single:
            single[name] = int(value)
    up, workers, dead = single.values()
    return ServiceState(
        counts["queued"], counts["running"], oldest_s, counts["ended"], counts["labels"], dead, workers, bool(up)
    )
