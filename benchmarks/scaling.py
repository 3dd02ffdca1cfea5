"""Simulates, from measured costs, what limits the service as the load grows.

`python -m benchmarks.scaling` prints the load table of `docs/scaling.md`; `--costs bench.json` uses the costs of a run.
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
#: Up to this utilization of a part, jobs wait only briefly for it.
_MAX_UTILIZATION = 0.8
_IMAGE_MB = 0.055


@dataclass(frozen=True)
class Costs:
    """Measured CPU milliseconds per image; those of a worker are spread over its cores."""

    gateway_ms: float = 0.95
    redis_ms: float = 0.18
    worker_ms: float = 8.0
    #: One write to the append-only file, shared by a group of jobs.
    sync_ms: float = 1.0


@dataclass(frozen=True)
class Cell:
    """One Redis with the cores of its gateways and workers; a job's id determines its cell."""

    rate_per_s: float
    gateways: int
    workers: int


@dataclass
class SimulationResult:
    """The latencies and busy times of a simulated cell."""

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
        """Run the simulation; latencies in its first tenth are not recorded."""
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
        """Wait for one job, then take others that have arrived; waiting jobs are shared evenly among the workers."""
        jobs = [(yield store.get())]
        share = max(1, min(limit, math.ceil((len(store.items) + 1) / self._cell.workers)))
        while len(jobs) < (share if store is self._queued else limit) and store.items:
            jobs.append((yield store.get()))
        return jobs

    def _use(self, name: str, resource: simpy.Resource, took_ms: float) -> Generator[Any, Any, None]:
        with resource.request() as request:
            yield request
            yield self._env.timeout(took_ms)
            self.result.busy_ms[name] += took_ms


def utilization(cell: Cell, result: SimulationResult, seconds: float) -> dict[str, float]:
    """The share of time that each part was busy, 0..1."""
    cores = {"gateway": cell.gateways, "redis": 1, "worker": cell.workers}
    return {name: result.busy_ms[name] / (seconds * 1000 * cores[name]) for name in cores}


def capacity_per_s(costs: Costs) -> dict[str, float]:
    """Images per second that one core of each part handles at its maximum utilization."""
    return {
        "one gateway core": _MAX_UTILIZATION * 1000 / costs.gateway_ms,
        "one Redis": _MAX_UTILIZATION * 1000 / (costs.redis_ms + costs.sync_ms / _GROUP),
        "one worker core": _MAX_UTILIZATION * 1000 / costs.worker_ms,
    }


def cells_for(rate_per_s: float, costs: Costs) -> tuple[int, Cell]:
    """How many cells a load needs, and the size of each."""
    capacity = capacity_per_s(costs)
    count = math.ceil(rate_per_s / capacity["one Redis"])
    rate = rate_per_s / count
    gateways = math.ceil(rate / capacity["one gateway core"])
    return count, Cell(rate, gateways, math.ceil(rate / capacity["one worker core"]))


#: The first rows of the table: cells that are too small for their load.
_OVERLOADED = (
    ("200/s, one machine with 2 cores", 1, Cell(200, 1, 1)),
    ("1,000/s, one gateway core", 1, Cell(1000, 1, 9)),
)
_LOADS = (100, 1000, 10_000, 100_000)


def table(costs: Costs, seconds: float = 4.0) -> str:
    """The load table of `docs/scaling.md`, in Markdown."""
    rows = [*_OVERLOADED, *((f"{load:,}/s, right-sized", *cells_for(load, costs)) for load in _LOADS)]
    heads = ["load", "cells", "images/s per cell", "gateway cores per cell", "worker cores per cell"]
    heads += ["utilization: gateway, Redis, worker", "p50 ms", "p99 ms", "total MB/s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, count, cell in rows:
        result = Simulation(cell, costs, seconds).run()
        busy = ", ".join(f"{share:.0%}" for share in utilization(cell, result, seconds).values())
        latencies = f"{result.percentile(0.5):.0f} | {result.percentile(0.99):.0f}"
        traffic = count * cell.rate_per_s * _IMAGE_MB
        lines.append(
            f"| {name} | {count} | {cell.rate_per_s:,.0f} | {cell.gateways} | {cell.workers} | {busy} | {latencies} "
            f"| {traffic:,.0f} |"
        )
    return "\n".join(lines)


def costs_of(path: Path) -> Costs:
    """The costs that a run of the benchmark measured."""
    rounds = json.loads(path.read_text())["details"]["wait-32"]
    by_cost = sorted((one_round["cpu_ms"] for one_round in rounds), key=lambda cpu_ms: sum(cpu_ms.values()))
    median = by_cost[len(by_cost) // 2]
    return Costs(median["gateway"], median["redis"], median["worker"])


def main() -> None:
    """Print the capacity of one core of each part, and the load table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--costs", type=Path, help="a bench.json; default: the costs stated in docs/scaling.md")
    given = parser.parse_args()
    costs = costs_of(given.costs) if given.costs else Costs()
    for name, capacity in capacity_per_s(costs).items():
        print(f"{name} handles {capacity:,.0f} images per second")
    print(table(costs))


if __name__ == "__main__":
    main()
