"""The simulation behind docs/scaling.md."""

import json
from pathlib import Path

from benchmarks.scaling import Cell, Costs, Simulation, capacity_per_s, cells_for, costs_of, utilization

COSTS = Costs(gateway_ms=1.0, redis_ms=0.1, worker_ms=8.0, sync_ms=1.0)


def test_the_utilization_of_each_part_follows_from_load_and_costs() -> None:
    cell = Cell(100, gateways=1, workers=2)
    result = Simulation(cell, COSTS, 10).run()
    busy = utilization(cell, result, 10)
    assert abs(busy["worker"] - 100 * 8 / 1000 / 2) < 0.05
    assert abs(busy["gateway"] - 0.1) < 0.02
    assert result.percentile(0.5) > 10


def test_overload_increases_latency() -> None:
    fits, overloaded = (Simulation(Cell(rate, 1, 1), COSTS, 3).run().percentile(0.5) for rate in (60, 200))
    assert overloaded > 5 * fits


def test_no_part_of_a_cell_exceeds_its_capacity() -> None:
    capacity = capacity_per_s(COSTS)
    count, cell = cells_for(100_000, COSTS)
    assert count * cell.rate_per_s >= 99_999
    assert cell.rate_per_s <= capacity["one Redis"]
    assert cell.rate_per_s <= cell.workers * capacity["one worker core"]


def test_costs_are_the_median_round_of_a_benchmark_run(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    rounds = [{"cpu_ms": {"gateway": g, "redis": 0.2, "worker": 8.0, "load": 0.1}} for g in (1.0, 3.0, 2.0)]
    path.write_text(json.dumps({"details": {"wait-32": rounds}}))
    assert costs_of(path) == Costs(2.0, 0.2, 8.0)
