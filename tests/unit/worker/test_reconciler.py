"""How lost jobs return to their queue, and which images are deleted."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.errors import UnavailableError
from contract.images.store import FileImageStore
from contract.job import Job, JobStatus, new_job_id, now_ms
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.reviews import ReviewLimits
from contract.queues import BULK, INTERACTIVE
from contract.submission import Submission
from tests.support.images import draw
from tests.support.ledger import store
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench, FaultyLedger, unavailable
from worker.upkeep.reconciler import Reconciler


@pytest.fixture
def images(tmp_path: Path) -> FileImageStore:
    return FileImageStore(tmp_path / "images")


def reconciler_of(ledger: Ledger, images: FileImageStore, **options: Any) -> Reconciler:
    values: dict[str, Any] = {
        "worker_id": "w",
        "sweep_s": 0.02,
        "grace_s": 0.0,
        "max_attempts": 3,
        "result_ttl_s": 60,
        "image_ttl_s": 60,
    } | options
    return Reconciler(ledger, images, None, ReviewLimits(60, 10, 10_000), **values)


def submit(ledger: Ledger, count: int = 1, queue: str = INTERACTIVE, image: str = "") -> list[str]:
    jobs = [Job(new_job_id(), queue, now_ms(), image=image) for _ in range(count)]
    store(ledger, jobs)
    return [job.id for job in jobs]


def has_ticket(ledger: FaultyLedger) -> bool:
    return bool(ledger.client.exists(keys.TICKETS + INTERACTIVE))


def lose_job(ledger: FaultyLedger) -> None:
    """Submit a job whose worker dies, and lose its ticket."""
    submit(ledger)
    ledger.claim({INTERACTIVE: 1}, 1, 60, now_ms() - 1000)
    ledger.client.delete(keys.TICKETS + INTERACTIVE)


def test_lost_jobs_are_requeued_with_a_ticket(ledger: FaultyLedger, images: FileImageStore) -> None:
    lose_job(ledger)
    assert reconciler_of(ledger, images).sweep() == 1
    assert has_ticket(ledger)


def test_only_the_leader_sweeps(ledger: FaultyLedger, images: FileImageStore) -> None:
    lose_job(ledger)
    ledger.lead("another", 60_000)
    assert reconciler_of(ledger, images).sweep() == 0
    assert not has_ticket(ledger)


def test_discarded_images_are_deleted(ledger: FaultyLedger, images: FileImageStore) -> None:
    ref = images.put(b"bytes")
    (job_id,) = submit(ledger, image=ref)
    ledger.cancel([job_id], 60)
    reconciler_of(ledger, images).sweep()
    assert images.get([ref]) == [None]


def test_expired_images_are_deleted(ledger: FaultyLedger, tmp_path: Path) -> None:
    images = FileImageStore(tmp_path)
    old, new = FileImageStore(tmp_path, clock=lambda: time.time() - 130).put(b"old"), images.put(b"new")
    reconciler_of(ledger, images).sweep()
    assert images.get([old, new]) == [None, b"new"]


def test_sweeps_continue_after_an_outage_and_an_unexpected_error(
    ledger: FaultyLedger,
    images: FileImageStore,
) -> None:
    ledger.errors = {"lead": [unavailable(), RuntimeError("surprise")]}
    lose_job(ledger)
    reconciler = reconciler_of(ledger, images)
    reconciler.start()
    wait_until(lambda: has_ticket(ledger), "the job to be requeued", 10)
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
    ledger: FaultyLedger,
    images: FileImageStore,
) -> None:
    timed = TimedLedger(ledger.client)
    timed.errors = {"lead": [unavailable()]}
    reconciler = reconciler_of(timed, images, sweep_s=0.01, grace_s=0.4)
    reconciler.start()
    wait_until(lambda: len(timed.times_s) > 4, "further sweeps", 10)
    reconciler.stop()
    after_outage, *later = [b - a for a, b in itertools.pairwise(timed.times_s)]
    assert after_outage >= 0.2
    assert min(later) < 0.2


def test_a_suspect_job_is_retried_alone(bench: Bench) -> None:
    suspects = [bench.submit(draw()) for _ in range(3)]
    bench.ledger.claim({INTERACTIVE: 3}, 1, 60, now_ms() - 1000)
    reconciler_of(bench.ledger, bench.images).sweep()
    others = [bench.submit(draw()) for _ in range(5)]
    bench.process(*others, *suspects)
    assert all(bench.job(job_id).status is JobStatus.SUCCEEDED for job_id in suspects + others)
    assert [bench.job(job_id).result.batch_size for job_id in suspects] == [1, 1, 1]  # type: ignore[union-attr]
    assert [bench.job(job_id).attempts for job_id in suspects] == [2, 2, 2]


def test_an_interrupted_purge_is_completed(
    ledger: FaultyLedger, images: FileImageStore, redis_client: "redis.Redis"
) -> None:
    submission = Submission(new_job_id(), BULK, now_ms(), name="Holiday")
    ledger.open_submission(submission, 60, 100)
    jobs = [Job(new_job_id(), BULK, now_ms(), image=images.put(b"bytes"), submission=submission.id) for _ in range(3)]
    store(ledger, jobs)
    ledger.purge_submission(submission.id, 1, 60)
    reconciler_of(ledger, images, grace_s=60.0).sweep()
    assert sum(map(bool, ledger.get([job.id for job in jobs]))) == 2, "the purge may still be running"
    reconciler_of(ledger, images).sweep()
    assert ledger.get([job.id for job in jobs]) == [None] * 3
    assert images.get([job.image for job in jobs]) == [None] * 3
    assert not [key for key in redis_client.scan_iter() if submission.id in key]


def test_images_stay_marked_for_deletion_until_the_store_has_deleted_them(
    ledger: FaultyLedger, images: FileImageStore, tmp_path: Path
) -> None:
    blocked, others = "0" * 32, images.put_many([b"bytes"] * 1000)
    ledger.discard([blocked, *others])  # one more than a sweep deletes
    path = tmp_path / "images" / blocked[:2] / blocked
    path.mkdir(parents=True)  # cannot be deleted like a file
    reconciler = reconciler_of(ledger, images)
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
