"""The report of `performance_tracking.py`: latency figures, a table and a plot."""

import importlib.util
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_SHARES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_BLUE, _ORANGE, _GREY = "#3b6ea8", "#d9822b", "#777777"
_DPI = 110


def latency_figures(latencies_ms: list[float]) -> dict[str, float]:
    """Mean, standard deviation, minimum, quantiles and maximum in milliseconds; empty if there are no latencies."""
    if not latencies_ms:
        return {}
    ordered = sorted(latencies_ms)
    figures = {
        "mean": statistics.fmean(ordered),
        "std": statistics.pstdev(ordered),
        "min": ordered[0],
        **{name: _quantile(ordered, share) for name, share in _SHARES.items()},
        "max": ordered[-1],
    }
    return {name: round(value, 3) for name, value in figures.items()}


def show_latency(console: Console, report: dict[str, Any]) -> None:
    """Print the latency figures, the throughput and the errors."""
    if report["latency_ms"]:
        table = Table(title="Latency of POST /predict, ms", title_justify="left")
        for name in report["latency_ms"]:
            table.add_column(name, justify="right")
        table.add_row(*(f"{value:,.1f}" for value in report["latency_ms"].values()))
        console.print(table)
        speed = f"{report['images_per_s']:,.1f} images/s with {report['concurrency']} concurrent requests"
        console.print(f"{report['samples']:,} images in {report['seconds']:,.1f} s: {speed}.", highlight=False)
    for error, count in report["errors"].items():
        console.print(f"{count:,} failed: {error}", highlight=False)


def draw_plot(path: Path, report: dict[str, Any], latencies_ms: list[float]) -> Path | None:
    """Write a plot of confusion, scores and latency; returns None if matplotlib or data to draw is missing."""
    if importlib.util.find_spec("matplotlib") is None or not latencies_ms or not report["labels"]:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and optional

    figure = Figure(figsize=(13, 4), layout="constrained")
    matrix, scores, times = figure.subplots(1, 3)
    low, high = report["accuracy_interval_95"]
    figure.suptitle(
        f"{report['pictures']:,} images: accuracy {_percent(report['accuracy'])} "
        f"(95 % interval {_percent(low)} to {_percent(high)})"
    )
    _draw_matrix(matrix, report)
    _draw_scores(scores, report)
    _draw_latency(times, report, latencies_ms)
    figure.savefig(path, dpi=_DPI)
    return path


def _draw_matrix(axes: Any, report: dict[str, Any]) -> None:
    labels, rows = report["labels"], report["confusion_matrix"]
    shares = [[count / max(sum(row), 1) for count in row] for row in rows]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(rows):
        for x, count in enumerate(row):
            color = "white" if shares[y][x] > 0.5 else "black"
            axes.text(x, y, f"{count:,}\n{_percent(shares[y][x])}", ha="center", va="center", color=color)
    axes.set(xlabel="predicted", ylabel="true (folder)", title="Confusion")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)


def _draw_scores(axes: Any, report: dict[str, Any]) -> None:
    labels, width = report["labels"], 0.26
    for position, (name, color) in enumerate((("precision", _BLUE), ("recall", _ORANGE), ("f1", _GREY))):
        values = [report["by_label"][label][name] for label in labels]
        bars = axes.bar([x + (position - 1) * width for x in range(len(labels))], values, width, color=color)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=8, padding=2)
        bars.set_label("F1" if name == "f1" else name)
    axes.set(ylim=(0, 1.18), title="Scores by class")
    axes.set_xticks(range(len(labels)), labels)
    axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=8)


def _draw_latency(axes: Any, report: dict[str, Any], latencies_ms: list[float]) -> None:
    figures = report["latency_ms"]
    axes.hist(latencies_ms, bins=min(40, max(5, len(latencies_ms) // 4)), color=_BLUE)
    for name, color in (("p50", _ORANGE), ("p95", "black")):
        axes.axvline(figures[name], color=color, linestyle="--", label=f"{name} {figures[name]:,.1f} ms")
    axes.set(xlabel="ms", ylabel="images", title=f"Latency, {report['concurrency']} concurrent")
    axes.legend(frameon=False)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _quantile(ordered: list[float], share: float) -> float:
    """The quantile at `share` (0 to 1), interpolated between neighbors."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
