"""What the dashboard knows at one moment: made by the reader, read by every view, never changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.ledger.types import Heartbeat
from dashboard.job_rows import JobRow
from dashboard.quantities import SOURCE_OF, Series


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source of data is doing; times are Unix time in seconds."""

    #: For people, at the start of a sentence.
    name: str
    #: When it last answered; None: never.
    read_at_s: float | None = None
    #: Since when it has not answered; None while it does.
    failed_since_s: float | None = None
    #: Why, and what to do.
    problem: str = ""

    def answered(self, now_s: float) -> "SourceState":
        """The state after an answer."""
        return SourceState(self.name, now_s)

    def failed(self, now_s: float, problem: str) -> "SourceState":
        """The state after a failure."""
        since_s = now_s if self.failed_since_s is None else self.failed_since_s
        return SourceState(self.name, self.read_at_s, since_s, problem)


@dataclass(frozen=True, slots=True)
class Alert:
    """A firing alert of Prometheus."""

    name: str
    severity: str
    summary: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Numbers:
    """Series by quantity, and how their sources are doing."""

    series: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    #: `gateway` and `workers` -> state; both are the same where Prometheus tells both.
    sources: Mapping[str, SourceState] = field(default_factory=dict)
    #: None where nobody evaluates alerts.
    alerts: tuple[Alert, ...] | None = None
    #: How far back the series go, in seconds.
    history_s: int = 0

    def source_of(self, quantity: str) -> SourceState:
        """The state of whoever tells a quantity."""
        return self.sources[SOURCE_OF[quantity]]


@dataclass(frozen=True, slots=True)
class Served:
    """The bundle in the folder from which workers serve, as far as its plain files tell."""

    manifest: Mapping[str, Any]
    #: Its README, in Markdown.
    card: str = ""
    #: (true label, said label, confidence), one a test image.
    answers: tuple[tuple[str, str, float], ...] = ()

    @property
    def version(self) -> str:
        """Of the bundle."""
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
class Snapshot:
    """All of it."""

    #: Grows with every reading; 0: nothing has been read.
    sequence: int
    at_s: float
    numbers: Numbers
    ledger: SourceState
    #: Newest first.
    jobs: tuple[JobRow, ...] = ()
    #: Whether more jobs ended than were read.
    jobs_are_sampled: bool = False
    workers: tuple[Heartbeat, ...] = ()
    gateway: SourceState = SourceState("The gateway")
    #: What the gateway says of itself (`GET /health`).
    health: Mapping[str, Any] = field(default_factory=dict)
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    bundle: SourceState = SourceState("The bundle")
    served: Served | None = None
    #: None where no MLflow server is set.
    mlflow: SourceState | None = None
    runs: tuple[Run, ...] = ()
