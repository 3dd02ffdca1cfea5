"""Numbers without Prometheus: read `/metrics` of gateway and workers, and keep a short history."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from dashboard.quantities import DISTRIBUTION_S, QUANTITIES, RATE_S, Labels, Point, Quantity, Series

#: How far back the history goes.
HISTORY_S = 900
#: What one target says: (metric, labels) -> value.
Samples = Mapping[tuple[str, Labels], float]
#: By address.
Targets = Mapping[str, Samples]


def parse(text: str) -> Samples:
    """Read the text that a target answers with.

    Raises:
        ValueError: it is no such text.
    """
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(_KEPT)
    }


_KEPT = (*{quantity.metric for quantity in QUANTITIES}, "pawqueue_queue_jobs", "pawqueue_ledger_up")


class History:
    """Readings over time, and the series made of them; one thread writes."""

    def __init__(self) -> None:
        #: (time in seconds, targets by source), as far back as the longest window.
        self._readings: deque[tuple[float, Mapping[str, Targets]]] = deque()
        self._points: dict[str, dict[Labels, deque[Point]]] = {quantity.name: {} for quantity in QUANTITIES}

    def add(self, at_s: float, targets: Mapping[str, Targets]) -> None:
        """Take a reading; a source that did not answer is not in it."""
        self._readings.append((at_s, targets))
        while self._readings[0][0] < at_s - DISTRIBUTION_S - 1:
            self._readings.popleft()
        for quantity in QUANTITIES:
            self._add_points(quantity, at_s)

    def series(self) -> dict[str, tuple[Series, ...]]:
        """Series by quantity."""
        return {
            name: tuple(Series(labels, tuple(points)) for labels, points in sorted(lines.items()))
            for name, lines in self._points.items()
        }

    def _add_points(self, quantity: Quantity, at_s: float) -> None:
        lines = self._points[quantity.name]
        values = self._values(quantity, at_s)
        for labels in {*lines, *values}:
            points = lines.setdefault(labels, deque())
            value = values.get(labels)
            if value is not None or (points and points[-1][1] is not None):  # one gap says that nothing was known
                points.append((at_s, value))
            while points and points[0][0] < at_s - HISTORY_S:
                points.popleft()
            if not points:
                del lines[labels]

    def _values(self, quantity: Quantity, at_s: float) -> dict[Labels, float]:
        newest = self._readings[-1][1].get(quantity.source)
        if newest is None:
            return {}
        if quantity.kind == "gauge":
            return grouped(_select(quantity, quantity.metric, newest), quantity.by)
        window_s = DISTRIBUTION_S if quantity.kind in ("quantile", "mean", "buckets") else RATE_S
        before_s, before = self._earlier(quantity.source, at_s - window_s)
        if before is None or before_s >= at_s:
            return {}
        return _over_time(quantity, before, newest, at_s - before_s)

    def _earlier(self, source: str, since_s: float) -> tuple[float, Targets | None]:
        """The first reading of a source within a window, and when it was taken."""
        return next(
            ((at_s, by[source]) for at_s, by in self._readings if at_s >= since_s and source in by), (0.0, None)
        )


def _over_time(quantity: Quantity, before: Targets, after: Targets, elapsed_s: float) -> dict[Labels, float]:
    def grown(metric: str, by: tuple[str, ...] = ()) -> dict[Labels, float]:
        return grouped(_increase(quantity, metric, before, after), by)

    if quantity.kind == "rate":
        return {labels: value / elapsed_s for labels, value in grown(quantity.metric, quantity.by).items()}
    if quantity.kind == "accepted":
        ended = sum(grown(quantity.metric).values())
        waiting = [sum(value for _, value in _select(quantity, "pawqueue_queue_jobs", at)) for at in (before, after)]
        return {(): max(0.0, ended + waiting[1] - waiting[0]) / elapsed_s}
    if quantity.kind == "mean":
        images, batches = (sum(grown(f"{quantity.metric}_{part}").values()) for part in ("sum", "count"))
        return {(): images / batches} if batches else {}
    buckets = grown(f"{quantity.metric}_bucket", ("le",))
    if quantity.kind == "buckets":
        return buckets
    value = quantile(quantity.quantile, [(float(dict(labels)["le"]), grew) for labels, grew in buckets.items()])
    return {} if value is None else {(): value}


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """A quantile out of cumulative (upper bound, count), as Prometheus reckons it; None without counts."""
    rows = sorted(buckets)
    if not rows or rows[-1][1] <= 0:
        return None
    rank, low, counted = share * rows[-1][1], 0.0, 0.0
    for bound, count in rows:
        if count >= rank:
            return low if bound == float("inf") else low + (bound - low) * (rank - counted) / max(count - counted, 1e-9)
        low, counted = bound, count
    return low


def grouped(values: Iterable[tuple[Labels, float]], by: Sequence[str]) -> dict[Labels, float]:
    """Sums by the labels of `by`."""
    sums: dict[Labels, float] = {}
    for labels, value in values:
        kept = tuple((name, text) for name, text in labels if name in by)
        sums[kept] = sums.get(kept, 0.0) + value
    return sums


def _select(quantity: Quantity, metric: str, targets: Targets) -> list[tuple[Labels, float]]:
    """The values of a metric at all targets, each with its target as `instance`."""
    wanted = set(quantity.where.items())
    return [
        ((("instance", address), *labels), value)
        for address, samples in targets.items()
        for (name, labels), value in samples.items()
        if name == metric and wanted <= set(labels)
    ]


def _increase(quantity: Quantity, metric: str, before: Targets, after: Targets) -> list[tuple[Labels, float]]:
    """How much counters have grown; one that is smaller than before began again at 0."""
    earlier = dict(_select(quantity, metric, before))
    rows = []
    known = {address: samples for address, samples in after.items() if address in before}  # a new one has no past
    for labels, value in _select(quantity, metric, known):
        was = earlier.get(labels, 0.0)
        rows.append((labels, value - was if value >= was else value))
    return rows
