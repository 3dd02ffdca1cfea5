"""Simulates what limits the service as the load grows, from measured costs.

`python -m benchmarks.scaling` prints the table of `docs/scaling.md`; `--costs bench.json` uses the costs of a run.
"""

import argparse
import json
import math
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simpy

_BATCH = 32
_GROUP = 32
#: Maximum share of time that a part may be busy while the wait for it stays short.
_FULL = 0.8
_IMAGE_MB = 0.055


@dataclass(frozen=True)
class Costs:
    """Measured CPU milliseconds per image of each part; the worker's are spread over its cores."""

    gateway_ms: float = 0.95
    redis_ms: float = 0.18
    worker_ms: float = 8.0
    #: Of one write to the append-only file, shared by a group of jobs.
    sync_ms: float = 1.0


@dataclass(frozen=True)
class Cell:
    """One Redis with the cores of its gateways and workers; a job's id determines its cell."""

    rate_per_s: float
    gateways: int
    workers: int


@dataclass
class SimulationResult:
    """Latencies and busy times of a simulated cell."""

    latencies_ms: list[float] = field(default_factory=list)
    busy_ms: dict[str, float] = field(default_factory=lambda: {"gateway": 0.0, "redis": 0.0, "worker": 0.0})

    def percentile(self, share: float) -> float:
        """A percentile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


class Simulation:
    """A cell under a steady load of single images."""

    def __init__(self, cell: Cell, costs: Costs, seconds: float, seed: int = 0) -> None:
        self._cell, self._costs = cell, costs
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._env = simpy.Environment()
        self._gateways = simpy.Resource(self._env, cell.gateways)
        self._redis = simpy.Resource(self._env, 1)
        self._submitted = simpy.Store(self._env)
        self._queued = simpy.Store(self._env)
        self._end_ms = seconds * 1000
        self.result = SimulationResult()

    def run(self) -> SimulationResult:
        """Run the simulation; the first tenth does not count towards the latencies."""
        self._env.process(self._arrive())
        self._env.process(self._write())
        for _ in range(self._cell.workers):
            self._env.process(self._work())
        self._env.run(until=self._end_ms)
        return self.result

    def _arrive(self) -> Generator[Any, Any, None]:
        while True:
            yield self._env.timeout(self._random.expovariate(self._cell.rate_per_s / 1000))
            self._env.process(self._accept(self._env.now))

    def _accept(self, arrived_ms: float) -> Generator[Any, Any, None]:
        yield from self._use("gateway", self._gateways, self._costs.gateway_ms)
        self._submitted.put(arrived_ms)

    def _write(self) -> Generator[Any, Any, None]:
        """Group commit: all jobs that have arrived share one write and one sync."""
        while True:
            group = yield from self._gather(self._submitted, _GROUP * self._cell.gateways)
            yield from self._use("redis", self._redis, self._costs.redis_ms / 2 * len(group) + self._costs.sync_ms)
            for arrived_ms in group:
                self._queued.put(arrived_ms)

    def _work(self) -> Generator[Any, Any, None]:
        """One worker core."""
        while True:
            batch = yield from self._gather(self._queued, _BATCH)
            took_ms = self._costs.worker_ms * len(batch)
            yield self._env.timeout(took_ms)
            self.result.busy_ms["worker"] += took_ms
            yield from self._use("redis", self._redis, self._costs.redis_ms / 2 * len(batch))
            for arrived_ms in batch:
                if arrived_ms > self._end_ms / 10:
                    self.result.latencies_ms.append(self._env.now - arrived_ms)

    def _gather(self, store: simpy.Store, limit: int) -> Generator[Any, Any, list[float]]:
        """Wait for one job, then take the others that have arrived; workers share them evenly."""
        found = [(yield store.get())]
        share = max(1, min(limit, math.ceil((len(store.items) + 1) / self._cell.workers)))
        while len(found) < (share if store is self._queued else limit) and store.items:
            found.append((yield store.get()))
        return found

    def _use(self, name: str, resource: simpy.Resource, took_ms: float) -> Generator[Any, Any, None]:
        with resource.request() as turn:
            yield turn
            yield self._env.timeout(took_ms)
            self.result.busy_ms[name] += took_ms


def shares(cell: Cell, result: SimulationResult, seconds: float) -> dict[str, float]:
    """Share of time that each part was busy, 0..1."""
    cores = {"gateway": cell.gateways, "redis": 1, "worker": cell.workers}
    return {name: result.busy_ms[name] / (seconds * 1000 * cores[name]) for name in cores}


def capacity_per_s(costs: Costs) -> dict[str, float]:
    """Images per second that one core of each part handles at its maximum load."""
    return {
        "a gateway core": _FULL * 1000 / costs.gateway_ms,
        "a Redis": _FULL * 1000 / (costs.redis_ms + costs.sync_ms / _GROUP),
        "a worker core": _FULL * 1000 / costs.worker_ms,
    }


def cells_for(rate_per_s: float, costs: Costs) -> tuple[int, Cell]:
    """How many cells a load needs, and the size of each."""
    capacity = capacity_per_s(costs)
    count = math.ceil(rate_per_s / capacity["a Redis"])
    rate = rate_per_s / count
    gateways = math.ceil(rate / capacity["a gateway core"])
    return count, Cell(rate, gateways, math.ceil(rate / capacity["a worker core"]))


#: First rows of the table: a small service under more load than it can handle.
_STEPS = (
    ("one machine of 2 cores, overloaded", 1, Cell(200, 1, 1)),
    ("1,000/s with one gateway core", 1, Cell(1000, 1, 9)),
)
_LOADS = (100, 1000, 10_000, 100_000)


def table(costs: Costs, seconds: float = 4.0) -> str:
    """The table of `docs/scaling.md`, in Markdown."""
    rows = [*_STEPS, *((f"{load:,}/s, sized for it", *cells_for(load, costs)) for load in _LOADS)]
    heads = ["load", "cells", "images/s per cell", "gateway cores", "worker cores", "busy: gateway, Redis, worker"]
    heads += ["p50 ms", "p99 ms", "total MB/s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, count, cell in rows:
        result = Simulation(cell, costs, seconds).run()
        busy = ", ".join(f"{share:.0%}" for share in shares(cell, result, seconds).values())
        slow = f"{result.percentile(0.5):.0f} | {result.percentile(0.99):.0f}"
        traffic = count * cell.rate_per_s * _IMAGE_MB
        lines.append(
            f"| {name} | {count} | {cell.rate_per_s:,.0f} | {cell.gateways} | {cell.workers} | {busy} | {slow} "
            f"| {traffic:,.0f} |"
        )
    return "\n".join(lines)


def costs_of(path: Path) -> Costs:
    """The costs measured by a run of the benchmark."""
    rounds = json.loads(path.read_text())["details"]["wait-32"]
    middle = sorted(rounds, key=lambda found: sum(found["cpu_ms"].values()))[len(rounds) // 2]["cpu_ms"]
    return Costs(middle["gateway"], middle["redis"], middle["worker"])


def main() -> None:
    """Print the capacity of one core, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--costs", type=Path, help="a bench.json; default: the costs stated in docs/scaling.md")
    given = parser.parse_args()
    costs = costs_of(given.costs) if given.costs else Costs()
    for name, capacity in capacity_per_s(costs).items():
        print(f"{name} handles {capacity:,.0f} images per second")
    print(table(costs))


if __name__ == "__main__":
    main()
