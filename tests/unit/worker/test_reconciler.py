"""How lost jobs return to their queue, and which images are deleted."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.broker import MESSAGE_MAX_JOBS
from contract.errors import UnavailableError
from contract.images.store import FileImageStore
from contract.job import Job, JobStatus, new_job_id, now_ms
from contract.ledger.ledger import Ledger
from contract.queues import BULK, INTERACTIVE
from contract.submission import Submission
from tests.support.images import draw
from tests.support.ledger import store
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench, FaultyLedger, unavailable
from worker.upkeep.reconciler import Reconciler


class Messages:
    """Records messages instead of publishing them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []

    def publish(self, queue: str, job_ids: Sequence[str]) -> None:
        self.sent.append((queue, list(job_ids)))


@pytest.fixture
def messages() -> Messages:
    return Messages()


@pytest.fixture
def images(tmp_path: Path) -> FileImageStore:
    return FileImageStore(tmp_path / "images")


def reconciler_of(ledger: Ledger, images: FileImageStore, messages: Messages, **options: Any) -> Reconciler:
    values: dict[str, Any] = {
        "worker_id": "w",
        "sweep_s": 0.02,
        "grace_s": 0.0,
        "max_attempts": 3,
        "result_ttl_s": 60,
        "image_ttl_s": 60,
    } | options
    return Reconciler(ledger, images, messages.publish, lambda _queue: 0, **values)


def submit(ledger: Ledger, count: int = 1, queue: str = INTERACTIVE, image: str = "") -> list[str]:
    jobs = [Job(new_job_id(), queue, now_ms(), image=image) for _ in range(count)]
    store(ledger, jobs)
    return [job.id for job in jobs]


def test_jobs_without_a_message_are_published_in_messages_of_limited_size(
    ledger: FaultyLedger, images: FileImageStore, messages: Messages
) -> None:
    ids = submit(ledger, 40) + submit(ledger, 2, BULK)
    assert reconciler_of(ledger, images, messages).sweep() == 42
    assert sorted(job_id for _, sent in messages.sent for job_id in sent) == sorted(ids)
    assert [len(sent) for _, sent in messages.sent] == [MESSAGE_MAX_JOBS, 8, 2]
    assert [queue for queue, _ in messages.sent] == [INTERACTIVE, INTERACTIVE, BULK]


def test_only_the_leader_sweeps(ledger: FaultyLedger, images: FileImageStore, messages: Messages) -> None:
    submit(ledger)
    ledger.lead("another", 60_000)
    assert reconciler_of(ledger, images, messages).sweep() == 0
    assert not messages.sent


def test_discarded_images_are_deleted(ledger: FaultyLedger, images: FileImageStore, messages: Messages) -> None:
    ref = images.put(b"bytes")
    (job_id,) = submit(ledger, image=ref)
    ledger.cancel([job_id], 60)
    reconciler_of(ledger, images, messages).sweep()
    assert images.get([ref]) == [None]


def test_expired_images_are_deleted(ledger: FaultyLedger, messages: Messages, tmp_path: Path) -> None:
    images = FileImageStore(tmp_path)
    old, new = FileImageStore(tmp_path, clock=lambda: time.time() - 130).put(b"old"), images.put(b"new")
    reconciler_of(ledger, images, messages).sweep()
    assert images.get([old, new]) == [None, b"new"]


def test_sweeps_continue_after_an_outage_and_an_unexpected_error(
    ledger: FaultyLedger, images: FileImageStore, messages: Messages
) -> None:
    ledger.errors = {"lead": [unavailable(), RuntimeError("surprise")]}
    submit(ledger)
    reconciler = reconciler_of(ledger, images, messages)
    reconciler.start()
    wait_until(lambda: bool(messages.sent), "the job to be requeued", 10)
    reconciler.stop()


class TimedLedger(FaultyLedger):
    """Records when a worker tries to become the leader."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.times_s: list[float] = []

    def lead(self, *arguments: Any, **options: Any) -> Any:
        self.times_s.append(time.monotonic())
        return super().lead(*arguments, **options)


def test_workers_have_time_to_renew_their_leases_after_an_outage(
    ledger: FaultyLedger, images: FileImageStore, messages: Messages
) -> None:
    timed = TimedLedger(ledger.client)
    timed.errors = {"lead": [unavailable()]}
    reconciler = reconciler_of(timed, images, messages, sweep_s=0.01, grace_s=0.4)
    reconciler.start()
    wait_until(lambda: len(timed.times_s) > 4, "further sweeps", 10)
    reconciler.stop()
    after_outage, *later = [b - a for a, b in itertools.pairwise(timed.times_s)]
    assert after_outage >= 0.2
    assert min(later) < 0.2


def test_a_suspect_job_is_retried_alone(bench: Bench, messages: Messages) -> None:
    suspects = [bench.submit(draw()) for _ in range(3)]
    bench.ledger.begin([claim for claim in bench.ledger.claim(suspects, 1, 60, now_ms() - 1000) if claim])
    reconciler_of(bench.ledger, bench.images, messages).sweep()
    others = [bench.submit(draw()) for _ in range(5)]
    bench.process(*others, *suspects)
    assert all(bench.job(job_id).status is JobStatus.SUCCEEDED for job_id in suspects + others)
    assert [bench.job(job_id).result.batch_size for job_id in suspects] == [1, 1, 1]  # type: ignore[union-attr]
    assert [bench.job(job_id).attempts for job_id in suspects] == [2, 2, 2]


def test_an_interrupted_purge_is_completed(
    ledger: FaultyLedger, images: FileImageStore, messages: Messages, redis_client: "redis.Redis"
) -> None:
    submission = Submission(new_job_id(), BULK, now_ms(), name="Holiday")
    ledger.open_submission(submission, 60, 100)
    jobs = [Job(new_job_id(), BULK, now_ms(), image=images.put(b"bytes"), submission=submission.id) for _ in range(3)]
    store(ledger, jobs)
    ledger.purge_submission(submission.id, 1, 60)
    reconciler_of(ledger, images, messages, grace_s=60.0).sweep()
    assert sum(map(bool, ledger.get([job.id for job in jobs]))) == 2, "the purge may still be running"
    reconciler_of(ledger, images, messages).sweep()
    assert ledger.get([job.id for job in jobs]) == [None] * 3
    assert images.get([job.image for job in jobs]) == [None] * 3
    assert not [key for key in redis_client.scan_iter() if submission.id in key]


def test_images_stay_marked_for_deletion_until_the_store_has_deleted_them(
    ledger: FaultyLedger, images: FileImageStore, messages: Messages, tmp_path: Path
) -> None:
    blocked, others = "0" * 32, images.put_many([b"bytes"] * 1000)
    ledger.discard([blocked, *others])  # one more than a sweep deletes
    path = tmp_path / "images" / blocked[:2] / blocked
    path.mkdir(parents=True)  # cannot be deleted like a file
    reconciler = reconciler_of(ledger, images, messages)
    with pytest.raises(UnavailableError):
        reconciler.sweep()
    assert images.get(others[:-1]) == [None] * 999
    with pytest.raises(UnavailableError):
        reconciler.sweep()
    assert images.get(others[-1:]) == [None], "an image that cannot be deleted does not block the others"
    path.rmdir()
    path.write_bytes(b"bytes")
    for _ in range(2):
        reconciler.sweep()
    assert images.get([blocked]) == [None]
    assert ledger.discarded(10) == []
