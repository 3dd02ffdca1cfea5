"""The page Predictions: the mix of labels and the confidence over time, and the table of what is shown as CSV."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dashboard import figures
from dashboard.card import CardState, Content, charted, judge, twin_of
from dashboard.job_rows import Filters, JobRow
from dashboard.quantities import Point
from dashboard.snapshot import Snapshot
from dashboard.text import count, moment

SPECS = (
    charted("predictions-mix", "Label mix over time", "Share of each label over time."),
    charted("predictions-confidence", "Confidence over time", "Percentiles over time."),
)
#: The time that is remembered is cut into so many parts, each with at least an image.
_PARTS = 30
_SHARES = ((0.1, "1 of 10 below"), (0.5, "half below"), (0.9, "9 of 10 below"))
_NONE = "No prediction fits these filters in what is remembered."


def shown(rows: Sequence[JobRow], filters: Filters, now_s: float) -> list[JobRow]:
    """The jobs that the filters leave, newest first."""
    return [row for row in rows if filters.keep(row, now_s)]


def contents(snapshot: Snapshot, rows: Sequence[JobRow]) -> dict[str, Content]:
    """What each card shows, of the jobs given, newest first."""
    parts = parts_of([row for row in rows if row.confidence is not None])
    return {
        "predictions-mix": _chart(snapshot, "% of images", label_mix(parts)),
        "predictions-confidence": _chart(snapshot, "%", confidence_over_time(parts)),
    }


def parts_of(rows: Sequence[JobRow]) -> list[tuple[float, list[JobRow]]]:
    """Jobs, newest first, by equal parts of the time they span: (middle of the part, jobs), oldest first."""
    if not rows:
        return []
    first_s, last_s = rows[-1].ended_s, rows[0].ended_s
    width_s = max(1.0, (last_s - first_s) / _PARTS)
    parts: dict[int, list[JobRow]] = {}
    for row in rows:
        parts.setdefault(min(_PARTS - 1, max(0, int((row.ended_s - first_s) / width_s))), []).append(row)
    return [(first_s + (at + 0.5) * width_s, found) for at, found in sorted(parts.items())]


def label_mix(parts: Sequence[tuple[float, Sequence[JobRow]]]) -> list[tuple[str, tuple[Point, ...]]]:
    """Share of each label in per cent, over time."""
    labels = sorted({row.label for _, rows in parts for row in rows})
    counts = [(at_s, Counter(row.label for row in rows)) for at_s, rows in parts]
    return [(label, tuple((at_s, 100 * found[label] / found.total()) for at_s, found in counts)) for label in labels]


def confidence_over_time(parts: Sequence[tuple[float, Sequence[JobRow]]]) -> list[tuple[str, tuple[Point, ...]]]:
    """Percentiles of the confidence in per cent, over time."""
    sorted_parts = [(at_s, sorted(row.confidence or 0.0 for row in rows)) for at_s, rows in parts]
    return [
        (name, tuple((at_s, 100 * values[int(share * (len(values) - 1) + 0.5)]) for at_s, values in sorted_parts))
        for share, name in _SHARES
    ]


def _chart(snapshot: Snapshot, unit: str, rows: list[tuple[str, tuple[Point, ...]]]) -> Content:
    content = judge(snapshot.ledger, remembered(snapshot), is_empty=not rows, empty=_NONE)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    figure = figures.lines(rows, unit)
    for line in figure["data"]:
        line["mode"] = "lines+markers"
    figure["layout"]["yaxis"]["range"] = [0, 103]
    return replace(content, figure=figure, table=twin_of(rows, unit))


def remembered(snapshot: Snapshot) -> str:
    """How many jobs the page stands on."""
    if snapshot.jobs_are_sampled:  # more ended than are read
        return f"of {len(snapshot.jobs):,} taken as a sample of those that ended last"
    return f"of the last {count(len(snapshot.jobs), 'job', 'jobs')} that ended"


_COLUMNS = ("job_id", "file", "status", "label", "confidence", "model", "ended_at", "latency_ms", "attempts", "error")
#: A cell that begins so is a formula to a spreadsheet; file names come from strangers.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_of(rows: Sequence[JobRow]) -> str:
    """The jobs as CSV with a head."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for row in rows:
        values = (row.id, row.file, row.status, row.label, "" if row.confidence is None else row.confidence, row.model)
        writer.writerow(map(_cell, (*values, moment(row.ended_s), round(row.latency_ms), row.attempts, row.error_code)))
    return buffer.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
