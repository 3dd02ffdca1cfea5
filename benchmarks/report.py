"""The table and bench.json: goals, what was measured, on what machine."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import GOALS, Goal
from benchmarks.parts import Run, Scale
from benchmarks.service import ROOT

_LIBRARIES = ("celery", "redis", "flask", "gunicorn", "gevent", "keras", "tensorflow-cpu", "pillow", "numpy")
_STYLES = {"aim": "green", "reached": "green", "missed": "red", "not measured": "dim"}


def summary(run: Run) -> dict[str, dict[str, Any]]:
    """Median and spread of each figure."""
    return {
        name: {"median": median(values), "low": min(values), "high": max(values), "rounds": len(values)}
        for name, values in run.figures.items()
    }


def verdicts(figures: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each goal with what was measured."""
    rows = []
    for goal in GOALS:
        value = figures[goal.name]["median"] if goal.name in figures else None
        row = {"name": goal.name, "what": goal.text, "reach": goal.reach, "aim": goal.aim}
        rows.append(row | {"measured": value, "verdict": goal.verdict(value)})
    return rows


def write(path: Path, run: Run) -> dict[str, Any]:
    """Write bench.json; parts that were not run keep what an earlier run has found. Returns what was written."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    figures = earlier.get("figures", {}) | summary(run)
    details = earlier.get("details", {}) | run.details
    written = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "revision": _revision(),
        "scale": _scale(run.scale),
        "goals": verdicts(figures),
        "figures": figures,
        "details": details,
    }
    path.write_text(json.dumps(written, indent=1) + "\n")
    return written


def show(written: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table("what", "measured", "spread", "reach", "aim", "verdict", title="Pawqueue beside the bare loop")
    for goal, row in zip(GOALS, written["goals"], strict=True):
        found = written["figures"].get(goal.name)
        spread = f"{found['low']:.3g} to {found['high']:.3g}" if found else ""
        value = _text(goal, row["measured"])
        reach, aim = _text(goal, goal.reach), _text(goal, goal.aim)
        table.add_row(goal.text, value, spread, reach, aim, row["verdict"], style=_STYLES[row["verdict"]])
    console.print(table)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def _text(goal: Goal, value: float | None) -> str:
    return "" if value is None else f"{value:.3g} {goal.unit}".strip()


def _scale(scale: Scale) -> dict[str, Any]:
    return {name: getattr(scale, name) for name in scale.__dataclass_fields__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str:
    try:
        return version(name)
    except Exception:  # noqa: BLE001 - not installed under this name
        return ""


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
