"""The page Capacity: what the workers can do, how many are wanted, what one more would give."""

import math
from dataclasses import replace

from dashboard import figures
from dashboard.capacity import CLEAR_WITHIN_S, Capacity, capacity_of
from dashboard.card import CardState, Content, Spec, Stat, Table, charted, judge, twin_of
from dashboard.snapshot import Numbers, Snapshot
from dashboard.text import UNKNOWN, count, duration, number, percent
from dashboard.views.series import has_points

SPECS = (
    Spec("capacity-now", "Workers and queue", has_stats=True, is_wide=True),
    Spec("capacity-more", "What one more worker would give", table="open", is_wide=True),
    charted("capacity-images", "Images per second of each worker", "Over time."),
    charted("capacity-busy", "Busy share of each worker", "Over time."),
)
_UNMEASURED = "Not measured yet: no worker was busy for 5 % of the time in what is remembered. Send some images."


def contents(snapshot: Snapshot) -> dict[str, Content]:
    """What each card shows."""
    capacity = capacity_of(dict(snapshot.numbers.series), len(snapshot.workers))
    return {
        "capacity-now": _now(snapshot, capacity),
        "capacity-more": _more(snapshot, capacity),
        "capacity-images": _lines(snapshot, "images", "images/s", 1, "No worker has predicted anything yet."),
        "capacity-busy": _lines(snapshot, "busy", "%", 100, "No worker has told how busy it is."),
    }


def clear_text(seconds: float | None) -> str:
    """The time to clear the queue in words."""
    if seconds is None:
        return UNKNOWN
    if math.isinf(seconds):
        return "never: more comes in than is done"
    return duration(seconds) if seconds else "nothing waits"


def _now(snapshot: Snapshot, capacity: Capacity) -> Content:
    content = judge(snapshot.numbers.source_of("jobs"), "rates over 1 min, counts now")
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    wanted = capacity.wanted
    stats = (
        Stat("Workers now", str(capacity.workers), "with a heartbeat"),
        Stat("Workers wanted", UNKNOWN if wanted is None else str(wanted), f"to clear within {CLEAR_WITHIN_S:.0f} s"),
        Stat("Waiting or in flight", number(capacity.backlog), "jobs"),
        Stat("Time to clear", clear_text(capacity.clear_s(capacity.workers)), "at full load"),
        Stat("Done", number(capacity.done_per_s), "images/s"),
        Stat("One worker can do", number(capacity.limit_per_worker), f"images/s, {_how(capacity)}"),
    )
    return replace(content, stats=stats)


def _how(capacity: Capacity) -> str:
    if capacity.limit_per_worker is None:
        return "not measured yet"
    return "seen while jobs waited" if capacity.is_seen else "estimated from its busy share"


_MORE_HEAD = ("Workers", "Images/s at full load", "Load by what comes in now", "Time to clear the queue")


def _more(snapshot: Snapshot, capacity: Capacity) -> Content:
    limit = capacity.limit_per_worker
    source = snapshot.numbers.source_of("images")
    window = f"{_how(capacity)}; workers on one machine share its cores, so that each more gives less than this"
    content = judge(source, window, is_empty=limit is None, empty=_UNMEASURED)
    if content.state not in (CardState.OK, CardState.STALE) or limit is None:
        return content
    counts = [n for n in (capacity.workers, capacity.workers + 1, capacity.workers + 2) if n]
    body = tuple(_row(capacity, limit, n) for n in counts)
    return replace(content, table=Table(_MORE_HEAD, body))


def _row(capacity: Capacity, limit: float, workers: int) -> tuple[str, ...]:
    load = None if capacity.accepted_per_s is None else capacity.accepted_per_s / (limit * workers)
    more = workers - capacity.workers
    name = "now" if not more else f"{more} more"
    return (
        f"{count(workers, 'worker', 'workers')} ({name})",
        number(limit * workers),
        percent(load),
        clear_text(capacity.clear_s(workers)),
    )


def _lines(snapshot: Snapshot, quantity: str, unit: str, factor: float, empty: str) -> Content:
    numbers = snapshot.numbers
    names = _names(snapshot)
    rows = [
        (
            names.get(line.label("instance"), line.label("instance")),
            tuple((t, v and v * factor) for t, v in line.points),
        )
        for line in numbers.series.get(quantity, ())
    ]
    return _chart(numbers, quantity, rows, unit, empty)


def _chart(
    numbers: Numbers,
    quantity: str,
    rows: list[tuple[str, tuple[tuple[float, float | None], ...]]],
    unit: str,
    empty: str,
) -> Content:
    window = f"last {duration(numbers.history_s)}"
    content = judge(numbers.source_of(quantity), window, is_empty=not has_points(rows), empty=empty)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    return replace(content, figure=figures.lines(rows, unit), table=twin_of(rows, unit))


def _names(snapshot: Snapshot) -> dict[str, str]:
    """Address of a worker's metrics -> its id."""
    return {worker.metrics_address: worker.id for worker in snapshot.workers}
