"""The benchmark measures real services and reports figures, whose values are not checked."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def run_benchmark(out: Path, *arguments: str) -> dict[str, dict[str, float]]:
    assert main(["--scale", "tiny", "--out", str(out), *arguments]) == 0
    figures: dict[str, dict[str, float]] = json.loads(out.read_text())["figures"]
    return figures


def test_a_single_part_can_be_measured(tmp_path: Path) -> None:
    figures = run_benchmark(tmp_path / "bench.json", "--only", "submit")
    assert figures["submit-cpu"]["median"] > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_reports_figures(tmp_path: Path) -> None:
    figures = run_benchmark(tmp_path / "bench.json")
    assert {"bare", "wait-32", "poll-32", "bulk", "backlog-p50", "waiters-memory", "worker-start"} <= set(figures)
    profile = json.loads((tmp_path / "bench.json").read_text())["details"]["profile-worker"][0]
    assert profile["decode"] > 0
