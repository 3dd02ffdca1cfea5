"""Images that are costly to decode delay no others, and are neither lost nor held in memory."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bundle.decode import DecodedImage, decode
from contract.images.store import FileImageStore
from contract.job import JobStatus
from contract.ledger import keys
from contract.queues import BULK
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench
from worker.pipeline.guard import Guard, StoppedError

CHEAP, COSTLY = draw(), draw(form="TIFF")


class HeldGuard(Guard):
    """Decodes in this process, but only while `allowed` permits."""

    def __init__(self) -> None:
        super().__init__(60, 1000)
        self.entered, self.allowed = threading.Semaphore(0), threading.Semaphore(0)
        self._stopped = False

    def decode(self, data: bytes, height: int, width: int, *rules: Any) -> DecodedImage:
        self.entered.release()
        assert self.allowed.acquire(timeout=60)
        if self._stopped:
            raise StoppedError
        return decode(data, height, width)

    def allow(self, count: int = 1000) -> None:
        self.allowed.release(count)

    def stop(self) -> None:
        self._stopped = True
        super().stop()


class CountingStore(FileImageStore):
    """Records how many images were read."""

    reads = 0

    def get(self, refs: Sequence[str]) -> list[bytes | None]:
        self.reads += len(refs)
        return super().get(refs)


@pytest.fixture
def guard() -> Iterator[HeldGuard]:
    guard = HeldGuard()
    yield guard
    guard.allow()


@pytest.fixture
def held(make_bench: Callable[..., Bench], guard: HeldGuard) -> Bench:
    return make_bench(guard=guard)


def test_an_interactive_image_does_not_wait_for_costly_bulk_images(held: Bench, guard: HeldGuard) -> None:
    bulk = [held.submit(COSTLY, BULK) for _ in range(20)]
    held.process(*bulk)
    assert guard.entered.acquire(timeout=60)
    interactive = held.submit(CHEAP)
    held.process(interactive)
    assert held.job(interactive).status is JobStatus.SUCCEEDED
    assert not any(held.job(job_id).result for job_id in bulk)
    guard.allow()
    held.wait_finished(*bulk)
    assert all(held.job(job_id).status is JobStatus.SUCCEEDED for job_id in bulk)


def test_a_costly_image_does_not_delay_the_cheap_ones(held: Bench, guard: HeldGuard) -> None:
    costly, cheap = held.submit(COSTLY), held.submit(CHEAP)
    held.process(costly, cheap)
    assert [held.job(job_id).status for job_id in (costly, cheap)] == [JobStatus.RUNNING, JobStatus.SUCCEEDED]
    assert [claim.job.id for claim in held.worker.leases.held()] == [costly]


def test_costly_interactive_images_come_before_bulk_ones(held: Bench, guard: HeldGuard) -> None:
    first = [held.submit(COSTLY, BULK) for _ in range(2)]
    held.process(*first)
    for _ in first:
        assert guard.entered.acquire(timeout=60)
    bulk, interactive = held.submit(COSTLY, BULK), held.submit(COSTLY)
    held.process(bulk)
    held.process(interactive)
    guard.allow(1)
    assert guard.entered.acquire(timeout=60)
    wait_until(lambda: held.job(interactive).attempts == 1, "the interactive image to be decoded", 20)
    assert held.job(bulk).attempts == 0


def test_a_waiting_image_counts_no_attempt_and_is_not_in_memory(
    make_bench: Callable[..., Bench], guard: HeldGuard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    images = CountingStore(tmp_path_factory.mktemp("counted"))
    held = make_bench(guard=guard, images=images)
    held.images = images  # type: ignore[assignment]
    ids = [held.submit(COSTLY, size_bytes=19_000_000) for _ in range(10)]
    held.process(*ids)
    for _ in range(2):
        assert guard.entered.acquire(timeout=60)
    assert images.reads == 2
    assert sorted(held.job(job_id).attempts for job_id in ids) == [0] * 8 + [1] * 2
    guard.allow()
    held.wait_finished(*ids)
    assert all(held.job(job_id).attempts == 1 for job_id in ids)


def test_a_worker_with_many_costly_jobs_of_a_queue_claims_no_more_of_them(held: Bench, guard: HeldGuard) -> None:
    ids = [held.submit(COSTLY, BULK) for _ in range(70)]
    serving = threading.Thread(target=held.process, args=ids)
    serving.start()
    read = held.ledger.stats
    wait_until(lambda: read([BULK]).queues[BULK].running == 64, "the worker to claim 64 jobs", 20)
    interactive = held.submit(CHEAP)
    held.wait_finished(interactive)
    assert read([BULK]).queues[BULK].queued == 6
    guard.allow()
    held.wait_finished(*ids)
    serving.join(20)
    assert not serving.is_alive()


def test_a_suspect_job_is_decoded_alone_even_if_it_is_costly(held: Bench, guard: HeldGuard) -> None:
    suspect = held.submit(COSTLY)
    held.ledger.client.hset(keys.job(suspect), "alone", "1")
    message = threading.Thread(target=held.process, args=[suspect])
    message.start()
    assert guard.entered.acquire(timeout=60)
    assert message.is_alive()
    guard.allow()
    message.join(30)
    assert held.job(suspect).status is JobStatus.SUCCEEDED


def test_a_stopping_worker_keeps_the_leases_of_costly_jobs_that_wait(held: Bench, guard: HeldGuard) -> None:
    ids = [held.submit(COSTLY) for _ in range(5)]
    held.process(*ids)
    for _ in range(2):
        assert guard.entered.acquire(timeout=60)
    stopping = threading.Thread(target=held.worker.pipeline.costly.stop)
    stopping.start()
    guard.allow()
    stopping.join(30)
    waiting = [job_id for job_id in ids if held.job(job_id).attempts == 0]
    assert len(waiting) == 3
    claims = [claim for claim in held.worker.leases.held() if claim.job.id in waiting]
    assert held.ledger.release(claims) == [True] * 3
