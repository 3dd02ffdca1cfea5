"""A gateway in the test process: the real application with a real Redis, and a ledger that records new jobs.

There is no worker: tests claim and finish jobs in the ledger.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from flask.testing import FlaskClient
from prometheus_client import generate_latest
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.test import TestResponse

from contract.access import KeyStore
from contract.errors import UnavailableError
from contract.images.store import FileImageStore
from contract.job import Features, Job, JobResult, ModelRef, Prediction, Timings
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat, QueueLimits, Receipt, Submit
from contract.queues import QUEUES
from contract.settings import load_settings
from gateway.app import create_app
from gateway.services import Services, build_services
from tests.support.images import stored_images
from tests.support.ledger import claim_jobs

_SETTINGS = {"upload_max_bytes": "100000", "queue_max_jobs": "50", "predict_wait_s": "5"}


class HookedLedger(Ledger):
    """A ledger with hooks. A hook runs before the method of the same name: to fail, to block, or to count calls.

    `on_new_jobs` is called with the ids of new jobs of a queue after they have been stored.
    """

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__(client)
        self.hooks: dict[str, Callable[[], Any]] = {}
        self.on_new_jobs: Callable[[list[str]], object] = lambda _: None
        #: New jobs by write: (queue, job ids).
        self.new_jobs: list[tuple[str, list[str]]] = []

    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        self._hook("submit")
        receipts = super().submit(submits, limits)
        new: dict[str, list[str]] = {}
        for submit, receipt in zip(submits, receipts, strict=True):
            if receipt.is_new:
                new.setdefault(submit.job.queue_name, []).append(receipt.job_id)
        for queue, job_ids in new.items():
            self.on_new_jobs(job_ids)
            self.new_jobs.append((queue, job_ids))
        return receipts

    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        self._hook("get")
        return super().get(job_ids)

    def remove_dead(self, job_id: str, retried_as: str = "") -> str | None:
        self._hook("remove_dead")
        return super().remove_dead(job_id, retried_as)

    def ping(self) -> None:
        self._hook("ping")
        super().ping()

    def stats(self, *arguments: Any) -> Any:
        self._hook("stats")
        return super().stats(*arguments)

    def workers(self, *arguments: Any) -> list[Heartbeat]:
        self._hook("workers")
        return super().workers(*arguments)

    def _hook(self, name: str) -> None:
        if hook := self.hooks.get(name):
            hook()


@dataclass
class Gateway:
    """The application and its parts."""

    client: FlaskClient
    services: Services
    ledger: HookedLedger
    images: FileImageStore
    image_folder: Path
    keys: KeyStore

    @property
    def new_jobs(self) -> list[tuple[str, list[str]]]:
        """New jobs by write: (queue, job ids)."""
        return self.ledger.new_jobs

    def image_count(self) -> int:
        """Number of stored images of up to 4096 bytes."""
        return len(stored_images(self.image_folder))

    def image_of(self, job: Job) -> bytes | None:
        """The stored image of a job."""
        return self.images.get([job.image])[0]

    def finish(self, job_ids: list[str], result: JobResult | None = None) -> None:
        """Finish jobs as a worker does."""
        claims = [claim for claim in claim_jobs(self.ledger, job_ids, 10_000, 60) if claim]
        self.ledger.commit([(claim, result or cat()) for claim in claims], 60)

    def finish_new_jobs(self, result: JobResult | None = None) -> None:
        """Finish every job as soon as it is stored."""
        self.ledger.on_new_jobs = lambda job_ids: self.finish(job_ids, result)

    def job(self, job_id: str) -> Job:
        """Read a job."""
        (job,) = self.ledger.get([job_id])
        assert job
        return job

    def metrics(self) -> str:
        """The metrics as Prometheus reads them."""
        return str(generate_latest(self.services.metrics.registry).decode())

    def serve_model(self) -> None:
        """Store the heartbeat of a worker."""
        self.ledger.beat(Heartbeat("w", "h", "cats-dogs", "1", ["cat", "dog"], "fake", "float32", 0, "", 0, 0), 60_000)


def cat() -> JobResult:
    """The result of a job whose image shows a cat."""
    return JobResult(
        prediction=Prediction("cat", 0.75, {"cat": 0.75, "dog": 0.25}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=1,
        timings=Timings(1, 2, 3, 4),
        features=Features(40, 30, 0.5, 0.2),
    )


def upload(gateway: Gateway, data: bytes, name: str = "cat.png", query: str = "", **headers: str) -> TestResponse:
    """Upload an image in a form."""
    return gateway.client.post(f"/v1/jobs{query}", data={"file": (io.BytesIO(data), name)}, headers=headers)


def assert_problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Check that the response is a problem with this status and code, and return its body."""
    body = response.get_json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert response.mimetype == "application/problem+json"
    assert body["detail"].endswith(".")
    return dict(body)


@contextmanager
def running_gateway(
    redis_url: str, folder: Path, clock: Callable[[], float] | None = None, **changes: str
) -> Iterator[Gateway]:
    """A gateway with the settings of these tests, overridden by `changes`."""
    state = folder.with_name(f"{folder.name}-state")
    chosen = _SETTINGS | {"redis_url": redis_url, "state_dir": str(state)} | changes
    settings = load_settings({f"PAWQUEUE_{name.upper()}": value for name, value in chosen.items()})
    # A long timeout, for busy machines.
    client = redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=60, retry=Retry(NoBackoff(), 0))
    ledger, images = HookedLedger(client), FileImageStore(folder)
    parts: dict[str, Any] = {"clock": clock} if clock else {}
    services = build_services(settings, client=client, ledger=ledger, images=images, **parts)
    flask_client = create_app(services).test_client()
    try:
        yield Gateway(flask_client, services, ledger, images, folder, KeyStore(client))
    finally:
        services.close()


def unavailable(*_: object) -> None:
    """A hook for the ledger during an outage."""
    raise UnavailableError("Redis does not respond.")


class MakeGateway(Protocol):
    """Creates a gateway with changed settings."""

    def __call__(self, clock: Callable[[], float] | None = None, **changes: str) -> Gateway: ...


@pytest.fixture
def gateway(clean_redis: str, tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(clean_redis, tmp_path / "images") as started:
        yield started


@pytest.fixture
def make_gateway(clean_redis: str, tmp_path: Path) -> Iterator[MakeGateway]:
    with ExitStack() as stack:
        numbers = count()

        def make(clock: Callable[[], float] | None = None, **changes: str) -> Gateway:
            folder = tmp_path / f"images-{next(numbers)}"
            return stack.enter_context(running_gateway(clean_redis, folder, clock, **changes))

        yield make


@pytest.fixture(scope="session")
def session_gateway(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(redis_url, tmp_path_factory.mktemp("shared")) as started:
        yield started


@pytest.fixture
def shared_gateway(session_gateway: Gateway) -> Iterator[Gateway]:
    """A gateway that tests share. Checks that none of their images was accepted."""
    yield session_gateway
    assert not session_gateway.new_jobs
    assert not session_gateway.image_count()
    assert not any(queue.queued for queue in session_gateway.ledger.stats(QUEUES).queues.values())


@pytest.fixture(scope="session")
def guarded_gateway(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that requires API keys, for tests that only read open endpoints."""
    with running_gateway(redis_url, tmp_path_factory.mktemp("guarded"), access="required") as started:
        yield started
