"""The one background reader of a process: takes a snapshot every few seconds, whatever the number of viewers."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from contract.errors import UnavailableError
from contract.images.thumbnails import ThumbnailStore
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat
from contract.log import get_logger
from dashboard.bundle_files import BundleReader
from dashboard.gateway_client import GatewayClient
from dashboard.job_rows import JobRow, row_of
from dashboard.mlflow_runs import MlflowReader
from dashboard.snapshot import Numbers, Snapshot, SourceState
from dashboard.sources import NumberSource

_log = get_logger(__name__)

#: Ended jobs that are kept in memory, and read at most in a second: beyond that they are a sample.
JOBS_KEPT = 5_000
_JOBS_PER_S = 50
#: Jobs whose thumbnails are kept, and how long one may come after its job has ended.
_THUMBNAILS_KEPT = 300
_THUMBNAIL_LATE_S = 30.0


@dataclass
class Reader:
    """Reads all sources, one after the other; `latest` is what it knows."""

    ledger: Ledger
    thumbnails: ThumbnailStore
    numbers: NumberSource
    gateway: GatewayClient
    bundle: BundleReader
    #: None where no server is set.
    mlflow: MlflowReader | None
    period_s: float
    clock: Callable[[], float] = time.time
    #: Called with each snapshot before anybody sees it.
    prepare: Callable[[Snapshot], None] = lambda _snapshot: None
    latest: Snapshot = field(init=False)
    _jobs: deque[JobRow] = field(default_factory=lambda: deque(maxlen=JOBS_KEPT))
    _workers: tuple[Heartbeat, ...] = ()
    _place: str = ""
    _shown: dict[str, bytes] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        waiting = {name: SourceState(text) for name, text in (("gateway", "The gateway"), ("workers", "Workers"))}
        self.latest = Snapshot(0, self.clock(), Numbers(sources=waiting), SourceState("The job ledger (Redis)"))

    def start(self) -> None:
        """Start the thread; call it after the process has forked."""
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def read(self) -> Snapshot:
        """Take a snapshot now."""
        now_s = self.clock()
        ledger, sampled = self._read_ledger(now_s)
        numbers = self.numbers.read(now_s, self._workers)
        gateway, health = self._read_gateway(now_s)
        bundle, served = self.bundle.read(now_s)
        mlflow, runs = self.mlflow.read(now_s) if self.mlflow else (None, ())
        snapshot = Snapshot(
            sequence=self.latest.sequence + 1,
            at_s=now_s,
            numbers=numbers,
            ledger=ledger,
            jobs=tuple(self._jobs),
            jobs_are_sampled=self.latest.jobs_are_sampled or sampled,
            workers=self._workers,
            gateway=gateway,
            health=health,
            thumbnails=dict(self._shown),
            bundle=bundle,
            served=served,
            mlflow=mlflow,
            runs=runs,
        )
        self.prepare(snapshot)
        self.latest = snapshot
        return snapshot

    def _read_ledger(self, now_s: float) -> tuple[SourceState, bool]:
        """How the ledger is doing, and whether more jobs have ended than were read."""
        try:
            self._workers = tuple(self.ledger.workers())
            sampled = self._read_jobs()
            self._read_thumbnails(now_s)
        except UnavailableError:
            return self.latest.ledger.failed(now_s, "It does not answer; see that Redis runs."), False
        return self.latest.ledger.answered(now_s), sampled

    def _read_gateway(self, now_s: float) -> tuple[SourceState, Mapping[str, Any]]:
        try:
            return self.latest.gateway.answered(now_s), self.gateway.health()
        except UnavailableError as error:
            return self.latest.gateway.failed(now_s, error.detail), {}

    def _read_jobs(self) -> bool:
        most = JOBS_KEPT // 5 if not self._place else max(1, round(_JOBS_PER_S * self.period_s))
        found = self.ledger.recent(most, self._place)
        if not found:
            return False
        jobs = self.ledger.get([job_id for _, job_id in found])
        rows = [row_of(job) for job in jobs if job and job.status.is_final]
        self._jobs.extendleft(reversed(rows))
        first, self._place = not self._place, found[0][0]
        return len(found) == most and not first

    def _read_thumbnails(self, now_s: float) -> None:
        newest = [self._jobs[at] for at in range(min(len(self._jobs), _THUMBNAILS_KEPT))]
        first = not self._shown
        wanted = [
            row.id
            for row in newest
            if row.id not in self._shown and row.label and (first or row.ended_s > now_s - _THUMBNAIL_LATE_S)
        ]
        found = zip(wanted, self.thumbnails.get(wanted), strict=True)
        shown: Mapping[str, bytes] = {**self._shown, **{job_id: data for job_id, data in found if data}}
        self._shown = {row.id: shown[row.id] for row in newest if row.id in shown}

    def _run(self) -> None:
        while True:
            try:
                self.read()
            # The thread must live on: without it every page grows stale.
            except Exception:  # noqa: BLE001
                _log.exception("A reading for the dashboard failed")
                self.latest = replace(self.latest, sequence=self.latest.sequence + 1)
            if self._stopping.wait(self.period_s):
                return
