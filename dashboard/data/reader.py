"""The background thread that reads all sources every few seconds, regardless of the number of viewers."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from typing import Protocol

from contract.errors import UnavailableError
from contract.images.thumbnails import ThumbnailStore
from contract.ledger.counts import VersionCounts
from contract.ledger.feedback import VersionFeedback
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat
from contract.ledger.webhooks import OutboxStats
from contract.log import get_logger
from contract.status import Status, read_status
from dashboard.data.gateway import GatewayClient
from dashboard.data.jobs import JobRow, build_row
from dashboard.data.models import BundleReader, MlflowReader
from dashboard.data.snapshot import FEEDBACK_DAYS, Metrics, ShadowView, Snapshot
from dashboard.data.source import REDIS, SourceState

_log = get_logger(__name__)

#: A thumbnail is stored at most this long after its job has finished.
_THUMBNAIL_LATE_S = 30.0
#: What versions did is read this often, of at most this many models.
_VERSIONS_PERIOD_S, _VERSIONS_MODELS = 30.0, 20
#: The same of shadows.
_SHADOW_PERIOD_S = 10.0
#: Disagreements that are read of each model.
_DISAGREEMENTS = 50

_Feedback = Mapping[str, Sequence[VersionFeedback]]
_Counts = Mapping[str, Sequence[VersionCounts]]


class MetricsSource(Protocol):
    """A source of metrics: `PrometheusSource` or `ScrapeSource`."""

    def read(self, now_s: float, workers: Sequence[Heartbeat]) -> Metrics:
        """Read the history up to now. A failure is part of the result and never raised."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the reader reads and keeps in memory."""

    #: Finished jobs in memory.
    jobs: int = 5_000
    #: Finished jobs read per second. If more finish, the newest are read and the others skipped.
    jobs_per_s: int = 50
    #: Newest jobs whose thumbnails are kept.
    thumbnails: int = 300


@dataclass
class Reader:
    """Reads all sources in turn. `latest` is the newest snapshot."""

    ledger: Ledger
    ledger_max_bytes: int
    thumbnails: ThumbnailStore
    metrics: MetricsSource
    gateway: GatewayClient
    bundle: BundleReader
    #: None if no server is configured.
    mlflow: MlflowReader | None
    period_s: float
    clock: Callable[[], float] = time.time
    limits: Limits = field(default_factory=Limits)
    latest: Snapshot = field(init=False)
    _jobs: deque[JobRow] = field(init=False)
    #: Position of the last job read from the ledger's stream; empty before the first one.
    _position: str = ""
    _thumbnails: dict[str, bytes] = field(default_factory=dict)
    #: Number of jobs that had been purged at the last reading.
    _purged: int = 0
    _versions_at_s: float = 0.0
    _shadows_at_s: float = 0.0
    _outbox: OutboxStats | None = None

    def __post_init__(self) -> None:
        self._jobs = deque(maxlen=self.limits.jobs)
        self.latest = Snapshot(0, self.clock(), Metrics(), REDIS)

    def start(self) -> None:
        """Start the thread; call this after the process has forked."""
        threading.Thread(target=self._run, name="reader", daemon=True).start()

    def read(self) -> Snapshot:
        """Read all sources now; returns the new snapshot."""
        now_s, before = self.clock(), self.latest
        ledger, status, is_sampled = self._read_ledger(now_s)
        bundle, served = self.bundle.read(now_s)
        mlflow, runs = self.mlflow.read(now_s) if self.mlflow else (None, ())
        feedback, counts = self._read_versions(now_s, status.live)
        self.latest = Snapshot(
            sequence=before.sequence + 1,
            at_s=now_s,
            metrics=self.metrics.read(now_s, status.workers),
            ledger=ledger,
            status=status,
            jobs=tuple(self._jobs),
            jobs_are_sampled=before.jobs_are_sampled or is_sampled,
            gateway=self.gateway.check(before.gateway, now_s),
            thumbnails=dict(self._thumbnails),
            bundle=bundle,
            served=served,
            mlflow=mlflow,
            runs=runs,
            feedback=feedback,
            counts=counts,
            outbox=self._outbox,
            shadows=self._read_shadows(now_s),
        )
        return self.latest

    def _read_versions(self, now_s: float, models: Iterable[str]) -> tuple[_Feedback, _Counts]:
        """The feedback on the versions of these models, and what they did."""
        before = self.latest.feedback, self.latest.counts
        if now_s < self._versions_at_s + _VERSIONS_PERIOD_S:
            return before
        names = sorted(models)[:_VERSIONS_MODELS]
        try:
            feedback = {name: self.ledger.feedback.of_model(name, FEEDBACK_DAYS) for name in names}
            counts = {name: self.ledger.counts.of_model(name, FEEDBACK_DAYS) for name in names}
        except UnavailableError:
            return before
        self._versions_at_s = now_s
        return feedback, counts

    def _read_shadows(self, now_s: float) -> Mapping[str, ShadowView]:
        if now_s < self._shadows_at_s + _SHADOW_PERIOD_S:
            return self.latest.shadows
        try:
            store, routes = self.ledger.shadows, self.ledger.models.routes()
            current = {name: route.shadow for name, route in routes.items() if route.shadow}
            names = sorted(current.keys() | {name for name, _, _ in store.totals()})[:_VERSIONS_MODELS]
            found = {
                name: ShadowView(
                    current.get(name), store.agreement(name, FEEDBACK_DAYS), store.disagreements(name, _DISAGREEMENTS)
                )
                for name in names
            }
        except UnavailableError:
            return self.latest.shadows
        self._shadows_at_s = now_s
        return found

    def _run(self) -> None:
        while True:
            try:
                self.read()
            # Without this thread no page would update, so it must survive any error.
            except Exception:  # noqa: BLE001
                _log.exception("The dashboard could not read its sources")
                self.latest = replace(self.latest, sequence=self.latest.sequence + 1)
            time.sleep(self.period_s)

    def _read_ledger(self, now_s: float) -> tuple[SourceState, Status, bool]:
        """The state of the ledger, the status of the service, and whether finished jobs were skipped."""
        before = self.latest
        status = read_status(self.ledger, self.ledger_max_bytes)
        down = next((problem for problem in status.problems if problem.code == "ledger_unavailable"), None)
        if down:
            return before.ledger.failed(now_s, down.detail), before.status, False
        try:
            self._drop_purged()
            is_sampled = self._read_jobs()
            self._read_thumbnails(now_s)
            self._outbox = self.ledger.webhooks.stats(int(now_s * 1000))
        except UnavailableError as error:
            return before.ledger.failed(now_s, error.detail), status, False
        return before.ledger.succeeded(now_s), status, is_sampled

    def _read_jobs(self) -> bool:
        is_first = not self._position
        maximum = self.limits.jobs // 5 if is_first else max(1, round(self.limits.jobs_per_s * self.period_s))
        found = self.ledger.recent(maximum, self._position)
        if not found:
            return False
        jobs = self.ledger.get([job_id for _, job_id in found])
        self._jobs.extendleft(build_row(job) for job in reversed(jobs) if job and job.status.is_final)
        self._position = found[0][0]
        return len(found) == maximum and not is_first

    def _drop_purged(self) -> None:
        """Drop the jobs without a record, if any job was purged since the last reading."""
        purged = self.ledger.purged_count()
        if purged != self._purged and self._jobs:
            exist = self.ledger.exist([row.job_id for row in self._jobs])
            self._jobs = deque(compress(self._jobs, exist), self.limits.jobs)
        self._purged = purged

    def _read_thumbnails(self, now_s: float) -> None:
        newest = list(islice(self._jobs, self.limits.thumbnails))
        is_first = not self._thumbnails
        missing = [
            row.job_id
            for row in newest
            if row.job_id not in self._thumbnails
            and row.label
            and (is_first or row.finished_s > now_s - _THUMBNAIL_LATE_S)
        ]
        found = zip(missing, self.thumbnails.get(missing), strict=True)
        known = {**self._thumbnails, **{job_id: data for job_id, data in found if data}}
        self._thumbnails = {row.job_id: known[row.job_id] for row in newest if row.job_id in known}
