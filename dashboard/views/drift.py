"""The page Drift: live images laid over those of training, and how far apart they are."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from dashboard import figures
from dashboard.card import CardState, Content, Spec, Table, charted, judge
from dashboard.drift import (
    FEATURES,
    PSI_BOUNDS,
    SAMPLE_MIN,
    FeatureDrift,
    Reference,
    feature_drift,
    reference_of,
    verdict,
)
from dashboard.job_rows import JobRow
from dashboard.quantities import Point
from dashboard.snapshot import Snapshot
from dashboard.text import clock, clock_s, count, number

_TITLES = {
    "confidence": ("Confidence", "confidence in %", 100.0),
    "label": ("Labels", "label", 1.0),
    "brightness": ("Brightness", "mean luma in %", 100.0),
    "contrast": ("Contrast", "spread of luma in %", 100.0),
    "width": ("Width", "px", 1.0),
    "height": ("Height", "px", 1.0),
}
SPECS = (
    Spec("drift-summary", "Live images against training", table="open", is_wide=True),
    *(
        charted(f"drift-{name}", title, "Live images laid over those of training.")
        for name, (title, _, _) in _TITLES.items()
    ),
    charted("drift-psi", "PSI over time", "Population stability index by feature."),
    charted("drift-ks", "KS over time", "Kolmogorov-Smirnov distance by feature."),
)


def contents(snapshot: Snapshot, jobs: Sequence[JobRow]) -> dict[str, Content]:
    """What each card shows, of the jobs given, newest first."""
    drifts = {
        name: feature_drift(jobs, reference, name)
        for name in FEATURES
        if snapshot.served and (reference := reference_of(snapshot.served.manifest, name))
    }
    cards = {"drift-summary": _summary(snapshot, list(drifts.values()))}
    cards |= {f"drift-{name}": _overlay(snapshot, drifts.get(name), name) for name in FEATURES}
    cards["drift-psi"] = _over_time(
        snapshot, "PSI", {n: [(d.at_s, d.psi) for d in x.over_time] for n, x in drifts.items()}
    )
    ordered = {n: x for n, x in drifts.items() if not x.reference.names}
    cards["drift-ks"] = _over_time(
        snapshot, "KS", {n: [(d.at_s, d.ks) for d in x.over_time] for n, x in ordered.items()}
    )
    return cards


_NO_JOBS = "No image has been predicted in what is remembered."
_NO_REFERENCE = "The served bundle carries no reference to compare with."


def _judge(snapshot: Snapshot, window: str, *, is_empty: bool, empty: str) -> Content:
    if snapshot.bundle.failed_since_s is not None:
        return Content(CardState.ERROR, f"{snapshot.bundle.name} cannot be read. {snapshot.bundle.problem}")
    return judge(snapshot.ledger, window, is_empty=is_empty, empty=empty)


def _summary(snapshot: Snapshot, drifts: Sequence[FeatureDrift]) -> Content:
    window = (
        f"last {count(max((drift.sample for drift in drifts), default=0), 'image', 'images')}; PSI below "
        f"{PSI_BOUNDS[0]:g}: alike, from {PSI_BOUNDS[1]:g} on: changed; nothing is said of fewer than {SAMPLE_MIN}"
    )
    empty = _NO_JOBS if drifts else _NO_REFERENCE
    content = _judge(snapshot, window, is_empty=not any(drift.sample for drift in drifts), empty=empty)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    return replace(content, table=Table(("Feature", "Images", "PSI", "KS", "Verdict"), tuple(map(_row, drifts))))


def _row(drift: FeatureDrift) -> tuple[str, ...]:
    distance = drift.distance
    return (
        _TITLES[drift.feature][0],
        number(drift.sample),
        f"{distance.psi:.2f}" if distance else "-",
        f"{distance.ks:.2f}" if distance and distance.ks is not None else "-",
        verdict(distance, drift.sample),
    )


def _overlay(snapshot: Snapshot, drift: FeatureDrift | None, feature: str) -> Content:
    is_empty = drift is None or not drift.sample
    window = (
        f"{count(drift.sample, 'image', 'images')} against training. {verdict(drift.distance, drift.sample)}"
        if drift
        else ""
    )
    content = _judge(snapshot, window, is_empty=is_empty, empty=_NO_JOBS if drift else _NO_REFERENCE)
    if content.state not in (CardState.OK, CardState.STALE) or drift is None:
        return content
    _, unit, factor = _TITLES[feature]
    training, live = _percent(drift.reference.counts), _percent(drift.live)
    names = _bin_names(drift.reference, factor)
    rows = zip(names, training, live, strict=True)
    body = tuple((name, number(a), number(b)) for name, a, b in rows if a or b)
    table = Table((unit, "training (%)", "live (%)"), body)
    return replace(content, figure=_figure(drift.reference, training, live, unit, factor), table=table)


def _figure(
    reference: Reference, training: Sequence[float], live: Sequence[float], unit: str, factor: float
) -> figures.Figure:
    if reference.names:
        return figures.bars(reference.names, [("training", training), ("live", live)], "% of images", unit)
    if factor == 1.0:  # sizes grow by powers of two: drawn by name, or the small ones could not be seen
        first, last = _filled(training, live)
        names = _bin_names(reference, factor)[first:last]
        return figures.bars(
            names, [("training", training[first:last]), ("live", live[first:last])], "% of images", unit
        )
    edges = [edge * factor for edge in reference.edges]
    pairs = list(itertools.pairwise(edges))
    middles, widths = [(a + b) / 2 for a, b in pairs], [b - a for a, b in pairs]
    return figures.overlaid(middles, widths, [("training", training), ("live", live)], unit)


def _filled(*rows: Sequence[float]) -> tuple[int, int]:
    """The bins in which anything is, as a range."""
    places = [at for row in rows for at, value in enumerate(row) if value]
    return min(places), max(places) + 1


def _bin_names(reference: Reference, factor: float) -> list[str]:
    if reference.names:
        return list(reference.names)
    edges = [number(edge * factor, 4) for edge in reference.edges]
    return [f"{low} to {high}" for low, high in itertools.pairwise(edges)]


def _percent(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) or 1
    return [100 * count / whole for count in counts]


def _over_time(snapshot: Snapshot, title: str, found: dict[str, list[Point]]) -> Content:
    rows = [(_TITLES[feature][0].lower(), tuple(points)) for feature, points in found.items() if points]
    empty = f"{title} is reckoned for every {SAMPLE_MIN} images; fewer than that are remembered."
    content = _judge(snapshot, f"one point for {SAMPLE_MIN} images", is_empty=not rows, empty=empty)
    if content.state not in (CardState.OK, CardState.STALE):
        return content
    figure = figures.lines(rows, title)
    for line in figure["data"]:
        line["mode"] = "lines+markers"
    times = sorted({at_s for _, points in rows for at_s, _ in points}, reverse=True)
    values = [dict(points) for _, points in rows]
    body = tuple((clock_s(at_s), *(number(line.get(at_s), 2) for line in values)) for at_s in times)
    since = f", since {clock(times[-1])}" if times else ""
    head = ("Time (UTC)", *(feature for feature, _ in rows))
    return replace(
        content, note=content.note.replace("images", f"images{since}", 1), figure=figure, table=Table(head, body)
    )
