"""Snapshots and jobs for tests of pages, and a whole dashboard on a real Redis with a fake gateway."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from contract.access import Access, KeyStore, Scope, make_key
from contract.images.thumbnails import ThumbnailStore
from contract.job import Features, Job, JobResult, JobStatus, ModelRef, Prediction, Timings, new_job_id
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import ChosenStrategy, Claim, Heartbeat, LedgerStats, QueueStats
from contract.origin import OriginCheck
from contract.rates import RateLimits
from contract.settings import load_settings
from contract.status import Status
from dashboard.app import create_app
from dashboard.data.gateway import GatewayClient
from dashboard.data.jobs import JobRow, build_row
from dashboard.data.models import BundleReader, read_bundle
from dashboard.data.quantities import QUANTITIES, Labels, Series
from dashboard.data.reader import Limits, Reader
from dashboard.data.scrape import ScrapeSource
from dashboard.data.snapshot import Metrics, Snapshot
from dashboard.data.source import SourceState
from dashboard.services import Services
from tests.support.ledger import claim_jobs, store
from tests.support.services import ROOT

NOW = 1_800_000_000.0
UP = SourceState("the gateway", read_at_s=NOW)
BUNDLE = ROOT / "models" / "cats-dogs"


def series(*values: float | None, end_s: float = NOW, step_s: float = 5.0, **labels: str) -> Series:
    """A series whose last point is at `end_s`."""
    start_s = end_s - step_s * (len(values) - 1)
    return Series(tuple(sorted(labels.items())), tuple((start_s + step_s * at, v) for at, v in enumerate(values)))


def metrics(state: SourceState = UP, **found: Sequence[Series]) -> Metrics:
    """Metrics whose sources are all in one state."""
    return Metrics({n: tuple(lines) for n, lines in found.items()}, {"gateway": state, "workers": state}, None, 900)


def all_metrics(state: SourceState = UP) -> Metrics:
    """Metrics with a series for every quantity."""
    labels: dict[str, dict[str, Any]] = {
        "finished": {"status": "succeeded"},
        "jobs": {"queue": "bulk", "state": "queued"},
        "oldest": {"queue": "bulk"},
        "errors": {"code": "undecodable_image"},
        "refused": {"reason": "not_an_image"},
        "images": {"instance": "http://w/metrics"},
        "busy": {"instance": "http://w/metrics"},
        "batch_sizes": {"le": "1.0"},
    }
    return metrics(state, **{q.name: [series(0.1, 0.5, 0.4, **labels.get(q.name, {}))] for q in QUANTITIES})


def job(label: str = "cat", confidence: float = 0.9, finished_s: float = NOW, **changes: Any) -> Job:
    """A job that succeeded after 250 ms."""
    result = JobResult(
        prediction=Prediction(label, confidence, {label: confidence, "other": 1 - confidence}, 0.25),
        model=ModelRef("cats-dogs", "1"),
        batch_size=4,
        timings=Timings(1.0, 2.0, 3.0, 4.0),
        features=Features(400, 300, 0.5, 0.2),
    )
    made = Job(new_job_id(), "bulk", round(finished_s * 1000) - 250, JobStatus.SUCCEEDED, file="cat.jpg", attempts=1)
    return replace(made, finished_ms=round(finished_s * 1000), result=result, **changes)


def row(label: str = "cat", confidence: float = 0.9, finished_s: float = NOW, **changes: Any) -> JobRow:
    """The row of a job that succeeded, with changes."""
    return replace(build_row(job(label, confidence, finished_s)), **changes)


def heartbeat(worker_id: str = "w", version: str = "1") -> Heartbeat:
    """A worker's heartbeat."""
    ms = round(NOW * 1000)
    labels = ["cat", "dog"]
    strategies = (ChosenStrategy(1, "wide", {"float32/wide": 5.0}),)
    return Heartbeat(
        *(worker_id, "host", "cats-dogs", version, labels, "jax", "float32", 0.5, "http://w/metrics", ms - 60_000, ms),
        strategies=strategies,
    )


def status(queued: int = 3, workers: Sequence[Heartbeat] = (heartbeat(),), **changes: Any) -> Status:
    """The status of a service with jobs in its bulk queue."""
    stats = LedgerStats({"bulk": QueueStats(queued, 1, 2500)}, {("bulk", "succeeded", "cat"): 1200}, dead=2)
    known = {"live": {"cats-dogs": "1"}, "default_model": "cats-dogs"}
    return replace(Status(stats, workers), **{**known, **changes})


def snapshot(**changes: Any) -> Snapshot:
    """A snapshot in which all sources respond and have data, with changes."""
    made = Snapshot(
        sequence=1,
        at_s=NOW,
        metrics=all_metrics(),
        ledger=replace(UP, name="Redis"),
        status=status(),
        jobs=tuple(row(finished_s=NOW - at) for at in range(3)),
        gateway=UP,
        bundle=replace(UP, name="the bundle"),
        served=read_bundle(BUNDLE),
    )
    return replace(made, **changes)


def labels(**names: str) -> Labels:
    """The labels of a series, from keyword arguments."""
    return tuple(sorted(names.items()))


@dataclass
class FakeServer:
    """An HTTP server that returns the response set for each path, and records the requests."""

    responses: dict[str, httpx.Response | Exception] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    @property
    def transport(self) -> httpx.MockTransport:
        """Connects a client to this server."""
        return httpx.MockTransport(self._respond)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        found = self.responses.get(request.url.path, httpx.Response(404, json={}))
        if isinstance(found, Exception):
            raise found
        return found


@dataclass
class Clock:
    """A clock that a test sets."""

    now_s: float = NOW

    def __call__(self) -> float:
        return self.now_s


@dataclass
class World:
    """A dashboard on a real Redis, with a fake gateway."""

    ledger: Ledger
    thumbnails: ThumbnailStore
    keys: KeyStore
    server: FakeServer
    services: Services
    clock: Clock

    @property
    def reader(self) -> Reader:
        """The reader, which reads only when a test calls it."""
        return self.services.reader

    def finish(self, label: str = "cat", owner: str = "", file: str = "a.jpg") -> str:
        """Submit a job and commit a prediction for it; returns its id."""
        now_ms = round(self.clock.now_s * 1000)
        made = Job(new_job_id(), "bulk", now_ms, file=file, owner=owner)
        store(self.ledger, [made])
        claim = claim_jobs(self.ledger, [made.id], 1000, 60, now_ms)[0]
        assert isinstance(claim, Claim)
        result = job(label).result
        assert result
        self.ledger.commit([(claim, result)], 60, now_ms)
        return made.id

    def store_thumbnail(self, job_id: str) -> None:
        """Store the bytes `image` as the thumbnail of a finished job."""
        (found,) = self.ledger.get([job_id])
        assert found
        assert self.thumbnails.put(job_id, b"image", found.fence)

    def make_key(self, *scopes: Scope, rate_limit: str = "") -> tuple[str, str]:
        """Create an API key; returns its id and its text."""
        stored, text = make_key("test", scopes, rate_limit)
        self.keys.put(stored)
        return stored.id, text

    def browse(self) -> FlaskClient:
        """Read all sources once; returns a client of the application."""
        self.reader.read()
        return create_app(self.services).test_client()


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(ledger: Ledger, clean_redis: str) -> MakeWorld:
    """Builds a dashboard: `make_world(access_required=True, limits=Limits(...))`."""

    def make(*, access_required: bool = False, secure_cookie: bool = False, limits: Limits | None = None) -> World:
        client = connect(clean_redis)
        thumbnails, keys, server, clock = ThumbnailStore(client, 60), KeyStore(client), FakeServer(), Clock()
        gateway = GatewayClient("http://gateway", server.transport)
        reader = Reader(
            ledger=ledger,
            ledger_max_bytes=10**12,
            thumbnails=thumbnails,
            metrics=ScrapeSource("http://gateway", server.transport),
            gateway=gateway,
            bundle=BundleReader(load_settings({"PAWQUEUE_MODEL": str(BUNDLE)})),
            mlflow=None,
            period_s=5.0,
            clock=clock,
            limits=limits or Limits(),
        )
        services = Services(
            reader,
            gateway,
            Access(keys, required=access_required),
            RateLimits(client, "1000 per minute"),
            OriginCheck([]),
            5.0,
            secure_cookie=secure_cookie,
        )
        return World(ledger, thumbnails, keys, server, services, clock)

    return make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A dashboard that requires no API key."""
    return make_world()
