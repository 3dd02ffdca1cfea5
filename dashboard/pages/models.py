"""The Models page: the served bundle with its model card and test metrics, and the runs of an MLflow server."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dash import html
from dash.development.base_component import Component

from contract.ledger.counts import VersionCounts
from contract.ledger.models import Shadow
from contract.ledger.shadows import Agreement, Disagreement
from contract.ledger.types import ChosenStrategy, Heartbeat
from contract.queues import QUEUES
from contract.status import Status
from dashboard.data.jobs import Filters, format_query
from dashboard.data.snapshot import FEEDBACK_DAYS, Run, ServedBundle, Snapshot
from dashboard.data.source import SourceState
from dashboard.pages import model_changes
from dashboard.pages.page import Page, View
from dashboard.parts import figures
from dashboard.parts.card import Card, CardState, Content, Entry, Stat, Table, chart_card, content_of
from dashboard.parts.text import UNKNOWN, count, date_time, milliseconds, number, percent

CARDS = (
    Card("models-all", "All models", ("table",), is_wide=True),
    Card("models-versions", "Versions", ("table",), is_wide=True),
    Card("models-feedback", "Accuracy by feedback", ("table",), is_wide=True),
    Card("models-shadows", "Shadows", ("table",), is_wide=True),
    Card("models-disagreements", "Images on which shadows differ", ("list",), is_wide=True),
    Card("models-served", "Served bundle", ("stats", "table"), is_wide=True),
    Card("models-strategies", "Strategies of the workers", ("table",), is_wide=True),
    Card("models-metrics", "Metrics on the test images", ("table",)),
    chart_card("models-confusion", "Confusion matrix", "Test images by actual and predicted label."),
    chart_card("models-calibration", "Calibration", "Accuracy by confidence."),
    Card("models-card", "Model card", ("text",), is_wide=True),
    Card("models-runs", "MLflow runs", ("table",), is_wide=True),
)


def contents(view: View) -> dict[str, Content]:
    """What each card shows, by card id."""
    snapshot = view.snapshot
    return {
        "models-all": _all_models(snapshot),
        "models-versions": _versions(snapshot),
        "models-feedback": _feedback(snapshot),
        "models-shadows": _shadows(snapshot),
        "models-disagreements": _disagreements(view),
        "models-served": _served(snapshot),
        "models-strategies": _strategies(snapshot),
        "models-metrics": _metrics(snapshot),
        "models-confusion": _confusion(snapshot.bundle, snapshot.served),
        "models-calibration": _calibration(snapshot.bundle, snapshot.served),
        "models-card": _model_card(snapshot),
        "models-runs": _runs(snapshot),
    }


def layout(view: View, cards: list[Component]) -> list[Component]:
    """The buttons that change models, and the cards."""
    return [html.Div([*model_changes.change_section(view), *cards], className="cards")]


PAGE = Page(
    "models",
    "/models",
    "Models",
    "All models, the served bundle and training runs.",
    CARDS,
    contents,
    layout,
    model_changes.register,
)

_MODELS_HEAD = ("Model", "Live version", "Queued", "Running", "Workers", "Loaded by", "Problem")


def _all_models(snapshot: Snapshot) -> Content:
    live = snapshot.status.live
    content = content_of(
        snapshot.ledger,
        "Clients name a model with `?model=`; the default model processes jobs that name none",
        is_empty=not live,
        empty="No worker has registered a model yet.",
    )
    if not content.has_data:
        return content
    return replace(content, table=Table(_MODELS_HEAD, tuple(_model(snapshot.status, name) for name in live)))


def _model(status: Status, name: str) -> tuple[str, ...]:
    is_default = name == status.default_model
    names = {name, ""} if is_default else {name}
    rows = [status.stats.of_queue(queue, names) for queue in QUEUES]
    held = [item for worker in status.workers for item in worker.models if item.name == name]
    canary = status.canaries.get(name)
    return (
        f"{name} (default)" if is_default else name,
        status.live[name] + (f" (canary: {canary.version}, {canary.percent:g} %)" if canary else ""),
        number(sum(row.queued for row in rows)),
        number(sum(row.running for row in rows)),
        number(sum(worker.takes_jobs_of(name) for worker in status.workers)),
        number(sum(item.state == "ready" for item in held if item.version == status.live[name])),
        next((f"{item.version}: {item.problem}" for item in held if item.problem), "-"),
    )


_VERSIONS_HEAD = ("Model", "Version", "Jobs", "Errors", "95 % interval", "p50", "p95", "Confidence", "Labels")
#: Maximum number of labels of a version.
_LABELS_SHOWN = 4


def _versions(snapshot: Snapshot) -> Content:
    """What each version did; the next card shows their accuracy."""
    rows = [
        (
            name,
            _role(snapshot.status, name, found.version),
            number(found.jobs),
            percent(found.errors / found.jobs, 1),
            "{:.1f} to {:.1f} %".format(*(100 * end for end in found.error_interval)),
            *(UNKNOWN if time is None else milliseconds(time) for time in map(found.predict_ms, (0.5, 0.95))),
            percent(found.mean_confidence, 1),
            _label_mix(found),
        )
        for name, versions in snapshot.counts.items()
        for found in versions
        if found.jobs
    ]
    content = content_of(
        snapshot.ledger,
        f"Jobs of the last {FEEDBACK_DAYS} days. Errors: exceptions of the model. p50 and p95: times of its calls",
        is_empty=not rows,
        empty="No version has processed a job yet.",
    )
    return replace(content, table=Table(_VERSIONS_HEAD, tuple(rows))) if content.has_data else content


def _role(status: Status, name: str, version: str) -> str:
    canary = status.canaries.get(name)
    if version == status.live.get(name):
        return f"{version} (live)"
    return f"{version} (canary)" if canary and canary.version == version else version


def _label_mix(found: VersionCounts) -> str:
    total = sum(found.labels.values())
    ordered = sorted(found.labels.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{label} {percent(count / total)}" for label, count in ordered[:_LABELS_SHOWN]]
    return ", ".join([*shown, *(["..."] if len(ordered) > _LABELS_SHOWN else [])]) or "-"


_FEEDBACK_HEAD = ("Model", "Version", "Accuracy", "95 % interval", "Images")


def _feedback(snapshot: Snapshot) -> Content:
    rows = [
        (
            name,
            _role(snapshot.status, name, found.version),
            percent(found.count.right / found.count.total, 1),
            "{:.1f} to {:.1f} %".format(*(100 * end for end in found.count.interval)),
            number(found.count.total),
        )
        for name, versions in snapshot.feedback.items()
        for found in versions
    ]
    content = content_of(
        snapshot.ledger,
        f"The right labels that users reported for jobs of the last {FEEDBACK_DAYS} days",
        is_empty=not rows,
        empty="Nobody has reported right labels yet. See `pawqueue feedback --help`.",
    )
    return replace(content, table=Table(_FEEDBACK_HEAD, tuple(rows))) if content.has_data else content


_SHADOW_HEAD = (
    *("Model", "Shadow", "Compared with", "Agreement", "95 % interval"),
    *("Images", "Right: other", "Right: shadow", "McNemar p", "State"),
)


def _shadows(snapshot: Snapshot) -> Content:
    """One row for each pair of versions that were compared, and for each shadow that has not been yet."""
    rows = []
    for name, found in snapshot.shadows.items():
        compared = {pair.shadow for pair in found.agreement}
        pairs = list(found.agreement)
        if found.current and found.current.version not in compared:
            pairs.append(Agreement(snapshot.status.live.get(name, ""), found.current.version))
        rows += [_shadow(snapshot, name, pair, found.current) for pair in pairs]
    content = content_of(
        snapshot.ledger,
        f"Jobs of the last {FEEDBACK_DAYS} days that a shadow predicted too, and those whose right label was reported",
        is_empty=not rows,
        empty="No model has a shadow. See `pawqueue models shadow --help`.",
    )
    return replace(content, table=Table(_SHADOW_HEAD, tuple(rows))) if content.has_data else content


def _shadow(snapshot: Snapshot, name: str, pair: Agreement, current: Shadow | None) -> tuple[str, ...]:
    right, compared = pair.with_feedback, pair.compared
    return (
        name,
        pair.shadow,
        pair.live,
        percent(pair.agreed / compared, 1) if compared else "-",
        "{:.1f} to {:.1f} %".format(*(100 * end for end in pair.interval)) if compared else "-",
        number(compared),
        f"{pair.both_right + pair.only_live:,} of {right:,}" if right else "-",
        f"{pair.both_right + pair.only_shadow:,} of {right:,}" if right else "-",
        f"{pair.p_value:.3f}" if right else "-",
        _shadow_state(snapshot, name, current) if current and current.version == pair.shadow else "Removed",
    )


def _shadow_state(snapshot: Snapshot, name: str, shadow: Shadow) -> str:
    held = [found for worker in snapshot.workers if (found := worker.shadow_of(name, shadow.version))]
    problem = shadow.problem or next((found.problem for found in held if found.problem), "")
    if shadow.problem:
        return f"Stopped: {problem}"
    running = f"{100 * shadow.sample:g} % of the jobs, {count(sum(item.state == 'ready' for item in held), 'worker')}"
    return f"{running}. {problem}" if problem else running


_DISAGREEMENTS_SHOWN = 20


def _disagreements(view: View) -> Content:
    """The latest jobs; a viewer who does not see all jobs sees only their own that are still in memory."""
    snapshot, known = view.snapshot, {row.job_id for row in view.jobs}
    found = [
        (name, item)
        for name, shadow in snapshot.shadows.items()
        for item in shadow.disagreements
        if view.viewer.sees_all or item.job_id in known
    ]
    latest = sorted(found, key=lambda pair: -pair[1].at_ms)[:_DISAGREEMENTS_SHOWN]
    entries = tuple(_disagreement(name, item, view.root, is_known=item.job_id in known) for name, item in latest)
    content = content_of(
        snapshot.ledger,
        "The latest ones; the link opens the details of a job",
        is_empty=not entries,
        empty="No shadow has predicted another label than the live version.",
    )
    return replace(content, entries=entries) if content.has_data else content


def _disagreement(name: str, item: Disagreement, root: str, *, is_known: bool) -> Entry:
    text = (
        f"{date_time(item.at_ms / 1000)}: {name}@{item.live} {item.label} {percent(item.confidence)}, "
        f"shadow {item.shadow} {item.shadow_label} {percent(item.shadow_confidence)}"
    )
    return Entry(text, f"{root}/predictions{format_query(Filters(), item.job_id)}" if is_known else "")


def _served(snapshot: Snapshot) -> Content:
    served = snapshot.served
    content = content_of(snapshot.bundle, serving_note(snapshot))
    if content.state is not CardState.OK or served is None:
        return content
    manifest = served.manifest
    accuracy = (manifest.get("metrics") or {}).get("accuracy") or {}
    shape = manifest.get("input") or {}
    interval = _interval(accuracy)
    stats = (
        Stat("Model", str(manifest.get("name", "")), served.version),
        Stat("Accuracy", percent(accuracy.get("value"), 1), f"95 % interval {interval}" if interval else ""),
        Stat("Input", f"{shape.get('width')} x {shape.get('height')} px"),
        Stat("Labels", ", ".join(map(str, manifest["labels"]))),
    )
    rows = [
        ("architecture", str(manifest.get("architecture") or UNKNOWN)),
        ("output", str(manifest.get("output") or UNKNOWN)),
        ("created", str(manifest.get("created_at") or UNKNOWN)),
        ("git revision", str(manifest.get("git_revision") or UNKNOWN)),
        ("temperature", number(_float(manifest.get("temperature")))),
        *((_data_name(name), _value(value)) for name, value in (manifest.get("data") or {}).items()),
        *((f"{name} version", str(value)) for name, value in (manifest.get("libraries") or {}).items()),
    ]
    return replace(content, stats=stats, table=Table(("Property", "Value"), tuple(rows)))


def serving_note(snapshot: Snapshot) -> str:
    """How many of the workers serve the bundle that the dashboard reads."""
    if snapshot.served is None:
        return ""
    versions = Counter(worker.model_version for worker in snapshot.workers)
    here, others = versions.pop(snapshot.served.version, 0), ", ".join(sorted(versions))
    if not here and not others:
        return "Not served by any worker"
    if not others:
        return f"Served by {here} of {here} workers"
    return f"Served by {here} of {here + versions.total()} workers; the others serve {others}"


_STRATEGY_HEAD = ("Worker", "Precision", "Batch", "Strategy", "Fastest call", "Other strategies")


def _strategies(snapshot: Snapshot) -> Content:
    """How each worker runs batches, and what it measured; workers of earlier versions do not report it."""
    workers = [worker for worker in snapshot.workers if worker.strategies]
    content = content_of(
        snapshot.ledger,
        "How each worker runs batches of about this size, and its fastest calls when it measured",
        is_empty=not workers,
        empty="No worker reports its strategies.",
    )
    if not content.has_data:
        return content
    rows = [_strategy(worker, item) for worker in workers for item in worker.strategies]
    return replace(content, table=Table(_STRATEGY_HEAD, tuple(rows)))


def _strategy(worker: Heartbeat, item: ChosenStrategy) -> tuple[str, ...]:
    times_ms = dict(sorted(item.measured_ms.items(), key=lambda pair: pair[1]))
    chosen_ms = times_ms.pop(f"{worker.precision}/{item.strategy}", None)
    return (
        worker.id,
        worker.precision,
        f"{item.images} images" if item.images > 1 else "1 image",
        strategy_name(item.strategy),
        "not measured" if chosen_ms is None else milliseconds(chosen_ms),
        ", ".join(f"{_way(name, worker.precision)} {milliseconds(ms)}" for name, ms in times_ms.items()) or "-",
    )


def strategy_name(name: str) -> str:
    """A strategy in words: `all cores`, `parts of 8`."""
    kind, _, part = name.partition("_")
    if kind == "parts":
        return "one core" if part == "1" else f"parts of {part}, one core each"
    return {"wide": "all cores", "frozen": "all cores, constant weights"}.get(name, name)


def _way(name: str, usual: str) -> str:
    precision, _, strategy = name.partition("/")
    return strategy_name(strategy) + ("" if precision == usual else f" in {precision}")


def _data_name(name: str) -> str:
    return name.replace("_", " ").replace("pictures", "images")  # the manifest counts `train_pictures`


def _value(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def _interval(metric: Mapping[str, Any]) -> str:
    """`92.5 to 94.6 %`; empty if unknown."""
    low, high = _float(metric.get("low")), _float(metric.get("high"))
    return "" if low is None or high is None else f"{low * 100:.1f} to {high * 100:.1f} %"


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _metrics(snapshot: Snapshot) -> Content:
    metrics = (snapshot.served.manifest.get("metrics") or {}) if snapshot.served else {}
    content = content_of(
        snapshot.bundle, "With 95 % intervals", is_empty=not metrics, empty="The bundle contains no metrics."
    )
    if content.state is not CardState.OK:
        return content
    body = tuple(
        (name.replace("_", " "), number(_float(row.get("value")), 4), _between(row)) for name, row in metrics.items()
    )
    return replace(content, table=Table(("Metric", "Value", "95 % interval"), body))


def _between(row: Mapping[str, Any]) -> str:
    low, high = _float(row.get("low")), _float(row.get("high"))
    return "-" if low is None or high is None else f"{number(low, 4)} to {number(high, 4)}"


_NO_PREDICTIONS = "The bundle contains no predictions for test images (predictions.csv)."


def _confusion(source: SourceState, served: ServedBundle | None) -> Content:
    predictions = served.predictions if served else ()
    content = content_of(source, f"{len(predictions):,} test images", is_empty=not predictions, empty=_NO_PREDICTIONS)
    if content.state is not CardState.OK or served is None:
        return content
    labels = [str(label) for label in served.manifest["labels"]]
    counts = confusion(labels, predictions)
    body = tuple((f"actual {label}", *(f"{n:,}" for n in row)) for label, row in zip(labels, counts, strict=True))
    table = Table(("Test images", *(f"predicted {label}" for label in labels)), body)
    return replace(content, figure=figures.heatmap(labels, counts), table=table)


def confusion(labels: Sequence[str], predictions: Sequence[tuple[str, str, float]]) -> list[list[int]]:
    """Test images by actual label (rows) and predicted label (columns)."""
    counts = Counter((actual, predicted) for actual, predicted, _ in predictions)
    return [[counts[actual, predicted] for predicted in labels] for actual in labels]


def _calibration(source: SourceState, served: ServedBundle | None) -> Content:
    points = calibration_points(served.predictions) if served else []
    note = "Test images grouped by confidence. On the dashed line, accuracy equals confidence"
    content = content_of(source, note, is_empty=not points, empty=_NO_PREDICTIONS)
    if content.state is not CardState.OK:
        return content
    body = tuple((percent(confidence, 1), percent(right, 1), f"{images:,}") for confidence, right, images in points)
    table = Table(("Mean confidence", "Accuracy", "Images"), body)
    return replace(content, figure=figures.calibration(points), table=table)


_BINS = 10


def calibration_points(predictions: Sequence[tuple[str, str, float]]) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, images) of each tenth of the confidence range that has images."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for actual, predicted, confidence in predictions:
        bins.setdefault(min(_BINS - 1, int(confidence * _BINS)), []).append((confidence, actual == predicted))
    return [
        (sum(confidence for confidence, _ in rows) / len(rows), sum(right for _, right in rows) / len(rows), len(rows))
        for _, rows in sorted(bins.items())
    ]


def _model_card(snapshot: Snapshot) -> Content:
    text = snapshot.served.card if snapshot.served else ""
    content = content_of(
        snapshot.bundle, "README.md of the bundle", is_empty=not text, empty="The bundle contains no README.md."
    )
    # Headings move down two levels, below the headings of the page and the card.
    return replace(content, text=re.sub(r"^(#+) ", r"##\1 ", text, flags=re.MULTILINE))


def _runs(snapshot: Snapshot) -> Content:
    if snapshot.mlflow is None:
        hint = "To show training runs, set PAWQUEUE_MLFLOW_TRACKING_URI to an http:// or https:// address."
        return Content(CardState.EMPTY, f"No MLflow server is configured. {hint}")
    content = content_of(snapshot.mlflow, "Latest runs", is_empty=not snapshot.runs, empty="MLflow contains no runs.")
    return replace(content, table=compare(snapshot.runs)) if content.has_data else content


_RUNS_MAX = 8


def compare(runs: Sequence[Run]) -> Table:
    """Runs side by side, one per column: all metrics, and the parameters that differ."""
    shown = runs[:_RUNS_MAX]
    metrics = sorted({name for run in shown for name in run.metrics})
    params = sorted({name for run in shown for name in run.params})
    differing = [name for name in params if len({run.params.get(name, "-") for run in shown}) > 1]
    body = [
        ("status", *(run.status.lower() for run in shown)),
        ("started", *(date_time(run.started_s) if run.started_s else "-" for run in shown)),
        *((name, *(number(run.metrics[name]) if name in run.metrics else "-" for run in shown)) for name in metrics),
        *((name, *(run.params.get(name, "-") for run in shown)) for name in differing),
    ]
    return Table(("Run", *(run.name for run in shown)), tuple(body))
