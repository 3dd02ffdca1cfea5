"""Simulates the worker's autoscaler under three loads, with its settings and with variants of them.

`python -m benchmarks.autoscaling` prints the autoscaler table of `docs/scaling.md`. In each simulated second the load
adds to a backlog, and the ready workers reduce it. The metric is a few seconds old, and new workers take time to start.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from benchmarks.autoscaler import SYNC_S, Autoscaler, Behavior, Spec, read_spec

#: Images per second that one worker finishes.
RATE_PER_S = 100.0
#: Seconds from the decision to the first image: the pod is scheduled, and its model is loaded and warmed up.
START_S = 20.0
#: Age of the metric in seconds: it is scraped every 5 s, and the adapter caches it for a few seconds.
LAG_S = 10.0
#: Waits in these first seconds do not count: with any setting, the service first scales up from one worker.
_FIRST_S = 240

Load = Callable[[float], float]


@dataclass
class SimulatedHour:
    """The results of a simulated hour."""

    #: Seconds until the backlog was cleared for the last time; None if it is not empty at the end.
    cleared_s: float | None = None
    waits_s: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """How often workers were added or removed."""
        return sum(1 for a, b in itertools.pairwise(self.replicas) if a != b)

    @property
    def turns(self) -> int:
        """How often scaling changed direction: up after down, or down after up."""
        steps = [b - a for a, b in itertools.pairwise(self.replicas) if b != a]
        return sum(1 for a, b in itertools.pairwise(steps) if (a > 0) != (b > 0))

    @property
    def worker_hours(self) -> float:
        """The cost of the hour: the total running time of all workers."""
        return sum(self.replicas) / 3600

    @property
    def longest_wait_s(self) -> float:
        """Longest time that the ready workers would have needed to clear the backlog, after the first scale-up."""
        return max(self.waits_s[_FIRST_S:])


def simulate(spec: Spec, load: Load, seconds: int) -> SimulatedHour:
    """Simulate a load, second by second."""
    scaler, hour = Autoscaler(spec), SimulatedHour()
    backlog, replicas, ready_at_s, read = 0.0, spec.min_replicas, [0.0] * spec.min_replicas, [0.0]
    for now_s in range(seconds):
        ready = sum(1 for at_s in ready_at_s if at_s <= now_s)
        backlog = max(0.0, backlog + load(now_s) - RATE_PER_S * ready)
        read.append(backlog)
        if backlog:
            hour.cleared_s = None
        elif hour.cleared_s is None:
            hour.cleared_s = now_s
        hour.waits_s.append(backlog / (RATE_PER_S * max(1, ready)))
        if now_s % SYNC_S == 0:
            replicas = scaler.decide(now_s, replicas, read[max(0, len(read) - 1 - int(LAG_S))])
            ready_at_s = [*ready_at_s, *[now_s + START_S] * (replicas - len(ready_at_s))][:replicas]
        hour.replicas.append(replicas)
    return hour


def one_folder(now_s: float) -> float:
    """100,000 images, as fast as one client sends them."""
    return 1000.0 if now_s < 100 else 0.0


def folders(now_s: float) -> float:
    """A folder of 20,000 images every four minutes."""
    return 500.0 if now_s % 240 < 40 else 0.0


def wave(now_s: float) -> float:
    """A load that alternates every minute around the capacity of two workers."""
    return 290.0 if int(now_s / 60) % 2 else 110.0


def variants() -> Iterator[tuple[str, Spec]]:
    """The settings of the manifest, and variants that each change one of them."""
    shipped = read_spec()
    yield "default", shipped
    for pods, period_s in ((1, 60), (1, 30), (4, 30), (8, 15)):
        yield f"add at most {pods} per {period_s} s", replace(shipped, up=Behavior(shipped.up.window_s, pods, period_s))
    yield "add after 60 s of higher load", replace(shipped, up=replace(shipped.up, window_s=60))
    for window_s in (0, 60, 300, 1200):
        yield f"remove after {window_s} s", replace(shipped, down=replace(shipped.down, window_s=window_s))
    yield "remove without a rate limit", replace(shipped, down=replace(shipped.down, pods=shipped.max_replicas))


def table() -> list[str]:
    """The autoscaler table of `docs/scaling.md`, in Markdown."""
    lines = [
        "| setting | one folder of 100,000 images | a folder every 4 minutes | alternating load |",
        "|---|---|---|---|",
    ]
    for name, spec in variants():
        once, repeated, alternating = (simulate(spec, load, 3600) for load in (one_folder, folders, wave))
        cells = [f"{once.cleared_s:.0f}, {once.worker_hours:.1f}"]
        cells += [
            f"{s.changes}, {s.turns}, {s.worker_hours:.1f}, {s.longest_wait_s:.0f}" for s in (repeated, alternating)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
