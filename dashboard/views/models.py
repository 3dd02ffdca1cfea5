"""The page Models: the served bundle with its card and figures, and the runs of an MLflow server."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dashboard import figures
from dashboard.card import CardState, Content, Spec, Stat, Table, charted, judge
from dashboard.snapshot import Run, Served, Snapshot, SourceState
from dashboard.text import moment, number, percent

SPECS = (
    Spec("models-served", "Served bundle", has_stats=True, table="open", is_wide=True),
    Spec("models-metrics", "Figures on the test images", table="open"),
    charted("models-confusion", "Confusion matrix", "Test images by true and said label."),
    charted("models-calibration", "Calibration", "How often it was right by how sure it was."),
    Spec("models-card", "Model card", has_text=True, is_wide=True),
    Spec("models-runs", "MLflow runs", table="open", is_wide=True),
)
_BINS = 10
_NO_ANSWERS = "The bundle brings no answers to test images (predictions.csv)."


def contents(snapshot: Snapshot) -> dict[str, Content]:
    """What each card shows."""
    served = snapshot.served
    return {
        "models-served": _served(snapshot),
        "models-metrics": _metrics(snapshot),
        "models-confusion": _confusion(snapshot.bundle, served),
        "models-calibration": _calibration(snapshot.bundle, served),
        "models-card": _card(snapshot),
        "models-runs": _runs(snapshot),
    }


def _judge(source: SourceState, window: str, *, is_empty: bool = False, empty: str = "") -> Content:
    """As for any source, but a folder is read rather than reached."""
    content = judge(source, window, is_empty=is_empty, empty=empty)
    return replace(content, note=content.note.replace("unreachable", "not readable", 1))


def _served(snapshot: Snapshot) -> Content:
    served = snapshot.served
    content = _judge(snapshot.bundle, served_by(snapshot))
    if content.state is not CardState.OK or served is None:
        return content
    manifest = served.manifest
    accuracy = (manifest.get("metrics") or {}).get("accuracy") or {}
    shape = manifest.get("input") or {}
    stats = (
        Stat("Model", str(manifest.get("name", "")), served.version),
        Stat("Accuracy", percent(accuracy.get("value"), 1), interval(accuracy)),
        Stat("Input", f"{shape.get('width')} x {shape.get('height')} px", str(manifest.get("architecture", ""))),
        Stat("Labels", ", ".join(map(str, manifest["labels"])), str(manifest.get("output", ""))),
    )
    rows = [
        ("Made", str(manifest.get("created_at") or "not told")),
        ("Code", str(manifest.get("git_revision") or "not told")),
        ("Temperature", number(_float(manifest.get("temperature")))),
        *((name.replace("_", " "), _shown(value)) for name, value in (manifest.get("data") or {}).items()),
        *((f"{name} (library)", str(value)) for name, value in (manifest.get("libraries") or {}).items()),
    ]
    return replace(content, stats=stats, table=Table(("Of the bundle", "Value"), tuple(rows)))


def _shown(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def served_by(snapshot: Snapshot) -> str:
    """Whether workers serve the bundle that lies here."""
    if snapshot.served is None:
        return ""
    found = Counter(worker.model_version for worker in snapshot.workers)
    here, others = found.pop(snapshot.served.version, 0), ", ".join(sorted(found))
    if not here and not others:
        return "No worker serves it just now"
    if not others:
        return f"Served by {here} of {here} workers"
    return f"Served by {here} of {here + found.total()} workers; the others serve {others}"


def interval(metric: Mapping[str, Any]) -> str:
    """`95 %: 92.5 to 94.6 %`."""
    low, high = metric.get("low"), metric.get("high")
    if low is None or high is None:
        return "no interval told"
    return f"95 % interval {low * 100:.1f} to {high * 100:.1f} %"


def _metrics(snapshot: Snapshot) -> Content:
    metrics = (snapshot.served.manifest.get("metrics") or {}) if snapshot.served else {}
    empty = "The bundle tells no figures."
    content = _judge(snapshot.bundle, "with 95 % intervals", is_empty=not metrics, empty=empty)
    if content.state is not CardState.OK:
        return content
    body = tuple(
        (name.replace("_", " "), number(_float(row.get("value"))), _between(row)) for name, row in metrics.items()
    )
    return replace(content, table=Table(("Figure", "Value", "95 % interval"), body))


def _between(row: Mapping[str, Any]) -> str:
    low, high = _float(row.get("low")), _float(row.get("high"))
    return "-" if low is None or high is None else f"{number(low)} to {number(high)}"


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def confusion(labels: Sequence[str], answers: Sequence[tuple[str, str, float]]) -> list[list[int]]:
    """Test images by true label (rows) and said label (columns)."""
    counts = Counter((true, said) for true, said, _ in answers)
    return [[counts[true, said] for said in labels] for true in labels]


def _confusion(source: SourceState, served: Served | None) -> Content:
    answers = served.answers if served else ()
    window = f"{len(answers):,} test images"
    content = _judge(source, window, is_empty=not answers, empty=_NO_ANSWERS)
    if content.state is not CardState.OK or served is None:
        return content
    labels = [str(label) for label in served.manifest["labels"]]
    counts = confusion(labels, answers)
    body = tuple((f"is {true}", *(f"{n:,}" for n in row)) for true, row in zip(labels, counts, strict=True))
    table = Table(("Test images", *(f"said {label}" for label in labels)), body)
    return replace(content, figure=figures.heatmap(labels, counts), table=table)


def calibration_points(answers: Sequence[tuple[str, str, float]]) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, images) of each tenth of the range of confidences that has any."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for true, said, sure in answers:
        bins.setdefault(min(_BINS - 1, int(sure * _BINS)), []).append((sure, true == said))
    return [
        (sum(sure for sure, _ in rows) / len(rows), sum(right for _, right in rows) / len(rows), len(rows))
        for _, rows in sorted(bins.items())
    ]


def _calibration(source: SourceState, served: Served | None) -> Content:
    points = calibration_points(served.answers) if served else []
    window = "test images by tenths of confidence; on the dashed line it is right as often as it is sure"
    content = _judge(source, window, is_empty=not points, empty=_NO_ANSWERS)
    if content.state is not CardState.OK:
        return content
    body = tuple((percent(sure, 1), percent(right, 1), f"{images:,}") for sure, right, images in points)
    table = Table(("Mean confidence", "Right", "Images"), body)
    return replace(content, figure=figures.calibration(points), table=table)


def _card(snapshot: Snapshot) -> Content:
    text = snapshot.served.card if snapshot.served else ""
    content = _judge(
        snapshot.bundle, "README.md of the bundle", is_empty=not text, empty="The bundle has no README.md."
    )
    # The page has its own first heading.
    return replace(content, text=re.sub(r"^(#+) ", r"##\1 ", text, flags=re.MULTILINE))


_NO_SERVER = "No MLflow server is set; PAWQUEUE_MLFLOW_TRACKING_URI names one (http:// or https://)."


def _runs(snapshot: Snapshot) -> Content:
    if snapshot.mlflow is None:
        return Content(CardState.EMPTY, _NO_SERVER)
    empty = "The server holds no runs."
    content = judge(snapshot.mlflow, "latest runs", is_empty=not snapshot.runs, empty=empty)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    return replace(content, table=side_by_side(snapshot.runs))


_COLUMNS_MAX = 8


def side_by_side(runs: Sequence[Run]) -> Table:
    """Runs beside each other: a column a run, what differs or is measured downwards."""
    shown = runs[:_COLUMNS_MAX]
    metrics = sorted({name for run in shown for name in run.metrics})
    params = sorted({name for run in shown for name in run.params})
    differing = [name for name in params if len({run.params.get(name, "-") for run in shown}) > 1]
    body = [
        ("status", *(run.status.lower() for run in shown)),
        ("started", *(moment(run.started_s) if run.started_s else "-" for run in shown)),
        *((name, *(number(run.metrics[name]) if name in run.metrics else "-" for run in shown)) for name in metrics),
        *((name, *(run.params.get(name, "-") for run in shown)) for name in differing),
    ]
    return Table(("Of the run", *(run.name for run in shown)), tuple(body))
