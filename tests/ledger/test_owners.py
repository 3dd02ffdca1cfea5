"""Jobs of several owners in one ledger: shares of a queue, and ids that belong to another owner."""

from dataclasses import replace

import redis

from contract.job import Job, JobError, JobResult, JobStatus, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Receipt, Submit, SubmitStatus
from contract.queues import BULK, INTERACTIVE
from contract.submission import Submission
from tests.support.ledger import NOW, cat, claimed, make_job, read, store

_HOUR_MS = 3_600_000


def owned(owner: str, queue: str = INTERACTIVE) -> Job:
    return replace(make_job(queue), owner=owner)


def test_the_owner_is_stored(ledger: Ledger) -> None:
    job = owned("ada")
    assert store(ledger, [job], QueueLimits(10, 1000)) == [SubmitStatus.STORED]
    assert read(ledger, job).owner == "ada"
    assert claimed(ledger, job).job.owner == "ada"


def test_an_owner_may_fill_only_a_share_of_the_jobs_in_a_queue(ledger: Ledger) -> None:
    limits = QueueLimits(6, 1000, owner_share=0.5)
    jobs = [owned("ada") for _ in range(4)]
    assert store(ledger, jobs, limits) == [SubmitStatus.STORED] * 3 + [SubmitStatus.SHARE_FULL]
    assert ledger.get([jobs[3].id]) == [None]
    assert store(ledger, [owned("ada", BULK), owned("bob"), owned("")], limits) == [SubmitStatus.STORED] * 3
    assert store(ledger, [owned("bob")], QueueLimits(5, 1000, 0.5)) == [SubmitStatus.FULL]


def test_an_owner_may_fill_only_a_share_of_the_bytes_in_a_queue(ledger: Ledger) -> None:
    limits = QueueLimits(100, 30, owner_share=0.5)  # 15 bytes: two jobs of 7
    assert store(ledger, [owned("ada") for _ in range(3)], limits) == [SubmitStatus.STORED] * 2 + [
        SubmitStatus.SHARE_FULL
    ]
    assert store(ledger, [owned("bob")], limits) == [SubmitStatus.STORED]


def test_the_share_does_not_apply_to_jobs_without_an_owner(ledger: Ledger) -> None:
    limits = QueueLimits(4, 1000, owner_share=0.5)
    assert store(ledger, [owned("") for _ in range(5)], limits) == [SubmitStatus.STORED] * 4 + [SubmitStatus.FULL]


def test_the_share_is_released_when_jobs_leave_the_queue(ledger: Ledger) -> None:
    limits = QueueLimits(4, 1000, owner_share=0.5)
    first, second, third = (owned("ada") for _ in range(3))
    assert store(ledger, [first, second, third], limits) == [SubmitStatus.STORED] * 2 + [SubmitStatus.SHARE_FULL]
    claim = claimed(ledger, first)
    assert store(ledger, [third], limits) == [SubmitStatus.STORED]
    ledger.release([claim])  # three jobs wait now, one more than the share
    assert store(ledger, [owned("ada")], limits) == [SubmitStatus.SHARE_FULL]
    ledger.cancel([second.id, third.id], 60)
    ledger.commit([(claimed(ledger, first), cat())], 60)
    assert store(ledger, [owned("ada"), owned("ada"), owned("ada")], limits)[:2] == [SubmitStatus.STORED] * 2


def test_a_share_allows_at_least_one_job(ledger: Ledger) -> None:
    limits = QueueLimits(10, 1000, owner_share=0.01)
    assert store(ledger, [owned("ada"), owned("ada")], limits) == [SubmitStatus.STORED, SubmitStatus.SHARE_FULL]
    assert limits.owner_max_bytes == 10


def test_a_job_whose_id_another_owner_uses_is_stored_under_its_own_id(ledger: Ledger) -> None:
    limits, job, own_id = QueueLimits(10, 1000), owned("ada"), new_job_id()
    mine = Submit(replace(owned("bob"), id=job.id), "", "print", own_id)
    assert ledger.submit([Submit(job, "", "other print")], limits) == [Receipt(SubmitStatus.STORED, job.id)]
    assert ledger.submit([mine], limits) == [Receipt(SubmitStatus.STORED, own_id)]
    ledger.purge([job.id], 60)
    assert ledger.submit([mine], limits) == [Receipt(SubmitStatus.REPEATED, own_id)]  # also when the id is free again
    assert [job and job.owner for job in ledger.get([job.id, own_id])] == [None, "bob"]


def test_the_id_of_another_owners_job_is_rejected_as_taken(ledger: Ledger) -> None:
    limits, job = QueueLimits(10, 1000), owned("ada")
    assert ledger.submit([Submit(job, "", "print")], limits) == [Receipt(SubmitStatus.STORED, job.id)]
    assert ledger.submit([Submit(job, "", "print")], limits) == [Receipt(SubmitStatus.REPEATED, job.id)]
    for owner in ("bob", ""):
        other = replace(owned(owner), id=job.id)
        assert ledger.submit([Submit(other, "", "print")], limits) == [Receipt(SubmitStatus.TAKEN, job.id)]
    assert read(ledger, job).owner == "ada"


def test_the_records_of_each_owner_are_counted_for_a_day(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submission = Submission(new_job_id(), BULK, NOW, owner="ada")
    ledger.open_submission(submission, 60, 100)
    store(ledger, [owned("ada"), owned("ada"), owned("bob"), owned("")])
    rejected = JobResult(error=JobError("not_an_image", "Not an image."))
    job = replace(owned("ada", BULK), submission=submission.id, status=JobStatus.FAILED, result=rejected)
    assert ledger.reject([job, job], 60, NOW) == [True, False]
    later_ms = NOW + 2 * _HOUR_MS
    store(ledger, [replace(owned("bob"), created_ms=later_ms)])
    assert ledger.owner_records(later_ms) == {"ada": 3, "bob": 2}
    assert ledger.owner_records(NOW + 24 * _HOUR_MS) == {"bob": 1}
    assert 86_400 <= redis_client.ttl(keys.owner_records(NOW // _HOUR_MS)) <= 90_000
