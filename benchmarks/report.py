"""The goals, and how the measured figures compare with them: a table and `bench.json`.

Wherever possible, a goal is a ratio of two figures of the same run, so that it means the same on every machine.
"""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.parts import Run
from benchmarks.peers.table import markdown
from benchmarks.processes import ROOT

_LIBRARIES = ("celery", "redis", "flask", "gunicorn", "gevent", "keras", "tensorflow-cpu", "pillow", "numpy")
_STYLES = {"aim": "green", "reached": "green", "missed": "red", "not measured": "dim"}


@dataclass(frozen=True)
class Goal:
    """One line of the table."""

    #: Name of the measured figure.
    name: str
    text: str
    #: The value that must be reached, and the value to aim for.
    reach: float
    aim: float
    better: Literal["higher", "lower"]
    unit: str = ""

    def verdict(self, value: float | None) -> str:
        """`aim`, `reached`, `missed`, or `not measured`."""
        if value is None:
            return "not measured"
        sign = 1 if self.better == "higher" else -1
        if sign * value >= sign * self.aim:
            return "aim"
        return "reached" if sign * value >= sign * self.reach else "missed"


GOALS = (
    Goal("wait-32", "32 clients, baseline_cnn float32: images/s vs the bare loop", 0.85, 0.92, "higher"),
    Goal("wait-128", "128 clients, baseline_cnn float32: images/s vs the bare loop", 0.85, 0.92, "higher"),
    Goal("shipped-32", "32 clients, included model float32: images/s vs the bare loop", 0.75, 0.88, "higher"),
    Goal("poll-32", "32 clients that submit, then get the job: images/s vs the bare loop", 0.78, 0.88, "higher"),
    Goal("bulk", "a folder through the client: images/s vs the bare loop", 0.90, 0.95, "higher"),
    Goal("auto-32", "32 clients, precision auto: images/s vs a bare loop in this precision", 0.75, 0.88, "higher"),
    Goal("latency-1", "1 client: p50 vs one image in the bare loop", 1.7, 1.4, "lower"),
    Goal("tail-32", "32 clients: p99 vs p50", 2.0, 1.5, "lower"),
    Goal("submit-cpu", "submit: gateway CPU per job vs a Flask route that only reads the body", 2.5, 2.0, "lower"),
    Goal("backlog-p50", "submit of 7 kB images: p50 behind a backlog vs an empty queue", 1.2, 1.0, "lower"),
    Goal("ledger-memory", "ledger memory per queued job, without its image", 1.0, 0.5, "lower", "kB"),
    Goal("waiters-memory", "waiting clients: additional gateway memory", 40, 15, "lower", "MB"),
    Goal("waiters-commands", "waiting clients: Redis commands per second, for 1,000 clients", 10, 5, "lower", "/s"),
    Goal("listeners-memory", "event streams: additional gateway memory", 40, 15, "lower", "MB"),
    Goal("listeners-commands", "event streams: Redis commands per second, for 1,000 streams", 10, 5, "lower", "/s"),
    Goal("gateway-start", "gateway: time to ready vs importing its libraries", 1.5, 1.2, "lower"),
    Goal("gateway-memory", "gateway: memory", 110, 90, "lower", "MB"),
    Goal("worker-start", "worker with remembered strategies: time to ready vs the bare loop", 1.2, 1.1, "lower"),
    Goal("peers-32", "32 clients, baseline_cnn: images/s vs the best other server", 1.0, 1.1, "higher"),
    Goal("peers-128", "128 clients, baseline_cnn: images/s vs the best other server", 1.0, 1.1, "higher"),
    Goal("peers-shipped-32", "32 clients, included model: images/s vs the best other server", 1.15, 1.3, "higher"),
    Goal("peers-auto-32", "32 clients, precision auto: images/s vs the best other server", 1.3, 1.6, "higher"),
    Goal("peers-latency-1", "1 client: p50 vs FastAPI", 1.3, 1.15, "lower"),
    Goal("shadow-32", "32 clients, with a shadow of all jobs: images/s vs without one", 0.95, 0.98, "higher"),
    Goal("shadow-1", "1 client, with a shadow of all jobs: images/s vs without one", 0.95, 0.98, "higher"),
    Goal("two-workers", "two worker processes: images/s vs one worker", 1.0, 1.1, "higher"),
)


def write(path: Path, run: Run) -> dict[str, Any]:
    """Write bench.json and return its content; parts that did not run keep the figures of an earlier run."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    figures = earlier.get("figures", {}) | _summary(run)
    details = earlier.get("details", {}) | run.details
    written = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "revision": _revision(),
        "scale": asdict(run.scale),
        "goals": _verdicts(figures),
        "figures": figures,
        "details": details,
    }
    path.write_text(json.dumps(written, indent=1) + "\n")
    return written


def show(written: dict[str, Any], console: Console) -> None:
    """Print the goals, and the comparisons with other servers as Markdown for docs/performance.md."""
    table = Table("figure", "median", "range", "goal", "aim", "verdict", title="Pawqueue compared with the bare loop")
    for goal, row in zip(GOALS, written["goals"], strict=True):
        figure = written["figures"].get(goal.name)
        range_text = f"{figure['low']:.3g} to {figure['high']:.3g}" if figure else ""
        measured = _text(goal, row["measured"])
        reach, aim = _text(goal, goal.reach), _text(goal, goal.aim)
        table.add_row(goal.text, measured, range_text, reach, aim, row["verdict"], style=_STYLES[row["verdict"]])
    console.print(table)
    for name in ("peers", "peers-shipped"):
        for found in written["details"].get(name, []):
            text = markdown(found, written["machine"])
            console.print(f"\n{name}:\n{text}", markup=False, highlight=False, soft_wrap=True)


def _summary(run: Run) -> dict[str, dict[str, Any]]:
    """Median and range of each figure."""
    return {
        name: {"median": median(values), "low": min(values), "high": max(values), "rounds": len(values)}
        for name, values in run.figures.items()
    }


def _verdicts(figures: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each goal with its measured figure and verdict."""
    rows = []
    for goal in GOALS:
        value = figures[goal.name]["median"] if goal.name in figures else None
        row = {"name": goal.name, "what": goal.text, "reach": goal.reach, "aim": goal.aim}
        rows.append(row | {"measured": value, "verdict": goal.verdict(value)})
    return rows


def _text(goal: Goal, value: float | None) -> str:
    return "" if value is None else f"{value:.3g} {goal.unit}".strip()


def machine() -> dict[str, Any]:
    """Processor, cores, versions and load of this machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def _processor() -> str:
    """Its name; on x86 with family and model, because virtual machines often hide the rest."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name", "")
    return f"{name} (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else name


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
