"""The page Live: what comes in, waits, runs, ends and fails just now."""

from dataclasses import replace

from contract.ledger.types import Heartbeat
from dashboard import figures
from dashboard.card import CardState, Content, Spec, Stat, Table, charted, judge, twin_of
from dashboard.quantities import Point, Series
from dashboard.snapshot import Numbers, Snapshot
from dashboard.text import clock, count, duration, number, percent
from dashboard.views.series import has_points, rises, summed, total

SPECS = (
    Spec("live-now", "Now", has_stats=True, is_wide=True),
    charted("live-flow", "Jobs per second", "Jobs accepted, done and failed a second."),
    charted("live-queue", "Jobs waiting and in flight", "Jobs by queue over time."),
    charted("live-latency", "Time from upload to result", "Percentiles over time."),
    charted("live-oldest", "Age of the oldest waiting job", "By queue over time."),
    charted("live-batches", "Batch sizes", "Batches by number of images."),
    charted("live-errors", "Errors and refusals", "By code, a minute, over time."),
    Spec("live-workers", "Workers", table="open", is_wide=True),
    Spec("live-alerts", "Alerts", table="open", is_wide=True),
)

Rows = list[tuple[str, tuple[Point, ...]]]
_PERCENTILES = (("p50", "half of them (p50)"), ("p95", "19 of 20 (p95)"), ("p99", "99 of 100 (p99)"))


def contents(snapshot: Snapshot) -> dict[str, Content]:
    """What each card shows."""
    numbers = snapshot.numbers
    return {
        "live-now": _now(numbers),
        "live-flow": _chart(
            numbers, "accepted", _flow(numbers), "jobs/s", "A rate needs two readings; the second is due in a moment."
        ),
        "live-queue": _chart(numbers, "jobs", _queue(numbers), "jobs", "Nothing is known of the queues yet."),
        "live-latency": _chart(numbers, "p50", _latency(numbers), "s", _NO_JOB_ENDED),
        "live-oldest": _chart(numbers, "oldest", _by(numbers, "oldest", "queue"), "s", "Nothing waits."),
        "live-batches": _batches(numbers),
        "live-errors": _errors(numbers),
        "live-workers": _workers(snapshot),
        "live-alerts": _alerts(numbers),
    }


_NO_JOB_ENDED = "No job has ended in those of the last 5 minutes that were watched."
_WINDOWS = {"accepted": "each point over 1 min", "p50": "each point over 5 min", "jobs": "counted at each reading"}


def _chart(numbers: Numbers, quantity: str, rows: Rows, unit: str, empty: str) -> Content:
    window = f"last {duration(numbers.history_s)}, {_WINDOWS.get(quantity, 'at each reading')}"
    content = judge(numbers.source_of(quantity), window, is_empty=not has_points(rows), empty=empty)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    return replace(content, figure=figures.lines(rows, unit), table=twin_of(rows, unit))


def _lines(numbers: Numbers, quantity: str) -> tuple[Series, ...]:
    return numbers.series.get(quantity, ())


def _by(numbers: Numbers, quantity: str, label: str) -> Rows:
    return [(line.label(label), line.points) for line in _lines(numbers, quantity)]


def _flow(numbers: Numbers) -> Rows:
    ended = _lines(numbers, "ended")
    failed = [line for line in ended if line.label("status") in ("failed", "expired")]
    rows = [("in", summed(_lines(numbers, "accepted")))]
    rows += [("done", line.points) for line in ended if line.label("status") == "succeeded"]
    return rows + ([("failed", summed(failed))] if failed else [])


def _queue(numbers: Numbers) -> Rows:
    jobs = _lines(numbers, "jobs")
    waiting = [(f"{line.label('queue')}, waiting", line.points) for line in jobs if line.label("state") == "queued"]
    running = [line for line in jobs if line.label("state") == "running"]
    return waiting + ([("in flight", summed(running))] if running else [])


def _latency(numbers: Numbers) -> Rows:
    return [(name, line.points) for quantity, name in _PERCENTILES for line in _lines(numbers, quantity)]


def _now(numbers: Numbers) -> Content:
    content = judge(numbers.source_of("jobs"), "rates over 1 min, counts now")
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    ended, jobs = _lines(numbers, "ended"), _lines(numbers, "jobs")
    failed = [line for line in ended if line.label("status") in ("failed", "expired")]
    oldest = [value for line in _lines(numbers, "oldest") if (value := total([line])) is not None]
    stats = (
        Stat("In", _rate(total(_lines(numbers, "accepted"))), "jobs/s"),
        Stat("Done", _rate(total(ended, status="succeeded")), "jobs/s"),
        Stat("Failed", _rate(total(failed) if failed or not ended else 0.0), "jobs/s"),
        Stat("Waiting", _jobs(total(jobs, state="queued")), "jobs"),
        Stat("In flight", _jobs(total(jobs, state="running")), "jobs"),
        Stat("Oldest waits", duration(max(oldest, default=None)), "since its upload"),
        Stat("Dead letters", _jobs(total(_lines(numbers, "dead"))), "jobs"),
    )
    return replace(content, stats=stats)


def _rate(value: float | None) -> str:
    return "not yet known" if value is None else number(value, 2) if value < 10 else number(value)


def _jobs(value: float | None) -> str:
    return number(value)


def _batches(numbers: Numbers) -> Content:
    sizes = _sizes(_lines(numbers, "batch_sizes"))
    mean = total(_lines(numbers, "batch_mean"))
    window = "last 5 min" + (f", images a batch on average: {number(mean)}" if mean else "")
    if mean and sizes:
        window += f", {percent(mean / sizes[-1][1])} of the largest batch"
    is_empty = not any(grew for _, _, grew in sizes)
    content = judge(numbers.source_of("batch_sizes"), window, is_empty=is_empty, empty=_NO_BATCH)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    names, values = [name for name, _, _ in sizes], [grew for _, _, grew in sizes]
    table = Table(("Images in a batch", "Batches"), tuple((n, number(v)) for n, v in zip(names, values, strict=True)))
    return replace(content, figure=figures.bars(names, [("batches", values)], "batches", "images"), table=table)


_NO_BATCH = "No batch was predicted in those of the last 5 minutes that were watched."


def _sizes(lines: tuple[Series, ...]) -> list[tuple[str, float, float]]:
    """(name, upper bound, batches) of each bucket; Prometheus counts them cumulatively."""
    rows = sorted((float(line.label("le")), total([line]) or 0.0) for line in lines if line.label("le") != "+Inf")
    result, below, counted = [], 0.0, 0.0
    for bound, grew in rows:
        low, high = int(below) + 1, int(bound)
        result.append((str(high) if low >= high else f"{low} to {high}", bound, max(0.0, round(grew - counted, 1))))
        below, counted = bound, grew
    return result


def _errors(numbers: Numbers) -> Content:
    lines = [line for name in ("errors", "refused") for line in _lines(numbers, name)]
    empty = f"No job failed and no request was refused in the last {duration(numbers.history_s)}."
    window = f"last {duration(numbers.history_s)}, each point over 1 min"
    content = judge(numbers.source_of("errors"), window, is_empty=not rises(lines), empty=empty)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    rows = [(_code(line), tuple((at_s, v and v * 60) for at_s, v in line.points)) for line in lines if rises([line])]
    return replace(content, figure=figures.lines(rows, "a minute"), table=twin_of(rows, "a minute"))


def _code(line: Series) -> str:
    return line.label("code") or f"refused: {line.label('reason')}"


_WORKER_HEAD = ("Worker", "Model", "Backend", "Precision", "Busy", "Up for", "Last heartbeat")


def _workers(snapshot: Snapshot) -> Content:
    none = "No worker has a heartbeat: nothing is predicted until one starts."
    workers = snapshot.workers
    content = judge(snapshot.ledger, "heartbeats", is_empty=not workers, empty=none)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    return replace(content, table=Table(_WORKER_HEAD, tuple(_worker(one, snapshot.at_s) for one in workers)))


def _worker(worker: Heartbeat, now_s: float) -> tuple[str, ...]:
    return (
        worker.id,
        f"{worker.model_name} {worker.model_version}",
        worker.backend,
        worker.precision,
        percent(worker.busy_ratio),
        duration(max(0.0, now_s - worker.started_ms / 1000)),
        f"{duration(max(0.0, now_s - worker.seen_ms / 1000))} ago",
    )


def _alerts(numbers: Numbers) -> Content:
    if numbers.alerts is None:
        return Content(CardState.EMPTY, "Prometheus evaluates alerts; PAWQUEUE_PROMETHEUS_URL names one to ask.")
    content = judge(numbers.source_of("jobs"), "firing now", is_empty=not numbers.alerts, empty="No alert is firing.")
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    body = tuple((one.name, one.severity, one.summary, clock(one.since_s)) for one in numbers.alerts)
    firing = count(len(body), "alert", "alerts")
    return replace(content, note=f"{firing}, {content.note}", table=Table(("Alert", "Severity", "What", "Since"), body))
