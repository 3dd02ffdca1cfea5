"""A worker on a real Redis and a folder of images; only its model is a fake."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.manifest import Outputs
from contract.errors import UnavailableError
from contract.images.store import FileImageStore
from contract.job import Job, JobStatus, new_job_id, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat
from contract.queues import INTERACTIVE
from contract.settings import load_settings
from tests.support.brightness import BrightnessModel
from tests.support.ledger import patient_client, store
from tests.support.services import wait_until
from worker.app import build_worker
from worker.process import Worker
from worker.upkeep.metrics import WorkerMetrics

BATCH_SIZE = 4


class WatchedModel(BrightnessModel):
    """Records batch sizes; can fail, return a wrong shape, or call a function during a prediction."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        #: Predicting an image at least this bright, 0..255, raises an error.
        self.fails_from = 256
        self.output_shape: tuple[int, ...] | None = None
        #: Familiarity of every image; None if the model cannot tell.
        self.familiarity: float | None = None
        self.during_call: Callable[[], object] = lambda: None

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        self.batches.append(len(pixels))
        self.during_call()
        if pixels.mean(axis=(1, 2, 3)).max() >= self.fails_from:
            raise RuntimeError("too bright")
        if self.output_shape:
            return Outputs(np.zeros(self.output_shape, np.float32))
        familiarity = None if self.familiarity is None else np.full(len(pixels), self.familiarity, np.float32)
        return super().predict(pixels)._replace(familiarity=familiarity)


class FaultyLedger(Ledger):
    """A ledger whose methods raise the errors planned by a test, one per call."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.client = client
        #: Errors that are still to be raised, by method name.
        self.errors: dict[str, list[Exception]] = {}
        #: Number of calls so far, by method name.
        self.calls: dict[str, int] = {}

    def claim(self, *arguments: Any, **options: Any) -> Any:
        return self._call("claim", *arguments, **options)

    def commit(self, *arguments: Any, **options: Any) -> Any:
        return self._call("commit", *arguments, **options)

    def beat(self, *arguments: Any, **options: Any) -> Any:
        return self._call("beat", *arguments, **options)

    def lead(self, *arguments: Any, **options: Any) -> Any:
        return self._call("lead", *arguments, **options)

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        if planned := self.errors.get(name):
            raise planned.pop(0)
        return getattr(super(), name)(*arguments, **options)


def unavailable() -> UnavailableError:
    return UnavailableError("The ledger does not respond. Try again later.")


class FaultyImageStore(FileImageStore):
    """A folder of images whose reads can fail."""

    fails = False

    def get(self, refs: Any) -> Any:
        if self.fails:
            raise RuntimeError("surprise")
        return super().get(refs)


@pytest.fixture
def ledger(clean_redis: str) -> Iterator[FaultyLedger]:
    with patient_client(clean_redis) as client:
        yield FaultyLedger(client)


def heartbeat() -> Heartbeat:
    """A heartbeat of the worker `w`."""
    return Heartbeat("w", "host", "brightness", "1", [], "numpy", "float32", 0.0, "http://x/metrics", now_ms(), 0)


@dataclass
class Bench:
    """A worker without Celery: tests call its pipeline directly."""

    worker: Worker
    ledger: FaultyLedger
    images: FaultyImageStore
    folder: Path
    model: WatchedModel
    metrics: WorkerMetrics

    def submit(self, data: bytes, queue: str = INTERACTIVE, **fields: Any) -> str:
        job = Job(new_job_id(), queue, now_ms(), image=self.images.put(data), **fields)
        store(self.ledger, [job])
        return job.id

    def process(self, *job_ids: str) -> None:
        """Process all waiting jobs; `job_ids` must be among them."""
        self.worker.pipeline.serve()
        assert all(job.status is not JobStatus.QUEUED for job in self.ledger.get(job_ids) if job)

    def wait_finished(self, *job_ids: str) -> None:
        """Wait for jobs whose image is costly to decode; `process` does not wait for them."""
        wait_until(lambda: all(job.result for job in map(self.job, job_ids)), "the jobs to finish", 60)

    def job(self, job_id: str) -> Job:
        (job,) = self.ledger.get([job_id])
        assert job
        return job

    def error_of(self, job_id: str) -> Any:
        result = self.job(job_id).result
        assert result
        assert result.error
        return result.error


@pytest.fixture
def make_bench(clean_redis: str, ledger: FaultyLedger, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Creates benches. `parts` replace parts of `build_worker`; `decode_limit_s` and `review_below` are settings."""
    with ExitStack() as running, patient_client(clean_redis) as client:

        def make(decode_limit_s: float = 30.0, review_below: float = 0.0, **parts: Any) -> Bench:
            folder = tmp_path / "images"
            environ = {
                "PAWQUEUE_REDIS_URL": clean_redis,
                "PAWQUEUE_STATE_DIR": str(tmp_path / "state"),
                "PAWQUEUE_BATCH_SIZE": str(BATCH_SIZE),
                "PAWQUEUE_BATCH_WAIT_MS": "5000",
                "PAWQUEUE_DECODE_LIMIT_S": str(decode_limit_s),
                "PAWQUEUE_IMAGE_STORE_URL": str(folder),
                "PAWQUEUE_REVIEW_BELOW": str(review_below),
            }
            images, model, metrics = FaultyImageStore(folder), WatchedModel(), WorkerMetrics(BATCH_SIZE)
            parts = {"client": client, "ledger": ledger, "images": images, "metrics": metrics} | parts
            worker = build_worker(load_settings(environ), model, **parts)  # type: ignore[arg-type]
            worker.pipeline.start()
            running.callback(worker.pipeline.stop)
            return Bench(worker, ledger, images, folder, model, metrics)

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
