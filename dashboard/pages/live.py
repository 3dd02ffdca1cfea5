"""The Live page: rates, queues, latency, batches, errors, workers and alerts."""

from collections.abc import Sequence
from dataclasses import replace

from contract.ledger.types import Heartbeat
from contract.status import NO_WORKER, Status
from dashboard.data.quantities import Line, Series, summed, total
from dashboard.data.snapshot import Metrics, Snapshot
from dashboard.pages.page import Page, View, model_in, with_model_links
from dashboard.parts import figures
from dashboard.parts.card import Card, CardState, Content, Stat, Table, chart_card, content_of, line_content
from dashboard.parts.text import UNKNOWN, clock, count, duration, number, percent

CARDS = (
    Card("live-now", "Now", ("stats",), is_wide=True),
    chart_card("live-flow", "Jobs per second", "Accepted, succeeded and failed jobs per second over time."),
    chart_card("live-queue", "Queued and running jobs", "Queued jobs by queue, and running jobs, over time."),
    chart_card(
        "live-latency", "Time from upload to result", "Percentiles of the time from upload to result, over time."
    ),
    chart_card("live-oldest", "Age of the oldest queued job", "Age of the oldest job in each queue, over time."),
    chart_card("live-batches", "Batch sizes", "Number of batches by number of images."),
    chart_card(
        "live-errors",
        "Job and upload errors",
        "Failed jobs and uploads that were not accepted, per minute by error code over time.",
    ),
    Card("live-webhooks", "Webhooks", ("stats",), is_wide=True),
    Card("live-workers", "Workers", ("table",), is_wide=True),
    Card("live-alerts", "Alerts", ("table",), is_wide=True),
)


def contents(view: View) -> dict[str, Content]:
    """What each card shows, by card id."""
    snapshot, metrics = view.snapshot, view.snapshot.metrics
    if view.model:
        metrics = metrics.of_model(view.model)
    return {
        "live-now": _now(snapshot, metrics, view.model),
        "live-flow": _chart(metrics, "accepted", _flow(metrics), "jobs/s", "Rates appear after the second reading."),
        "live-queue": _chart(metrics, "jobs", _queue(metrics), "jobs", "The queues have not been read yet."),
        "live-latency": _chart(metrics, "p50", _latency(metrics), "s", "No jobs finished in the last 5 minutes."),
        "live-oldest": _chart(metrics, "oldest", _oldest(metrics), "s", "No jobs are queued."),
        "live-batches": _batches(metrics),
        "live-errors": _errors(metrics),
        "live-webhooks": _webhooks(snapshot),
        "live-workers": _workers(snapshot, view.model),
        "live-alerts": _alerts(metrics),
    }


PAGE = Page(
    "live",
    "/",
    "Live",
    "What the service is doing right now.",
    CARDS,
    contents,
    with_model_links,
    filters=model_in,
)


def _now(snapshot: Snapshot, metrics: Metrics, model: str) -> Content:
    status = snapshot.status
    content = content_of(snapshot.ledger, "Current counts, and rates over the last minute")
    if not content.has_data:
        return content
    names = status.queue_names_of(model) if model else status.stats.queues
    queues = [row for name, row in status.stats.queues.items() if name in names]
    finished = sum(count for (name, _, _), count in status.stats.totals.items() if not model or name in names)
    oldest_ms = max((queue.oldest_age_ms for queue in queues), default=0)
    stats = (
        Stat("Service", UNKNOWN if snapshot.ledger.is_down else _condition(status)),
        *_rates(metrics),
        Stat("Queued", number(sum(queue.queued for queue in queues)), "jobs"),
        Stat("Running", number(sum(queue.running for queue in queues)), "jobs"),
        Stat("Oldest queued", duration(oldest_ms / 1000) if oldest_ms else "none"),
        Stat("Finished", number(finished), "jobs in total"),
        Stat("Dead letters", number(status.stats.dead), "jobs"),
    )
    notes = [content.note] if snapshot.ledger.is_down else [problem.detail for problem in status.problems]
    rates = snapshot.metrics.source_of("accepted")
    if rates.failed_since_s is not None:
        notes.append(f"No rates since {clock(rates.failed_since_s)}. {rates.problem}")
    return replace(content, stats=stats, note=" ".join(notes) or content.note)


def _condition(status: Status) -> str:
    if not status.is_ready:
        return "refusing uploads"
    return "degraded" if status.problems else "ready"


def _rates(metrics: Metrics) -> tuple[Stat, ...]:
    if metrics.source_of("accepted").is_down:
        accepted, succeeded, failed = None, None, None
    else:
        finished = metrics.of("finished")
        accepted, succeeded = total(metrics.of("accepted")), total(finished, status="succeeded")
        failures = _failures(metrics)
        failed = total(failures) if failures or not finished else 0.0
    named = (("Accepted", accepted), ("Succeeded", succeeded), ("Failed", failed))
    return tuple(Stat(name, _rate(value), "jobs/s") for name, value in named)


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else number(value, 2) if value < 10 else number(value)


_WINDOWS = {"accepted": ", averaged over 1 min", "p50": ", percentiles over 5 min"}


def _chart(metrics: Metrics, quantity: str, lines: Sequence[Line], unit: str, empty: str) -> Content:
    note = f"Last {duration(metrics.history_s)}{_WINDOWS.get(quantity, '')}"
    return line_content(metrics.source_of(quantity), note, lines, unit, empty)


def _flow(metrics: Metrics) -> list[Line]:
    lines: list[Line] = [("accepted", summed(metrics.of("accepted")))]
    lines += [("succeeded", item.points) for item in metrics.of("finished") if item.label("status") == "succeeded"]
    failures = _failures(metrics)
    return lines + ([("failed", summed(failures))] if failures else [])


def _failures(metrics: Metrics) -> list[Series]:
    return [item for item in metrics.of("finished") if item.label("status") in ("failed", "expired")]


def _queue(metrics: Metrics) -> list[Line]:
    jobs = metrics.of("jobs")
    lines: list[Line] = [
        (f"queued ({item.label('queue')})", item.points) for item in jobs if item.label("state") == "queued"
    ]
    running = [item for item in jobs if item.label("state") == "running"]
    return lines + ([("running", summed(running))] if running else [])


def _latency(metrics: Metrics) -> list[Line]:
    return [(name, item.points) for name in ("p50", "p95", "p99") for item in metrics.of(name)]


def _oldest(metrics: Metrics) -> list[Line]:
    return [(item.label("queue"), item.points) for item in metrics.of("oldest")]


def _batches(metrics: Metrics) -> Content:
    sizes = _batch_sizes(metrics.of("batch_sizes"))
    mean = total(metrics.of("batch_mean"))
    note = "Last 5 min" + (f", {number(mean)} images per batch on average" if mean else "")
    if mean and sizes:
        note += f" ({percent(mean / sizes[-1][1])} of the largest batch)"
    is_empty = not any(batches for _, _, batches in sizes)
    empty = "No batches were predicted in the last 5 minutes."
    content = content_of(metrics.source_of("batch_sizes"), note, is_empty=is_empty, empty=empty)
    if not content.has_data:
        return content
    names, values = [name for name, _, _ in sizes], [batches for _, _, batches in sizes]
    body = tuple((name, number(value)) for name, value in zip(names, values, strict=True))
    figure = figures.bars(names, [("batches", values)], "batches", "images")
    return replace(content, figure=figure, table=Table(("Images per batch", "Batches"), body))


def _batch_sizes(series: Sequence[Series]) -> list[tuple[str, float, float]]:
    """(name, upper bound, batches) of each bucket, from the cumulative counts of Prometheus."""
    rows = sorted((float(item.label("le")), item.last or 0.0) for item in series if item.label("le") != "+Inf")
    sizes, below, counted = [], 0.0, 0.0
    for bound, batches in rows:
        low, high = int(below) + 1, int(bound)
        sizes.append((str(high) if low >= high else f"{low} to {high}", bound, max(0.0, round(batches - counted, 1))))
        below, counted = bound, batches
    return sizes


def _errors(metrics: Metrics) -> Content:
    series = [
        item for item in (*metrics.of("errors"), *metrics.of("refused")) if any(value for _, value in item.points)
    ]
    lines = [(_error_name(item), tuple((at_s, v and v * 60) for at_s, v in item.points)) for item in series]
    history = duration(metrics.history_s)
    empty = f"No jobs failed and no uploads were rejected or refused in the last {history}."
    note = f"Last {history}, averaged over 1 min"
    return line_content(metrics.source_of("errors"), note, lines, "per minute", empty)


def _error_name(series: Series) -> str:
    code = series.label("code")
    return f"job: {code}" if code else f"upload: {series.label('reason')}"


def _webhooks(snapshot: Snapshot) -> Content:
    outbox = snapshot.outbox
    is_empty = outbox is None or not (outbox.totals or outbox.oldest_due_ms)
    note = "Events of finished jobs and submissions, of all models and API keys"
    content = content_of(snapshot.ledger, note, is_empty=is_empty, empty="No event was sent to a webhook yet.")
    if not content.has_data or outbox is None:
        return content
    late_ms = outbox.oldest_due_ms
    stats = (
        Stat("Delivered", number(outbox.totals.get("delivered", 0)), "events in total"),
        Stat("Failed tries", number(outbox.totals.get("failed", 0)), "in total"),
        Stat("Dead deliveries", number(outbox.dead), "kept"),
        Stat("Oldest due", f"for {duration(late_ms / 1000)}" if late_ms else "none"),
    )
    return replace(content, stats=stats)


_WORKER_HEAD = ("Worker", "Models", "Backend", "Precision", "Busy", "Uptime", "Last heartbeat")


def _workers(snapshot: Snapshot, model: str) -> Content:
    workers = [worker for worker in snapshot.workers if worker.takes_jobs_of(model)]
    note = f"{count(len(workers), 'worker')} with a heartbeat"
    content = content_of(snapshot.ledger, note, is_empty=not workers, empty=NO_WORKER.detail)
    if not content.has_data:
        return content
    return replace(content, table=Table(_WORKER_HEAD, tuple(_worker(item, snapshot.at_s) for item in workers)))


def _worker(worker: Heartbeat, now_s: float) -> tuple[str, ...]:
    return (
        worker.id,
        _models(worker),
        worker.backend,
        worker.precision,
        percent(worker.busy_ratio),
        duration(max(0.0, now_s - worker.started_ms / 1000)),
        f"{duration(max(0.0, now_s - worker.seen_ms / 1000))} ago",
    )


def _models(worker: Heartbeat) -> str:
    """The versions that a worker has loaded."""
    loaded = [f"{held.name}@{held.version}" for held in worker.models if held.state == "ready"]
    return ", ".join(loaded) or f"{worker.model_name}@{worker.model_version}"


def _alerts(metrics: Metrics) -> Content:
    if metrics.alerts is None:
        return Content(CardState.EMPTY, "Alerts come from Prometheus. To show them, set PAWQUEUE_PROMETHEUS_URL.")
    note = f"{count(len(metrics.alerts), 'alert')} firing"
    content = content_of(metrics.source_of("jobs"), note, is_empty=not metrics.alerts, empty="No alerts are firing.")
    if not content.has_data:
        return content
    body = tuple((item.name, item.severity, item.summary, clock(item.since_s)) for item in metrics.alerts)
    return replace(content, table=Table(("Alert", "Severity", "Summary", "Since"), body))
