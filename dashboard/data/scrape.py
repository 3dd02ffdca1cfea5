"""A short history without Prometheus, from `/metrics` of the gateway and of every worker."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contract.ledger.types import Heartbeat
from contract.status import NO_WORKER
from dashboard.data.quantities import DISTRIBUTION_S, QUANTITIES, RATE_S, Labels, Point, Quantity, Series
from dashboard.data.snapshot import Metrics
from dashboard.data.source import GATEWAY_METRICS, WORKERS, SourceError, SourceState, describe

#: How far back the history goes.
HISTORY_S = 900
#: The samples of one target: (metric, labels) -> value.
Samples = Mapping[tuple[str, Labels], float]
#: Samples by address of the target.
Targets = Mapping[str, Samples]

_TIMEOUT = httpx.Timeout(2.0)
_THREADS = 8
_KEPT = (*{quantity.metric for quantity in QUANTITIES}, "pawqueue_queue_jobs", "pawqueue_ledger_up")


class ScrapeSource:
    """Reads `/metrics` of the gateway and of every worker with a heartbeat. Keeps the last 15 minutes."""

    def __init__(self, gateway_url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`gateway_url` is the address of the gateway's metrics; a worker's heartbeat contains its own."""
        self._gateway_url = gateway_url
        self._client = httpx.Client(timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._history = History()
        self._sources = {"gateway": GATEWAY_METRICS, "workers": WORKERS}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrape")

    def read(self, now_s: float, workers: Sequence[Heartbeat]) -> Metrics:
        """Read all targets and extend the history. A source that fails leaves a gap and is marked as failed."""
        found = {}
        # The address is empty if a worker serves no metrics.
        worker_urls = [worker.metrics_address for worker in workers if worker.metrics_address]
        for name, urls in (("gateway", [self._gateway_url]), ("workers", worker_urls)):
            answers = dict(zip(urls, self._threads.map(self._scrape, urls), strict=True))
            targets: Targets = {url: answer for url, answer in answers.items() if not isinstance(answer, Exception)}
            error = next((answer for answer in answers.values() if isinstance(answer, Exception)), None)
            if targets:
                found[name] = targets
            self._sources[name] = self._next_state(name, now_s, has_targets=bool(targets), error=error)
        self._history.add(now_s, found)
        return Metrics(self._history.series(), dict(self._sources), None, HISTORY_S)

    def _next_state(self, name: str, now_s: float, *, has_targets: bool, error: Exception | None) -> SourceState:
        before = self._sources[name]
        if has_targets:
            return before.succeeded(now_s)
        return before.failed(now_s, describe(before, error) if error else NO_WORKER.detail)

    def _scrape(self, url: str) -> Samples | Exception:
        try:
            response = self._client.get(url)
            response.raise_for_status()
            samples = parse(response.text)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return error
        if samples.get(("pawqueue_ledger_up", ()), 1.0) == 0:
            return SourceError("The gateway has no connection to Redis.")
        return samples


def parse(text: str) -> Samples:
    """The samples in a metrics response that the dashboard needs.

    Raises:
        ValueError: The text is not in the Prometheus format.
    """
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(_KEPT)
    }


class History:
    """Readings over time, and the series computed from them. Not thread-safe."""

    def __init__(self) -> None:
        #: (time in seconds, targets by source); kept for as long as the longest window.
        self._readings: deque[tuple[float, Mapping[str, Targets]]] = deque()
        self._points: dict[str, dict[Labels, deque[Point]]] = {quantity.name: {} for quantity in QUANTITIES}

    def add(self, at_s: float, targets: Mapping[str, Targets]) -> None:
        """Add a reading. `targets` does not contain sources that did not respond."""
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
            if value is not None or (points and points[-1][1] is not None):  # a single None interrupts a line
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
            return _sums(_select(quantity, quantity.metric, newest), quantity.by)
        window_s = DISTRIBUTION_S if quantity.kind in ("quantile", "mean", "buckets") else RATE_S
        before_s, before = self._earliest(quantity.source, at_s - window_s)
        if before is None or before_s >= at_s:
            return {}
        return _over_time(quantity, before, newest, at_s - before_s)

    def _earliest(self, source: str, since_s: float) -> tuple[float, Targets | None]:
        """Time and targets of the first reading of a source at or after `since_s`."""
        return next(
            ((at_s, by[source]) for at_s, by in self._readings if at_s >= since_s and source in by), (0.0, None)
        )


def _over_time(quantity: Quantity, before: Targets, after: Targets, elapsed_s: float) -> dict[Labels, float]:
    def increase(metric: str, by: tuple[str, ...] = ()) -> dict[Labels, float]:
        return _sums(_increase(quantity, metric, before, after), by)

    if quantity.kind == "rate":
        return {labels: value / elapsed_s for labels, value in increase(quantity.metric, quantity.by).items()}
    if quantity.kind == "accepted":
        finished = increase(quantity.metric, quantity.by)
        was_unfinished, is_unfinished = (
            _sums(_select(quantity, "pawqueue_queue_jobs", targets), quantity.by) for targets in (before, after)
        )
        groups = {*finished, *was_unfinished, *is_unfinished} if quantity.by else {()}
        growth = {labels: is_unfinished.get(labels, 0.0) - was_unfinished.get(labels, 0.0) for labels in groups}
        return {labels: max(0.0, finished.get(labels, 0.0) + growth[labels]) / elapsed_s for labels in groups}
    if quantity.kind == "mean":
        images, batches = (increase(f"{quantity.metric}_{part}", quantity.by) for part in ("sum", "count"))
        return {labels: images[labels] / count for labels, count in batches.items() if count}
    if quantity.kind == "buckets":
        return increase(f"{quantity.metric}_bucket", quantity.by)
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in increase(f"{quantity.metric}_bucket", ("le", *quantity.by)).items():
        group = tuple(pair for pair in labels if pair[0] != "le")
        buckets.setdefault(group, []).append((float(dict(labels)["le"]), count))
    found = {labels: quantile(quantity.quantile, rows) for labels, rows in buckets.items()}
    return {labels: value for labels, value in found.items() if value is not None}


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """A quantile of cumulative (upper bound, count) pairs, computed as in Prometheus; None if all counts are 0."""
    rows = sorted(buckets)
    if not rows or rows[-1][1] <= 0:
        return None
    rank, low, counted = share * rows[-1][1], 0.0, 0.0
    for bound, count in rows:
        if count >= rank:
            return low if bound == float("inf") else low + (bound - low) * (rank - counted) / max(count - counted, 1e-9)
        low, counted = bound, count
    return low


def _sums(values: Iterable[tuple[Labels, float]], by: Sequence[str]) -> dict[Labels, float]:
    """Sums by the labels in `by`."""
    sums: dict[Labels, float] = {}
    for labels, value in values:
        kept = tuple((name, text) for name, text in labels if name in by)
        sums[kept] = sums.get(kept, 0.0) + value
    return sums


def _select(quantity: Quantity, metric: str, targets: Targets) -> list[tuple[Labels, float]]:
    """The samples of a metric from all targets, with the address as the label `instance`."""
    wanted = set(quantity.where.items())
    return [
        ((("instance", address), *labels), value)
        for address, samples in targets.items()
        for (name, labels), value in samples.items()
        if name == metric and wanted <= set(labels)
    ]


def _increase(quantity: Quantity, metric: str, before: Targets, after: Targets) -> list[tuple[Labels, float]]:
    """The increase of each counter. A counter that has become smaller was restarted at 0."""
    earlier = dict(_select(quantity, metric, before))
    rows = []
    known = {
        address: samples for address, samples in after.items() if address in before
    }  # a new target has no earlier value
    for labels, value in _select(quantity, metric, known):
        start = earlier.get(labels, 0.0)
        rows.append((labels, value - start if value >= start else value))
    return rows
