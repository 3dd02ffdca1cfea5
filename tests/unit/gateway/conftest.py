"""A gateway on memory: real application, committer and waiters; ledger and image store are the fakes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from flask.testing import FlaskClient

from contract.access import Access
from contract.broker import QUEUES
from contract.images.store import ImageStore
from contract.job import Features, Job, JobResult, ModelRef, Prediction, Timings
from contract.ledger.types import Heartbeat, QueueLimits
from contract.settings import load_settings
from gateway.app import create_app
from gateway.committer import GroupCommitter
from gateway.dead import DeadLetters
from gateway.guard import Guard
from gateway.intake import Intake
from gateway.load import LoadMeter
from gateway.metrics import GatewayMetrics
from gateway.services import Services
from gateway.submissions import Submissions
from gateway.submit import Submitter
from gateway.uploads import UploadLimits
from gateway.waiters import Waiters
from tests.support.twin.ledger_memory import MemoryLedger
from tests.support.twin.stores import MemoryImageStore, MemoryKeyStore


@dataclass
class Gateway:
    """The application's parts, for tests to look at and to play the worker."""

    client: FlaskClient
    ledger: MemoryLedger
    images: MemoryImageStore
    load: LoadMeter | None = None
    keys: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    #: Messages put into queues: (queue, job ids).
    published: list[tuple[str, list[str]]] = field(default_factory=list)
    #: When set, publishing raises it.
    broken: Exception | None = None
    #: When true, every published job ends at once as a cat.
    answers: bool = False

    def publish(self, queue: str, job_ids: Sequence[str]) -> None:
        if self.broken:
            raise self.broken
        self.published.append((queue, list(job_ids)))
        if self.answers:
            self.end(list(job_ids), cat())

    def end(self, job_ids: list[str], result: JobResult) -> None:
        claims = [claim for claim in self.ledger.claim(job_ids, 10_000, 60) if claim]
        self.ledger.commit([(claim, result) for claim in claims], 60)

    def job(self, job_id: str) -> Job:
        (job,) = self.ledger.get([job_id])
        assert job
        return job

    def serve_model(self) -> None:
        self.ledger.beat(Heartbeat("w", "h", "cats-dogs", "1", ["cat", "dog"], "fake", "float32", 0, "", 0, 0), 60_000)


def cat() -> JobResult:
    return JobResult(
        prediction=Prediction("cat", 0.75, {"cat": 0.75, "dog": 0.25}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=1,
        timings=Timings(1, 2, 3, 4),
        features=Features(40, 30, 0.5, 0.2),
    )


@pytest.fixture
def gateway() -> Gateway:
    return make_gateway()


@pytest.fixture(scope="session")
def _shared() -> Gateway:
    return make_gateway()


@pytest.fixture
def refusing(_shared: Gateway) -> Iterator[Gateway]:
    """A gateway that is asked for nothing it would do: tests share it, and it is left as it was."""
    yield _shared
    assert not _shared.published
    assert not _shared.images._images
    assert not any(queue.queued for queue in _shared.ledger.stats(QUEUES).queues.values())


@pytest.fixture(scope="session")
def asking() -> Gateway:
    """A gateway that asks for API keys, for tests that only read what it tells everybody."""
    return make_gateway(access="required")


def make_gateway(images: ImageStore | None = None, **changes: str) -> Gateway:
    """A gateway whose settings are those of the tests, with `changes`."""
    chosen = {"upload_max_bytes": "100000", "queue_max_jobs": "50", "predict_wait_s": "5"} | changes
    settings = load_settings({f"PAWQUEUE_{name.upper()}": value for name, value in chosen.items()})
    ledger, memory = MemoryLedger(), MemoryImageStore()
    images = images or memory
    gateway = Gateway(FlaskClient.__new__(FlaskClient), ledger, memory)
    load = LoadMeter(ledger, settings.ledger_max_bytes)
    limits = QueueLimits(settings.queue_max_jobs, settings.queue_max_bytes, settings.queue_share)
    committer = GroupCommitter(ledger, gateway.publish, load, limits, group_max_jobs=32)
    waiters = Waiters(ledger)
    committer.start()
    waiters.start()
    gateway.load = load
    upload_limits = UploadLimits(settings.upload_max_bytes, settings.upload_max_pixels)
    submitter = Submitter(images, committer, waiters, load, upload_limits)
    access = Access(gateway.keys, required=settings.access_is_required())
    guard = Guard(access, "memory://", settings.rate_limit)
    dead = DeadLetters(ledger, committer)
    submissions = Submissions(ledger, waiters, settings.result_ttl_s)
    intake = Intake(images, ledger, gateway.publish, load, limits, upload_limits, settings.result_ttl_s)
    metrics = GatewayMetrics(ledger, settings.ledger_max_bytes)
    services = Services(settings, ledger, submitter, waiters, load, dead, metrics, guard, submissions, intake)
    gateway.client = create_app(services).test_client()
    return gateway
