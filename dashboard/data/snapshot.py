"""A snapshot: everything the pages show, read at one moment and never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contract.ledger.counts import VersionCounts
from contract.ledger.feedback import VersionFeedback
from contract.ledger.models import Shadow
from contract.ledger.shadows import Agreement, Disagreement
from contract.ledger.types import Heartbeat
from contract.ledger.webhooks import OutboxStats
from contract.status import Status
from dashboard.data.jobs import JobRow
from dashboard.data.quantities import BY_MODEL, SOURCE_OF, Series
from dashboard.data.source import BUNDLE, GATEWAY, GATEWAY_METRICS, WORKERS, SourceState

#: How many days of feedback the pages show.
FEEDBACK_DAYS = 30


@dataclass(frozen=True, slots=True)
class Alert:
    """A firing Prometheus alert."""

    name: str
    severity: str
    summary: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """The history of each quantity, and the state of the sources it comes from."""

    series: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    #: State of the sources `gateway` and `workers`; both are the same if Prometheus provides all metrics.
    sources: Mapping[str, SourceState] = field(default_factory=lambda: {"gateway": GATEWAY_METRICS, "workers": WORKERS})
    #: None if Prometheus is not configured.
    alerts: tuple[Alert, ...] | None = None
    #: How far back the series go, in seconds.
    history_s: int = 0

    def of(self, quantity: str) -> tuple[Series, ...]:
        """The series of a quantity; empty if there are none."""
        return self.series.get(quantity, ())

    def of_model(self, model: str) -> "Metrics":
        """The same metrics of one model, where they are measured for each model."""
        own = {
            name.removesuffix(BY_MODEL): tuple(item.without("model") for item in items if item.label("model") == model)
            for name, items in self.series.items()
            if name.endswith(BY_MODEL)
        }
        return replace(self, series={**self.series, **own})

    def source_of(self, quantity: str) -> SourceState:
        """The state of the source that provides a quantity."""
        return self.sources[SOURCE_OF[quantity]]


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """The text files of the served bundle."""

    manifest: Mapping[str, Any]
    #: Its README, in Markdown.
    card: str = ""
    #: (true label, predicted label, confidence) of each test image.
    predictions: tuple[tuple[str, str, float], ...] = ()

    @property
    def version(self) -> str:
        """The version of the bundle."""
        return str(self.manifest.get("version", ""))


@dataclass(frozen=True, slots=True)
class Run:
    """A training run in MLflow."""

    id: str
    name: str
    status: str
    started_s: float | None
    metrics: Mapping[str, float]
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShadowView:
    """The shadow of a model, and how shadows compared with its live versions."""

    #: None if the model has no shadow now.
    current: Shadow | None = None
    agreement: Sequence[Agreement] = ()
    #: The latest ones, newest first.
    disagreements: Sequence[Disagreement] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of all sources."""

    #: Grows with every reading; 0 before the first one.
    sequence: int
    at_s: float
    metrics: Metrics
    ledger: SourceState
    #: Queues, workers and totals from the ledger.
    status: Status = field(default_factory=Status)
    #: Finished jobs, newest first.
    jobs: tuple[JobRow, ...] = ()
    #: Whether `jobs` is a sample because too many jobs finish to read them all.
    jobs_are_sampled: bool = False
    gateway: SourceState = GATEWAY
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    bundle: SourceState = BUNDLE
    served: ServedBundle | None = None
    #: None when no MLflow server is configured.
    mlflow: SourceState | None = None
    runs: tuple[Run, ...] = ()
    #: The feedback of the last `FEEDBACK_DAYS` days on the versions of each model.
    feedback: Mapping[str, Sequence[VersionFeedback]] = field(default_factory=dict)
    #: What the versions of each model did in these days.
    counts: Mapping[str, Sequence[VersionCounts]] = field(default_factory=dict)
    #: The deliveries to webhooks; None before the first reading.
    outbox: OutboxStats | None = None
    #: By model: what its shadow is, and what shadows found in the same days.
    shadows: Mapping[str, ShadowView] = field(default_factory=dict)

    @property
    def workers(self) -> Sequence[Heartbeat]:
        """The running workers."""
        return self.status.workers
