"""The verdicts, the report and the profile that are computed from measured figures."""

import json
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.parts import TINY, Run
from benchmarks.profile import seconds_of
from benchmarks.report import GOALS, Goal

HIGHER = Goal("a", "a", 0.8, 0.9, "higher")
LOWER = Goal("b", "b", 2.0, 1.5, "lower")


def test_a_verdict_compares_a_figure_with_both_values_of_its_goal() -> None:
    assert [HIGHER.verdict(value) for value in (0.95, 0.9, 0.85, 0.8, 0.79, None)] == [
        "aim",
        "aim",
        "reached",
        "reached",
        "missed",
        "not measured",
    ]
    assert [LOWER.verdict(value) for value in (1.4, 1.5, 1.9, 2.1)] == ["aim", "aim", "reached", "missed"]


def test_goals_have_unique_names_and_an_aim_beyond_the_required_value() -> None:
    assert len({goal.name for goal in GOALS}) == len(GOALS)
    for goal in GOALS:
        assert (goal.verdict(goal.aim), goal.verdict(goal.reach)) == ("aim", "reached")


def make_run(tmp_path: Path) -> Run:
    return Run(tmp_path, TINY, tmp_path, log=lambda text: None)


def test_the_report_has_medians_ranges_and_verdicts_and_keeps_figures_of_earlier_runs(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    first = make_run(tmp_path)
    for value in (0.7, 0.9, 0.86):
        first.add("wait-32", value, p50_ms=1)
    report.write(out, first)
    second = make_run(tmp_path)
    second.add("bulk", 0.5)
    report.write(out, second)
    written = json.loads(out.read_text())
    assert written["figures"]["wait-32"] == {"median": 0.86, "low": 0.7, "high": 0.9, "rounds": 3}
    assert written["details"]["wait-32"] == [{"p50_ms": 1}] * 3
    verdicts = {row["name"]: row["verdict"] for row in written["goals"]}
    assert (verdicts["wait-32"], verdicts["bulk"], verdicts["poll-32"]) == ("reached", "missed", "not measured")
    assert written["machine"]["cores"]
    assert written["versions"]["celery"]


def test_the_table_lists_every_goal(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.add("tail-32", 1.2)
    console = Console(width=200, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    report.show(report.write(tmp_path / "bench.json", run), console)
    text = console.export_text()
    assert all(goal.text in text for goal in GOALS)
    assert "aim" in text


def test_the_cpu_time_of_a_thread_is_split_by_its_samples() -> None:
    stacks = "\n".join(
        [
            "thread (7): decode_0;run (a.py:1);decode (bundle/decode.py:40) 30",
            "thread (7): decode_0;run (a.py:1);log (structlog/x.py:1) 10",
            "thread (7): decode_0;_worker (concurrent/futures/thread.py:81) 500",
            "thread (8): wait;Condition.wait (threading.py:327) 9",
        ]
    )
    steps = {"decode": ("decode.py",), "log": ("structlog",)}
    found = seconds_of(stacks, {7: 2.0, 8: 0.0, 9: 5.0}, steps)
    assert found == {"native threads": 5.0, "decode": 1.5, "log": 0.5}


def test_a_sample_belongs_to_its_innermost_step() -> None:
    stacks = "thread (7): main;handle (server.py:1);wsgi_app (flask/app.py:2);send (redis/client.py:3) 8"
    steps = {"HTTP": ("server.py",), "Flask": ("flask",)}
    assert seconds_of(stacks, {7: 2.0}, steps) == {"Flask": 2.0}
