"""The quantities that the dashboard shows over time, and the PromQL query for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

#: Window of rates, and window of quantiles, means and histograms, in seconds.
RATE_S = 60
DISTRIBUTION_S = 300

Labels = tuple[tuple[str, str], ...]
#: (Unix time in seconds, value); None where the value is unknown.
Point = tuple[float, float | None]
#: (name, points) of one line of a chart.
Line = tuple[str, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one set of labels, oldest first."""

    labels: Labels
    points: tuple[Point, ...]

    @property
    def last(self) -> float | None:
        """The newest known value."""
        return next((value for _, value in reversed(self.points) if value is not None), None)

    def label(self, name: str) -> str:
        """The value of a label; empty if there is no such label."""
        return dict(self.labels).get(name, "")

    def without(self, name: str) -> "Series":
        """The same series without a label."""
        return Series(tuple(pair for pair in self.labels if pair[0] != name), self.points)


def total(series: Sequence[Series], **labels: str) -> float | None:
    """The sum of the newest values of the series with these labels; None if there are none."""
    values = [item.last for item in series if all(item.label(name) == text for name, text in labels.items())]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def summed(series: Sequence[Series]) -> tuple[Point, ...]:
    """The sum of all series at each point in time."""
    sums: dict[float, float | None] = {}
    for item in series:
        for at_s, value in item.points:
            before = sums.get(at_s)
            sums[at_s] = value if before is None else before + (value or 0.0)
    return tuple(sorted(sums.items()))


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured quantity, summed over all labels except those in `by`."""

    name: str
    kind: Literal["gauge", "rate", "accepted", "quantile", "mean", "buckets"]
    metric: str
    #: Which service exports it: the gateway (one value for the whole service) or every worker (to be summed).
    source: Literal["gateway", "workers"]
    by: tuple[str, ...] = ()
    where: dict[str, str] = field(default_factory=dict)
    quantile: float = 0.0

    def promql(self) -> str:
        """The query for this quantity."""
        return _QUERIES[self.kind](self)


_TOTAL = {"phase": "total"}
_OLDEST = "pawqueue_oldest_job_age_seconds"

_OF_ALL_MODELS = (
    Quantity("finished", "rate", "pawqueue_jobs_total", "gateway", by=("status",)),
    Quantity("accepted", "accepted", "pawqueue_jobs_total", "gateway"),
    Quantity("jobs", "gauge", "pawqueue_queue_jobs", "gateway", by=("queue", "state")),
    Quantity("oldest", "gauge", _OLDEST, "gateway", by=("queue",)),
    Quantity("errors", "rate", "pawqueue_job_errors_total", "gateway", by=("code",)),
    Quantity("refused", "rate", "pawqueue_refused_total", "gateway", by=("reason",)),
    Quantity("p50", "quantile", "pawqueue_job_seconds", "workers", where=_TOTAL, quantile=0.5),
    Quantity("p95", "quantile", "pawqueue_job_seconds", "workers", where=_TOTAL, quantile=0.95),
    Quantity("p99", "quantile", "pawqueue_job_seconds", "workers", where=_TOTAL, quantile=0.99),
    Quantity("batch_mean", "mean", "pawqueue_batch_size", "workers"),
    Quantity("batch_sizes", "buckets", "pawqueue_batch_size", "workers", by=("le",)),
    Quantity("images", "rate", "pawqueue_worker_images_total", "workers", by=("instance",)),
    Quantity("busy", "gauge", "pawqueue_worker_busy_ratio", "workers", by=("instance",)),
)
#: Quantities that are also read for each model, and the ending of their names then.
_EACH_MODEL = ("finished", "accepted", "jobs", "oldest", "p50", "p95", "p99", "images", "batch_mean", "batch_sizes")
BY_MODEL = "_by_model"
QUANTITIES = (
    *_OF_ALL_MODELS,
    *(
        replace(quantity, name=quantity.name + BY_MODEL, by=("model", *quantity.by))
        for quantity in _OF_ALL_MODELS
        if quantity.name in _EACH_MODEL
    ),
)
SOURCE_OF = {quantity.name: quantity.source for quantity in QUANTITIES}


def _selector(metric: str, quantity: Quantity) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in quantity.where.items())
    return metric + (f"{{{inner}}}" if inner else "")


def _by(names: tuple[str, ...]) -> str:
    return f" by ({', '.join(names)}) " if names else " "


def _gauge(quantity: Quantity) -> str:
    if quantity.metric in _LEDGER_GAUGES:
        # Every gateway reports the same ledger, so the maximum is the value.
        every = f"max by ({', '.join(_LEDGER_GAUGES[quantity.metric])}) ({quantity.metric})"
        return f"{'max' if quantity.metric == _OLDEST else 'sum'}{_by(quantity.by)}({every})"
    return f"max{_by(quantity.by)}({_selector(quantity.metric, quantity)})"


def _rate(quantity: Quantity) -> str:
    rate = f"rate({_selector(quantity.metric, quantity)}[{RATE_S}s])"
    if quantity.metric in _LEDGER_COUNTERS:
        rate = f"max by ({', '.join(_LEDGER_COUNTERS[quantity.metric])}) ({rate})"
    return f"sum{_by(quantity.by)}({rate})"


def _accepted(quantity: Quantity) -> str:
    sums = f"sum{_by(quantity.by)}"
    finished = f"{sums}(max by (model, queue, status, label) (rate(pawqueue_jobs_total[{RATE_S}s])))"
    growth = f"{sums}(max by (model, queue, state) (deriv(pawqueue_queue_jobs[{RATE_S}s])))"
    return f"clamp_min({finished} + {growth}, 0)"


def _quantile(quantity: Quantity) -> str:
    buckets = (
        f"sum{_by(('le', *quantity.by))}(rate({_selector(quantity.metric + '_bucket', quantity)}[{DISTRIBUTION_S}s]))"
    )
    return f"histogram_quantile({quantity.quantile}, {buckets})"


def _mean(quantity: Quantity) -> str:
    sums = f"sum{_by(quantity.by)}"
    images, batches = (f"{sums}(rate({quantity.metric}_{part}[{DISTRIBUTION_S}s]))" for part in ("sum", "count"))
    return f"{images} / ({batches} > 0)"


def _buckets(quantity: Quantity) -> str:
    return f"sum{_by(quantity.by)}(increase({quantity.metric}_bucket[{DISTRIBUTION_S}s]))"


_QUERIES = {
    "gauge": _gauge,
    "rate": _rate,
    "accepted": _accepted,
    "quantile": _quantile,
    "mean": _mean,
    "buckets": _buckets,
}
#: Gauges of the ledger with their labels.
_LEDGER_GAUGES = {
    "pawqueue_queue_jobs": ("model", "queue", "state"),
    _OLDEST: ("model", "queue"),
}
#: Counters of the ledger with their labels. Every gateway reports the same values.
_LEDGER_COUNTERS = {
    "pawqueue_jobs_total": ("model", "queue", "status", "label"),
    "pawqueue_job_errors_total": ("code",),
}
