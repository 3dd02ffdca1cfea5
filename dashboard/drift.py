"""Live pictures against those of training: histograms on the bundle's own edges, PSI and KS."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.job_rows import JobRow

#: Below so many pictures nothing is said.
SAMPLE_MIN = 200
#: So many windows of `SAMPLE_MIN` pictures are shown over time.
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

    def bin_of(self, value: float | str) -> int:
        """Place of a value; outside of the edges the nearest, -1 for an unknown name."""
        if self.names:
            return self.names.index(value) if isinstance(value, str) and value in self.names else -1
        return max(0, min(len(self.counts) - 1, bisect_right(self.edges, float(value)) - 1))


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
    #: Of all the live pictures; None below the least sample.
    distance: Distance | None
    over_time: tuple[Distance, ...]

    @property
    def sample(self) -> int:
        """Live pictures counted."""
        return sum(self.live)


def reference_of(manifest: Mapping[str, Any], feature: str) -> Reference | None:
    """The histogram of a manifest; None where it has none."""
    found = (manifest.get("reference") or {}).get(feature)
    if not found or not found.get("counts"):
        return None
    return Reference(tuple(found["counts"]), tuple(found.get("edges") or ()), tuple(found.get("names") or ()))


def value_of(row: JobRow, feature: str) -> float | str | None:
    """What a job has of a feature."""
    if feature == "label":
        return row.label or None
    if feature == "confidence":
        return row.confidence
    found = getattr(row.features, feature) if row.features else None
    return None if found is None else float(found)


def feature_drift(rows: Sequence[JobRow], reference: Reference, feature: str) -> FeatureDrift:
    """Compare jobs, newest first, with the reference."""
    binned = [(row.ended_s, reference.bin_of(value)) for row in rows if (value := value_of(row, feature)) is not None]
    binned = [pair for pair in binned if pair[1] >= 0]
    live = _histogram(binned, len(reference.counts))
    enough = len(binned) >= SAMPLE_MIN
    starts = range(0, len(binned) - SAMPLE_MIN + 1, SAMPLE_MIN)
    windows = [binned[at : at + SAMPLE_MIN] for at in starts][:WINDOWS_MAX]
    over_time = [_distance(reference, _histogram(window, len(live)), window[0][0]) for window in reversed(windows)]
    distance = _distance(reference, live, binned[0][0]) if enough else None
    return FeatureDrift(feature, reference, live, distance, tuple(over_time))


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
        return f"No verdict: {sample:,} of at least {SAMPLE_MIN} pictures."
    if distance.psi < PSI_BOUNDS[0]:
        return "Like training."
    return "Somewhat unlike training." if distance.psi < PSI_BOUNDS[1] else "Unlike training."


def _distance(reference: Reference, live: Sequence[int], at_s: float) -> Distance:
    ordered = not reference.names
    return Distance(at_s, psi(reference.counts, live), ks(reference.counts, live) if ordered else None)


def _histogram(binned: Sequence[tuple[float, int]], size: int) -> tuple[int, ...]:
    counts = [0] * size
    for _, place in binned:
        counts[place] += 1
    return tuple(counts)


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) or 1
    return [count / whole for count in counts]
