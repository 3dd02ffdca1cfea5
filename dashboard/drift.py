"""Live images against those of training: histograms on the bundle's own edges, PSI and KS."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

from dashboard.job_rows import JobRow

#: Below so many images nothing is said.
SAMPLE_MIN = 200
#: So many windows of `SAMPLE_MIN` images are shown over time.
WINDOWS_MAX = 20
#: The usual bounds of the population stability index: below the first alike, above the second changed.
PSI_BOUNDS = (0.1, 0.25)
#: Share that an empty bin counts as, so that the logarithm exists.
_FLOOR = 1e-4

FEATURES = ("confidence", "label", "brightness", "contrast", "width", "height")


@dataclass(frozen=True, slots=True)
class Reference:
    """A histogram of training: counts between edges, or by name."""

    counts: tuple[float, ...]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    def histogram(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Values by bin: outside of the edges in the nearest, names that training did not know in none."""
        if self.names:
            found = Counter(values)
            return tuple(found[name] for name in self.names)
        ordered = sorted(values)
        cuts = [0, *(bisect_left(ordered, edge) for edge in self.edges[1:-1]), len(ordered)]
        return tuple(high - low for low, high in pairwise(cuts))


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a sample is from the reference."""

    at_s: float
    psi: float
    #: None where the bins have no order.
    ks: float | None


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature, live and in training."""

    feature: str
    reference: Reference
    live: tuple[int, ...]
    #: Of all the live images; None below the least sample.
    distance: Distance | None
    over_time: tuple[Distance, ...]

    @property
    def sample(self) -> int:
        """Live images counted."""
        return sum(self.live)


def reference_of(manifest: Mapping[str, Any], feature: str) -> Reference | None:
    """The histogram of a manifest; None where it has none."""
    found = (manifest.get("reference") or {}).get(feature)
    if not found or not found.get("counts"):
        return None
    return Reference(tuple(found["counts"]), tuple(found.get("edges") or ()), tuple(found.get("names") or ()))


def values_of(rows: Sequence[JobRow], feature: str) -> list[tuple[float, Any]]:
    """(time of its end, value) of each job that has the feature."""
    if feature == "label":
        return [(row.ended_s, row.label) for row in rows if row.label]
    if feature == "confidence":
        return [(row.ended_s, row.confidence) for row in rows if row.confidence is not None]
    get = attrgetter(feature)
    return [(row.ended_s, get(row.features)) for row in rows if row.features]


def feature_drift(rows: Sequence[JobRow], reference: Reference, feature: str) -> FeatureDrift:
    """Compare jobs, newest first, with the reference."""
    known = set(reference.names)
    found = [pair for pair in values_of(rows, feature) if not known or pair[1] in known]
    # Sorting a window and looking up the edges in it takes a third of the time that looking up each value takes.
    windows = [found[at : at + SAMPLE_MIN] for at in range(0, len(found), SAMPLE_MIN)]
    counted = [(window[0][0], reference.histogram([value for _, value in window])) for window in windows]
    live = tuple(map(sum, zip(*(counts for _, counts in counted), strict=True))) or (0,) * len(reference.counts)
    full = counted[: len(found) // SAMPLE_MIN][:WINDOWS_MAX]
    over_time = tuple(_distance(reference, counts, at_s) for at_s, counts in reversed(full))
    distance = _distance(reference, live, found[0][0]) if len(found) >= SAMPLE_MIN else None
    return FeatureDrift(feature, reference, live, distance, over_time)


def psi(expected: Sequence[float], found: Sequence[float]) -> float:
    """Population stability index of two histograms over the same bins; 0: alike."""
    pairs = zip(_shares(expected), _shares(found), strict=True)
    return sum((b - a) * math.log(b / a) for a, b in ((max(a, _FLOOR), max(b, _FLOOR)) for a, b in pairs))


def ks(expected: Sequence[float], found: Sequence[float]) -> float:
    """Kolmogorov-Smirnov distance of two histograms over the same ordered bins, 0..1."""
    difference, largest = 0.0, 0.0
    for a, b in zip(_shares(expected), _shares(found), strict=True):
        difference += b - a
        largest = max(largest, abs(difference))
    return largest


def verdict(distance: Distance | None, sample: int) -> str:
    """What a distance means, in words; none below the least sample."""
    if distance is None:
        return f"No verdict: {sample:,} of at least {SAMPLE_MIN} images."
    if distance.psi < PSI_BOUNDS[0]:
        return "Like training."
    return "Somewhat unlike training." if distance.psi < PSI_BOUNDS[1] else "Unlike training."


def _distance(reference: Reference, live: Sequence[int], at_s: float) -> Distance:
    ordered = not reference.names
    return Distance(at_s, psi(reference.counts, live), ks(reference.counts, live) if ordered else None)


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) or 1
    return [count / whole for count in counts]
