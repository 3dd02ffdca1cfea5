"""The numbers that the dashboard shows over time: what each is, and how Prometheus is asked for it."""

from dataclasses import dataclass, field
from typing import Literal

#: Rates are taken over so many seconds, distributions over so many.
RATE_S = 60
DISTRIBUTION_S = 300

Labels = tuple[tuple[str, str], ...]
#: (Unix time in seconds, value); None where nothing is known.
Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: points in order of time."""

    labels: Labels
    points: tuple[Point, ...]

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.points[-1][1] if self.points else None

    def label(self, name: str) -> str:
        """Value of a label; empty where it has none of that name."""
        return dict(self.labels).get(name, "")


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something measured, summed over its labels but those of `by`."""

    name: str
    kind: Literal["gauge", "rate", "accepted", "quantile", "mean", "buckets"]
    metric: str
    #: Who tells it: the gateway (once for the whole service), or each worker (to be added up).
    source: Literal["gateway", "workers"]
    by: tuple[str, ...] = ()
    where: dict[str, str] = field(default_factory=dict)
    quantile: float = 0.0

    def promql(self) -> str:
        """The query that gives it."""
        return _QUERIES[self.kind](self)


def _selector(metric: str, quantity: Quantity) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in quantity.where.items())
    return metric + (f"{{{inner}}}" if inner else "")


def _by(names: tuple[str, ...]) -> str:
    return f" by ({', '.join(names)}) " if names else " "


def _gauge(quantity: Quantity) -> str:
    # Every gateway tells the same of the one ledger, so the largest stands for all.
    return f"max{_by(quantity.by)}({_selector(quantity.metric, quantity)})"


def _rate(quantity: Quantity) -> str:
    rate = f"rate({_selector(quantity.metric, quantity)}[{RATE_S}s])"
    if quantity.metric in _OF_LEDGER:
        rate = f"max by ({', '.join(_OF_LEDGER[quantity.metric])}) ({rate})"
    return f"sum{_by(quantity.by)}({rate})"


def _accepted(_quantity: Quantity) -> str:
    ended = f"sum(max by (queue, status, label) (rate(pawqueue_jobs_total[{RATE_S}s])))"
    grown = f"sum(max by (queue, state) (deriv(pawqueue_queue_jobs[{RATE_S}s])))"
    return f"clamp_min({ended} + {grown}, 0)"


def _quantile(quantity: Quantity) -> str:
    buckets = f"sum by (le) (rate({_selector(quantity.metric + '_bucket', quantity)}[{DISTRIBUTION_S}s]))"
    return f"histogram_quantile({quantity.quantile}, {buckets})"


def _mean(quantity: Quantity) -> str:
    of = {part: f"sum(rate({quantity.metric}_{part}[{DISTRIBUTION_S}s]))" for part in ("sum", "count")}
    return f"{of['sum']} / ({of['count']} > 0)"


def _buckets(quantity: Quantity) -> str:
    return f"sum by (le) (increase({quantity.metric}_bucket[{DISTRIBUTION_S}s]))"


_QUERIES = {
    "gauge": _gauge,
    "rate": _rate,
    "accepted": _accepted,
    "quantile": _quantile,
    "mean": _mean,
    "buckets": _buckets,
}
#: Counters that every gateway tells alike, out of the one ledger, with all their labels.
_OF_LEDGER = {
    "pawqueue_jobs_total": ("queue", "status", "label"),
    "pawqueue_job_errors_total": ("code",),
}
_TOTAL = {"phase": "total"}

QUANTITIES = (
    Quantity("ended", "rate", "pawqueue_jobs_total", "gateway", by=("status",)),
    Quantity("accepted", "accepted", "pawqueue_jobs_total", "gateway"),
    Quantity("jobs", "gauge", "pawqueue_queue_jobs", "gateway", by=("queue", "state")),
    Quantity("oldest", "gauge", "pawqueue_oldest_job_age_seconds", "gateway", by=("queue",)),
    Quantity("dead", "gauge", "pawqueue_dead_jobs", "gateway"),
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
SOURCE_OF = {quantity.name: quantity.source for quantity in QUANTITIES}
