"""The Drift page: whether live images still resemble the test images of the model.

Live values are counted in the bins of the histograms in the bundle's manifest. Two distances compare the counts: the
population stability index (PSI) and the Kolmogorov-Smirnov distance (KS).
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter
from typing import Any

from dashboard.data.jobs import JobRow
from dashboard.data.quantities import Line
from dashboard.data.snapshot import Snapshot
from dashboard.pages.page import Page, View, model_in, with_model_links
from dashboard.parts import figures
from dashboard.parts.card import Card, CardState, Content, Table, chart_card, content_of, line_content
from dashboard.parts.text import count, number

#: Feature -> (title, unit, factor from stored to shown values).
_FEATURES = {
    "confidence": ("Confidence", "confidence in %", 100.0),
    "familiarity": ("Familiarity", "familiarity in %", 100.0),
    "label": ("Labels", "label", 1.0),
    "brightness": ("Brightness", "mean luma in %", 100.0),
    "contrast": ("Contrast", "spread of luma in %", 100.0),
    "width": ("Width", "px", 1.0),
    "height": ("Height", "px", 1.0),
}
CARDS = (
    Card("drift-summary", "Summary", ("table",), is_wide=True),
    *(
        chart_card(f"drift-{feature}", title, "Distribution of live and test images.")
        for feature, (title, _, _) in _FEATURES.items()
    ),
    chart_card("drift-psi", "PSI over time", "Population stability index by feature."),
    chart_card("drift-ks", "KS over time", "Kolmogorov-Smirnov distance by feature."),
)
#: Minimum number of images for a verdict.
SAMPLE_MIN = 200
#: Maximum number of windows of `SAMPLE_MIN` images shown over time.
_WINDOWS_MAX = 20
#: The usual bounds of PSI: below the first the distributions are similar; from the second on they are different.
_PSI_BOUNDS = (0.1, 0.25)


def contents(view: View) -> dict[str, Content]:
    """What each card shows, for the jobs that the viewer may see."""
    snapshot = view.snapshot
    manifest = snapshot.served.manifest if snapshot.served else {}
    if view.model and view.model != manifest.get("name"):
        return dict.fromkeys((card.id for card in CARDS), Content(CardState.EMPTY, _OTHER_MODEL))
    # Jobs of other models have other training images.
    jobs = [row for row in view.jobs if row.model.partition("@")[0] in ("", manifest.get("name"))]
    references = {feature: read_reference(manifest, feature) for feature in _FEATURES}
    drifts = {name: compute_drift(jobs, reference, name) for name, reference in references.items() if reference}
    cards = {f"drift-{name}": _overlay(snapshot, drifts.get(name), name) for name in _FEATURES}
    # Features without KS come last: every other feature then has the same color in both charts.
    ordered = sorted(drifts.items(), key=lambda pair: bool(pair[1].reference.names))
    psi_lines: list[Line] = [(name, [(at.at_s, at.psi) for at in drift.over_time]) for name, drift in ordered]
    ks_lines: list[Line] = [
        (name, [(at.at_s, at.ks) for at in drift.over_time]) for name, drift in ordered if not drift.reference.names
    ]
    return cards | {
        "drift-summary": _summary(snapshot, list(drifts.values())),
        "drift-psi": _over_time(snapshot, "PSI", psi_lines),
        "drift-ks": _over_time(snapshot, "KS", ks_lines),
    }


PAGE = Page(
    "drift",
    "/drift",
    "Drift",
    "Live images compared with the test images of the model.",
    CARDS,
    contents,
    with_model_links,
    filters=model_in,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A histogram of the test images: counts between edges, or by name."""

    counts: tuple[float, ...]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    def histogram(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Count values by bin. Values beyond the edges count in the nearest bin; unknown names are not counted."""
        if self.names:
            found = Counter(values)
            return tuple(found[name] for name in self.names)
        ordered = sorted(values)
        cuts = [0, *(bisect_left(ordered, edge) for edge in self.edges[1:-1]), len(ordered)]
        return tuple(high - low for low, high in pairwise(cuts))


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance between a sample and the reference."""

    at_s: float
    psi: float
    #: None if the bins have no order.
    ks: float | None


@dataclass(frozen=True, slots=True)
class Drift:
    """A feature compared between live and test images."""

    feature: str
    reference: Reference
    live: tuple[int, ...]
    #: Distance of all live images; None for fewer than `SAMPLE_MIN`.
    distance: Distance | None
    over_time: tuple[Distance, ...]

    @property
    def sample(self) -> int:
        """The number of live images."""
        return sum(self.live)


def read_reference(manifest: Mapping[str, Any], feature: str) -> Reference | None:
    """Read the test images' histogram of a feature; None if the manifest contains none."""
    found = (manifest.get("reference") or {}).get(feature)
    if not found or not found.get("counts"):
        return None
    return Reference(tuple(found["counts"]), tuple(found.get("edges") or ()), tuple(found.get("names") or ()))


def compute_drift(rows: Sequence[JobRow], reference: Reference, feature: str) -> Drift:
    """Compare jobs, given newest first, with the reference."""
    known = set(reference.names)
    found = [pair for pair in _values(rows, feature) if not known or pair[1] in known]
    # Sorting a window and searching it for each edge is three times as fast as searching the edges for each value.
    windows = [found[at : at + SAMPLE_MIN] for at in range(0, len(found), SAMPLE_MIN)]
    counted = [(window[0][0], reference.histogram([value for _, value in window])) for window in windows]
    live = tuple(map(sum, zip(*(counts for _, counts in counted), strict=True))) or (0,) * len(reference.counts)
    full = counted[: len(found) // SAMPLE_MIN][:_WINDOWS_MAX]
    over_time = tuple(_distance(reference, counts, at_s) for at_s, counts in reversed(full))
    distance = _distance(reference, live, found[0][0]) if len(found) >= SAMPLE_MIN else None
    return Drift(feature, reference, live, distance, over_time)


def _values(rows: Sequence[JobRow], feature: str) -> list[tuple[float, Any]]:
    """(finish time, value) of each job that has the feature."""
    if feature == "label":
        return [(row.finished_s, row.label) for row in rows if row.label]
    if feature in ("confidence", "familiarity"):
        numbers = ((row.finished_s, getattr(row, feature)) for row in rows)
        return [(at_s, value) for at_s, value in numbers if value is not None]
    get = attrgetter(feature)
    return [(row.finished_s, get(row.features)) for row in rows if row.features]


def _distance(reference: Reference, live: Sequence[int], at_s: float) -> Distance:
    is_ordered = not reference.names
    return Distance(at_s, psi(reference.counts, live), ks(reference.counts, live) if is_ordered else None)


#: Share used for an empty bin, because the logarithm of 0 is undefined.
_FLOOR = 1e-4


def psi(expected: Sequence[float], found: Sequence[float]) -> float:
    """The population stability index of two histograms over the same bins; 0 if they are equal."""
    pairs = zip(_shares(expected), _shares(found), strict=True)
    return sum((b - a) * math.log(b / a) for a, b in ((max(a, _FLOOR), max(b, _FLOOR)) for a, b in pairs))


def ks(expected: Sequence[float], found: Sequence[float]) -> float:
    """The Kolmogorov-Smirnov distance of two histograms over the same ordered bins, 0..1."""
    difference, maximum = 0.0, 0.0
    for a, b in zip(_shares(expected), _shares(found), strict=True):
        difference += b - a
        maximum = max(maximum, abs(difference))
    return maximum


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) or 1
    return [value / whole for value in counts]


def verdict(distance: Distance | None, sample: int) -> str:
    """What a distance means, in words."""
    if distance is None:
        return f"No verdict yet: {sample:,} of {SAMPLE_MIN} images"
    if distance.psi < _PSI_BOUNDS[0]:
        return "Similar to test images"
    return "Slightly different from test images" if distance.psi < _PSI_BOUNDS[1] else "Different from test images"


_OTHER_MODEL = (
    "The dashboard has no test images of this model to compare with. It reads the bundle in PAWQUEUE_MODEL, the "
    "promoted or the included one."
)
_NO_JOBS = "No images have been predicted recently."
_NO_FAMILIARITY = "The served bundle does not measure familiarity."
_NO_REFERENCE = "The served bundle contains no histograms to compare with."


def _content_of(snapshot: Snapshot, note: str, *, is_empty: bool, empty: str) -> Content:
    if snapshot.bundle.is_down:
        return Content(CardState.ERROR, f"The bundle cannot be read. {snapshot.bundle.problem}")
    return content_of(snapshot.ledger, note, is_empty=is_empty, empty=empty)


def _summary(snapshot: Snapshot, drifts: Sequence[Drift]) -> Content:
    sample = max((drift.sample for drift in drifts), default=0)
    similar, different = _PSI_BOUNDS
    note = (
        f"Last {count(sample, 'image')}. PSI below {similar:g}: similar; {different:g} or more: different. "
        f"A verdict needs {SAMPLE_MIN} images"
    )
    content = _content_of(snapshot, note, is_empty=not sample, empty=_NO_JOBS if drifts else _NO_REFERENCE)
    if not content.has_data:
        return content
    return replace(content, table=Table(("Feature", "Images", "PSI", "KS", "Verdict"), tuple(map(_row, drifts))))


def _row(drift: Drift) -> tuple[str, ...]:
    distance = drift.distance
    return (
        _FEATURES[drift.feature][0],
        number(drift.sample),
        f"{distance.psi:.2f}" if distance else "-",
        f"{distance.ks:.2f}" if distance and distance.ks is not None else "-",
        verdict(distance, drift.sample),
    )


def _overlay(snapshot: Snapshot, drift: Drift | None, feature: str) -> Content:
    note = f"{count(drift.sample, 'image')}. {verdict(drift.distance, drift.sample)}" if drift else ""
    is_empty = drift is None or not drift.sample
    no_reference = _NO_FAMILIARITY if feature == "familiarity" else _NO_REFERENCE
    content = _content_of(snapshot, note, is_empty=is_empty, empty=_NO_JOBS if drift else no_reference)
    if not content.has_data or drift is None:
        return content
    _, unit, factor = _FEATURES[feature]
    test, live = ([100 * share for share in _shares(counts)] for counts in (drift.reference.counts, drift.live))
    names = _bin_names(drift.reference, factor)
    body = tuple((name, number(a), number(b)) for name, a, b in zip(names, test, live, strict=True) if a or b)
    table = Table((unit, "test (%)", "live (%)"), body)
    return replace(content, figure=_figure(drift.reference, test, live, unit, factor), table=table)


def _figure(
    reference: Reference, test: Sequence[float], live: Sequence[float], unit: str, factor: float
) -> figures.Figure:
    if reference.names:
        return figures.bars(reference.names, [("test", test), ("live", live)], "% of images", unit)
    if factor == 1.0:  # bins of sizes are powers of two: on a linear axis the small ones would be invisible
        filled = [at for row in (test, live) for at, value in enumerate(row) if value]
        part = slice(min(filled), max(filled) + 1)
        names = _bin_names(reference, factor)[part]
        return figures.bars(names, [("test", test[part]), ("live", live[part])], "% of images", unit)
    edges = [edge * factor for edge in reference.edges]
    middles, widths = [(a + b) / 2 for a, b in pairwise(edges)], [b - a for a, b in pairwise(edges)]
    return figures.distributions(middles, widths, [("test", test), ("live", live)], unit)


def _bin_names(reference: Reference, factor: float) -> list[str]:
    if reference.names:
        return list(reference.names)
    edges = [number(edge * factor, 4) for edge in reference.edges]
    return [f"{low} to {high}" for low, high in pairwise(edges)]


def _over_time(snapshot: Snapshot, title: str, lines: Sequence[Line]) -> Content:
    if snapshot.bundle.is_down:
        return _content_of(snapshot, "", is_empty=True, empty="")
    named = [(_FEATURES[feature][0].lower(), points) for feature, points in lines if points]
    note = f"One point per {SAMPLE_MIN} images"
    empty = f"{title} needs {SAMPLE_MIN} images, and fewer have been predicted recently."
    return line_content(snapshot.ledger, note, named, title, empty, markers=True)
