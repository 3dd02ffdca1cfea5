"""A worker's pipeline on memory: real threads; ledger, image store and model are the fakes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.broker import INTERACTIVE
from contract.job import Job, new_job_id, now_ms
from tests.support.ledger import store
from tests.support.twin.ledger_memory import MemoryLedger
from tests.support.twin.stores import MemoryImageStore
from worker.app import heartbeat_of
from worker.batcher import Batcher
from worker.committer import ResultCommitter
from worker.decoding import DecodeWatch
from worker.gate import Gate
from worker.leases import LeaseKeeper
from worker.message import Item
from worker.metrics import WorkerMetrics
from worker.model import BrightnessModel
from worker.pipeline import Pipeline
from worker.predictor import Predictor
from worker.turnstile import Turnstile

BATCH_SIZE = 4


class WatchedModel(BrightnessModel):
    """The fake model, which remembers its batches and fails on request."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        #: Fails on images at least this bright, 0..255.
        self.fails_from = 256
        self.answer_shape: tuple[int, ...] | None = None

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(pixels))
        if pixels.mean(axis=(1, 2, 3)).max() >= self.fails_from:
            raise RuntimeError("too bright")
        if self.answer_shape:
            return np.zeros(self.answer_shape, np.float32)
        return super().predict(pixels)


@dataclass
class Bench:
    """A pipeline and its parts."""

    pipeline: Pipeline
    ledger: MemoryLedger
    images: MemoryImageStore
    model: WatchedModel
    metrics: WorkerMetrics
    jobs: list[str] = field(default_factory=list)

    def submit(self, data: bytes, queue: str = INTERACTIVE) -> str:
        job = Job(new_job_id(), queue, now_ms(), image=self.images.put(data))
        store(self.ledger, [job], 1000)
        return job.id

    def job(self, job_id: str) -> Job:
        (job,) = self.ledger.get([job_id])
        assert job
        return job


@pytest.fixture
def bench() -> Iterator[Bench]:
    ledger, images, model, metrics = MemoryLedger(), MemoryImageStore(), WatchedModel(), WorkerMetrics(BATCH_SIZE)
    batcher: Batcher[Item] = Batcher(BATCH_SIZE, wait_s=5)
    leases = LeaseKeeper(ledger, 10, heartbeat_of(model, "w", "", lambda: 0.0))
    committer = ResultCommitter(ledger, images, leases, metrics, 60)
    predictor = Predictor(model, batcher, committer, metrics)
    pipeline = Pipeline(
        ledger=ledger,
        images=images,
        leases=leases,
        committer=committer,
        predictor=predictor,
        gate=Gate(2 * BATCH_SIZE),
        turnstile=Turnstile(),
        decoders=ThreadPoolExecutor(2),
        decoding=DecodeWatch(2),
        input_size=(model.height, model.width),
        lease_s=10,
        result_ttl_s=60,
    )
    pipeline.start()
    yield Bench(pipeline, ledger, images, model, metrics)
    pipeline.stop()
