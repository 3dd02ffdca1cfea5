"""The Capacity page: the throughput of the workers, how many are needed, and the effect of more workers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dashboard.data.quantities import RATE_S, Line, Series, total
from dashboard.data.snapshot import Snapshot
from dashboard.pages.page import Page, View, model_in, with_model_links
from dashboard.parts.card import Card, Content, Stat, Table, chart_card, content_of, line_content
from dashboard.parts.text import UNKNOWN, count, duration, number, percent

CARDS = (
    Card("capacity-now", "Workers and queue", ("stats",), is_wide=True),
    Card("capacity-more", "With more workers", ("table",), is_wide=True),
    chart_card(
        "capacity-images", "Images per second by worker", "Images predicted per second by each worker, over time."
    ),
    chart_card("capacity-busy", "Busy time by worker", "Share of time that each worker spends predicting, over time."),
)
_UNMEASURED = "The throughput of a worker is not known yet, because no worker has been busy. Upload some images."


def contents(view: View) -> dict[str, Content]:
    """What each card shows, by card id."""
    snapshot = view.snapshot
    if view.model:
        snapshot = replace(snapshot, metrics=snapshot.metrics.of_model(view.model))
    capacity = compute_capacity(snapshot, view.model)
    return {
        "capacity-now": _now(snapshot, capacity),
        "capacity-more": _with_more_workers(snapshot, capacity),
        "capacity-images": _lines(snapshot, "images", "images/s", 1, "No worker has predicted an image yet."),
        "capacity-busy": _lines(snapshot, "busy", "%", 100, "No worker has reported its busy time yet."),
    }


PAGE = Page(
    "capacity",
    "/capacity",
    "Capacity",
    "How much the workers can process, and how many are needed.",
    CARDS,
    contents,
    with_model_links,
    filters=model_in,
)


#: The workers needed are those that clear the queue within this time.
_CLEAR_WITHIN_S = 60.0
#: Minimum share of busy time for an estimate.
_BUSY_MIN = 0.05


@dataclass(frozen=True, slots=True)
class Capacity:
    """The throughput of the workers; values are None while unknown."""

    workers: int
    #: Queued and running jobs.
    backlog: int | None
    #: Images accepted per second, and images predicted per second by all workers.
    accepted_per_s: float | None
    predicted_per_s: float | None
    #: Images per second of one worker under full load.
    worker_per_s: float | None
    #: Whether `worker_per_s` was measured under full load; otherwise it is an estimate.
    is_measured: bool = False

    def clear_s(self, workers: int) -> float | None:
        """Seconds until this many workers clear the queue; infinite if it grows, None if unknown."""
        if self.backlog is None or self.worker_per_s is None:
            return None
        if self.backlog == 0:
            return 0.0
        spare = self.worker_per_s * workers - (self.accepted_per_s or 0.0)
        return self.backlog / spare if spare > 0 else math.inf

    @property
    def workers_needed(self) -> int | None:
        """How many workers clear the queue within a minute at the current rate of uploads; at least one."""
        if self.backlog is None or not self.worker_per_s:
            return None
        needed_per_s = (self.accepted_per_s or 0.0) + self.backlog / _CLEAR_WITHIN_S
        return max(1, math.ceil(needed_per_s / self.worker_per_s - 1e-9))


def compute_capacity(snapshot: Snapshot, model: str = "") -> Capacity:
    """Compute the capacity from the newest counts and the history; with `model`, of the workers that take its jobs.

    The metrics of `snapshot` must then be those of the model.
    """
    metrics, status = snapshot.metrics, snapshot.status
    is_known = snapshot.ledger.read_at_s is not None
    names = status.queue_names_of(model) if model else status.stats.queues
    queues = [row for name, row in status.stats.queues.items() if name in names]
    per_s, is_measured = worker_rate(metrics.series)
    return Capacity(
        workers=sum(worker.takes_jobs_of(model) for worker in status.workers),
        backlog=sum(queue.queued + queue.running for queue in queues) if is_known else None,
        accepted_per_s=total(metrics.of("accepted")),
        predicted_per_s=total(metrics.of("images")),
        worker_per_s=per_s,
        is_measured=is_measured,
    )


def worker_rate(series: Mapping[str, tuple[Series, ...]]) -> tuple[float | None, bool]:
    """Images per second of one worker under full load, and whether that is measured; otherwise it is estimated.

    Measured: the maximum rate over a minute in which jobs were queued all the time. Estimated: the rate divided by the
    share of busy time. Returns the median of all workers.
    """
    full_at = _full_load_times(series.get("jobs", ()))
    images, busy = series.get("images", ()), series.get("busy", ())
    measured = [rate for item in images if (rate := _measured(item, full_at))]
    estimated = [rate for item in images if (rate := _estimated(item, busy))]
    rates = sorted(measured or estimated)
    return (rates[len(rates) // 2] if rates else None), bool(measured)


def _full_load_times(jobs: tuple[Series, ...]) -> set[float]:
    """Times at which jobs had been queued without interruption for a full `RATE_S` window."""
    queued: dict[float, float] = {}
    for item in jobs:
        if item.label("state") == "queued":
            for at_s, value in item.points:
                queued[at_s] = queued.get(at_s, 0.0) + (value or 0.0)
    full, since_s = set(), None
    for at_s, value in sorted(queued.items()):
        since_s = (at_s if since_s is None else since_s) if value else None
        if since_s is not None and at_s - since_s >= RATE_S:
            full.add(at_s)
    return full


def _measured(images: Series, full_at: set[float]) -> float | None:
    return max((rate for at_s, rate in images.points if rate and at_s in full_at), default=None)


def _estimated(images: Series, busy: tuple[Series, ...]) -> float | None:
    shares = dict(next((item.points for item in busy if item.labels == images.labels), ()))
    pairs = [(rate, shares.get(at_s) or 0.0) for at_s, rate in images.points if rate]
    known = [(rate, share) for rate, share in pairs if share >= _BUSY_MIN]
    return sum(rate for rate, _ in known) / sum(share for _, share in known) if known else None


def _now(snapshot: Snapshot, capacity: Capacity) -> Content:
    source = snapshot.ledger if snapshot.ledger.is_down else snapshot.metrics.source_of("accepted")
    content = content_of(source, "Current counts, and rates over the last minute")
    if not content.has_data:
        return content
    needed = capacity.workers_needed
    stats = (
        Stat("Workers", str(capacity.workers), "running"),
        Stat(
            "Workers needed",
            UNKNOWN if needed is None else str(needed),
            f"to catch up in {_CLEAR_WITHIN_S:.0f} s",
        ),
        Stat("Backlog", number(capacity.backlog), "unfinished jobs"),
        Stat("Time to clear the queue", _clear_text(capacity.clear_s(capacity.workers)), "at full load"),
        Stat("Throughput", number(capacity.predicted_per_s), "images/s"),
        Stat("One worker at full load", number(capacity.worker_per_s), f"images/s, {_basis(capacity)}"),
    )
    return replace(content, stats=stats)


def _basis(capacity: Capacity) -> str:
    if capacity.worker_per_s is None:
        return "not measured yet"
    return "measured" if capacity.is_measured else "estimated"


def _clear_text(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    if math.isinf(seconds):
        return "never; the queue is growing"
    return duration(seconds) if seconds else "empty"


_MORE_HEAD = ("Workers", "Images/s at full load", "Load at the current rate", "Time to clear the queue")


def _with_more_workers(snapshot: Snapshot, capacity: Capacity) -> Content:
    basis = "measured" if capacity.is_measured else "estimated"
    note = f"Based on the {basis} throughput of one worker. Workers on the same machine share its cores and add less"
    source = snapshot.metrics.source_of("images")
    content = content_of(source, note, is_empty=capacity.worker_per_s is None, empty=_UNMEASURED)
    if not content.has_data or capacity.worker_per_s is None:
        return content
    counts = [workers for workers in range(capacity.workers, capacity.workers + 3) if workers]
    body = tuple(_row(capacity, capacity.worker_per_s, workers) for workers in counts)
    return replace(content, table=Table(_MORE_HEAD, body))


def _row(capacity: Capacity, worker_per_s: float, workers: int) -> tuple[str, ...]:
    load = None if capacity.accepted_per_s is None else capacity.accepted_per_s / (worker_per_s * workers)
    more = workers - capacity.workers
    return (
        f"{count(workers, 'worker')} ({f'{more} more' if more else 'now'})",
        number(worker_per_s * workers),
        percent(load),
        _clear_text(capacity.clear_s(workers)),
    )


def _lines(snapshot: Snapshot, quantity: str, unit: str, factor: float, empty: str) -> Content:
    metrics = snapshot.metrics
    names = {worker.metrics_address: worker.id for worker in snapshot.workers}
    lines: list[Line] = [
        (
            names.get(item.label("instance"), item.label("instance")),
            tuple((at_s, value and value * factor) for at_s, value in item.points),
        )
        for item in metrics.of(quantity)
    ]
    return line_content(metrics.source_of(quantity), f"Last {duration(metrics.history_s)}", lines, unit, empty)
