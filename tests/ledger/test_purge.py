"""A purge removes everything that Redis stores about a job or a submission, and nothing else."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from contract.images.thumbnails import ThumbnailStore
from contract.job import Job, JobError, JobResult, JobStatus, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Receipt, Submit, SubmitStatus, Sweep
from contract.queues import BULK, INTERACTIVE, QUEUES
from contract.submission import Counts, Submission, image_job_id
from tests.support.ledger import (
    LEASE_MS,
    NOW,
    cat,
    claim_jobs,
    claimed,
    contents,
    follow_finished,
    make_job,
    read,
    store,
    submitted,
)

TTL_S = 60
_LIMITS = QueueLimits(10_000, 10**12)
_ERROR = JobResult(error=JobError("not_an_image", "Not an image."))


def sent_with_key(ledger: Ledger, job: Job, key: str = "ada:key") -> Receipt:
    (receipt,) = ledger.submit([Submit(job, key, "print-of-the-image")], _LIMITS)
    return receipt


def opened(ledger: Ledger, owner: str = "ada") -> Submission:
    submission = Submission(new_job_id(), BULK, NOW, name="Holiday", owner=owner)
    assert ledger.open_submission(submission, TTL_S, 100) is SubmitStatus.STORED
    return submission


def add(ledger: Ledger, submission: Submission, count: int) -> list[Job]:
    jobs = [replace(make_job(BULK), submission=submission.id, owner=submission.owner) for _ in range(count)]
    assert store(ledger, jobs) == [SubmitStatus.STORED] * count
    return jobs


def reject(ledger: Ledger, submission: Submission, custom_id: str) -> None:
    job_id = image_job_id(submission.id, custom_id)
    job = Job(job_id, BULK, NOW, JobStatus.FAILED, file=custom_id, submission=submission.id, result=_ERROR)
    assert ledger.reject([job], TTL_S, NOW) == [True]


def kill_workers(ledger: Ledger, job: Job) -> None:
    """Make a job a dead letter."""
    ledger.begin([claimed(ledger, job)])
    ledger.recover(Sweep(job.queue, max_attempts=1, ttl_s=TTL_S), NOW + LEASE_MS)
    assert ledger.dead(10) == [job.id]


def finish(ledger: Ledger, job: Job) -> None:
    assert ledger.commit([(claimed(ledger, job), cat())], TTL_S, NOW) == [True]


def leave_queued(_ledger: Ledger, _job: Job) -> None:
    pass


def start(ledger: Ledger, job: Job) -> None:
    ledger.begin([claimed(ledger, job)])


def sweep_queue(ledger: Ledger, job: Job) -> None:
    ledger.recover(Sweep(job.queue, max_attempts=1, ttl_s=TTL_S), NOW)


@pytest.mark.parametrize("bring_to_state", [leave_queued, sweep_queue, start, finish, kill_workers])
def test_nothing_of_a_purged_job_is_left(
    ledger: Ledger, redis_client: "redis.Redis", bring_to_state: Callable[[Ledger, Job], None]
) -> None:
    job = replace(
        make_job(),
        file="secret-name.jpg",
        image="ref-secret",
        owner="ada",
        deadline_ms=NOW + 10**9,
        submission=opened(ledger).id,
    )
    other = replace(make_job(), submission=job.submission)
    assert sent_with_key(ledger, job).is_new
    store(ledger, [other])
    bring_to_state(ledger, job)
    fence = read(ledger, job).fence
    assert ThumbnailStore(redis_client, 60).put(job.id, b"pixels", fence) == (fence > 0)
    purged = ledger.purge([job.id], TTL_S, NOW + 1)
    assert (purged.jobs, purged.images) == (1, [] if bring_to_state is finish else ["ref-secret"])
    assert ledger.discarded(10) == purged.images
    ledger.remove_discarded(purged.images)
    left = contents(redis_client)
    for trace in (job.id, "secret", "print-of-the-image", "ada:key"):
        assert trace not in left
    assert ledger.get([job.id, other.id]) == [None, read(ledger, other)]


def test_a_purge_of_an_unfinished_job_counts_it_as_canceled(ledger: Ledger) -> None:
    jobs = [submitted(ledger), submitted(ledger), submitted(ledger)]
    start(ledger, jobs[1])
    finish(ledger, jobs[2])
    assert ledger.purge([job.id for job in jobs] + ["unknown"], TTL_S, NOW).jobs == 3
    stats = ledger.stats(QUEUES, NOW)
    assert stats.totals == {(INTERACTIVE, "canceled", ""): 2, (INTERACTIVE, "succeeded", "cat"): 1}
    assert (stats.queues[INTERACTIVE].queued, stats.queues[INTERACTIVE].running) == (0, 0)
    assert stats.queues[INTERACTIVE].queued_bytes == 0
    assert ledger.purged_count() == 3


def test_a_worker_writes_nothing_for_a_purged_job(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    ledger.purge([job.id], TTL_S, NOW)
    before = contents(redis_client)
    ledger.begin([claim])
    assert ledger.renew([claim], LEASE_MS, NOW) == [False]
    assert ledger.release([claim]) == [False]
    assert claim_jobs(ledger, [job.id], LEASE_MS, TTL_S, NOW) == [None]
    assert not ThumbnailStore(redis_client, 60).put(job.id, b"pixels", claim.fence)
    assert contents(redis_client) == before
    assert ledger.commit([(claim, cat())], TTL_S, NOW) == [False]
    assert job.id not in contents(redis_client)


def test_a_thumbnail_of_a_purged_job_is_not_stored_for_a_new_job_with_its_id(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    job = submitted(ledger)
    old = claimed(ledger, job)
    ledger.purge([job.id], TTL_S, NOW)
    store(ledger, [job])
    new = claimed(ledger, job)
    thumbnails = ThumbnailStore(redis_client, 60)
    assert [thumbnails.put(job.id, b"pixels", claim.fence) for claim in (old, new)] == [False, True]


def test_a_purge_wakes_the_clients_that_wait_for_the_job(ledger: Ledger) -> None:
    job, finished = submitted(ledger), follow_finished(ledger)
    assert next(finished) is None
    ledger.purge([job.id], TTL_S, NOW)
    assert next(finished) == [job.id]
    finished.close()


def test_an_idempotency_key_that_was_used_again_is_kept(ledger: Ledger) -> None:
    first, second = make_job(), make_job()
    sent_with_key(ledger, first)
    ledger.purge([first.id], TTL_S, NOW)
    assert sent_with_key(ledger, second).is_new
    sent_with_key(ledger, first, "another key")
    ledger.purge([first.id], TTL_S, NOW)
    assert sent_with_key(ledger, make_job()) == Receipt(SubmitStatus.REPEATED, second.id)


def test_a_purge_of_a_dead_letter_removes_its_retry_too(ledger: Ledger) -> None:
    job = submitted(ledger)
    kill_workers(ledger, job)
    retry = replace(make_job(), image="ref-1")
    store(ledger, [retry])
    assert ledger.remove_dead(job.id, retried_as=retry.id) == "ref-1"
    purged = ledger.purge([job.id], TTL_S, NOW)
    assert (purged.jobs, purged.images) == (2, ["ref-1"])
    assert ledger.get([job.id, retry.id]) == [None, None]


def test_other_jobs_of_a_submission_keep_their_positions_and_counts(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = add(ledger, submission, 3)
    finish(ledger, jobs[1])
    ledger.purge([jobs[0].id, jobs[1].id], TTL_S, NOW)
    assert ledger.submission_job_ids(submission.id, 0, 10) == ["", "", jobs[2].id]
    found = ledger.submission(submission.id)
    assert found
    assert found.counts == Counts(queued=1, succeeded=1, canceled=1)


def test_nothing_of_a_purged_submission_is_left(ledger: Ledger, redis_client: "redis.Redis") -> None:
    other = opened(ledger)
    (running,) = add(ledger, other, 1)
    start(ledger, running)
    kept = read(ledger, running)
    before = contents(redis_client)
    submission = opened(ledger)
    jobs = add(ledger, submission, 5)
    finish(ledger, jobs[0])
    start(ledger, jobs[1])
    reject(ledger, submission, "secret-name.txt")
    steps = [ledger.purge_submission(submission.id, 4, TTL_S, NOW + 1) for _ in range(2)]
    assert [(step.jobs, step.has_more) for step in steps] == [(4, True), (2, False)]
    ledger.remove_discarded([image for step in steps for image in step.images])
    left = contents(redis_client)
    for trace in (submission.id, *(job.id for job in jobs), "secret"):
        assert trace not in left
    # Only the counters differ.
    counters = (
        *(keys.TOTALS, keys.COUNTERS, keys.EVENTS, keys.OWNER_RECORDS),
        *(keys.MODEL_COUNTS, keys.MODEL_TOTALS),
    )
    left, before = ([line for line in text.splitlines() if not line.startswith(counters)] for text in (left, before))
    assert left == before
    assert ledger.submissions("ada", 10) == [ledger.submission(other.id)]
    assert ledger.get([kept.id]) == [kept]
    assert ledger.purge_submission(submission.id, 4, TTL_S, NOW).has_more is False


def test_readers_see_no_submission_that_is_being_purged_and_whole_jobs_until_they_are_gone(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = [read(ledger, job) for job in add(ledger, submission, 4)]
    ledger.purge_submission(submission.id, 1, TTL_S, NOW)
    assert ledger.submission(submission.id) is None
    assert ledger.submissions("ada", 10) == []
    assert ledger.get([job.id for job in jobs]) == [*jobs[:3], None]
    assert ledger.submission_job_ids(submission.id, 0, 10) == [job.id for job in jobs[:3]]
    # It accepts no image and cannot be opened again, or the purge would remove an accepted job.
    assert store(ledger, [replace(make_job(BULK), submission=submission.id)]) == [SubmitStatus.CLOSED]
    assert ledger.open_submission(submission, TTL_S, 100) is SubmitStatus.PURGING
    while ledger.purge_submission(submission.id, 1, TTL_S, NOW).has_more:
        pass
    assert ledger.open_submission(submission, TTL_S, 100) is SubmitStatus.STORED


def test_a_purge_of_a_submission_wakes_the_clients_that_wait_for_it(ledger: Ledger) -> None:
    submission, finished = opened(ledger), follow_finished(ledger)
    add(ledger, submission, 2)
    assert next(finished) is None
    ledger.purge_submission(submission.id, 1, TTL_S, NOW)
    assert next(finished) == [submission.id]
    finished.close()


def test_only_purges_that_made_no_step_for_a_while_are_resumed(ledger: Ledger) -> None:
    active, stalled, complete = opened(ledger), opened(ledger), opened(ledger)
    for submission, now_ms in ((active, NOW + 900), (stalled, NOW), (complete, NOW)):
        add(ledger, submission, 2)
        ledger.purge_submission(submission.id, 1, TTL_S, now_ms)
    ledger.purge_submission(complete.id, 1, TTL_S, NOW)
    assert ledger.stalled_purges(500, NOW + 1000) == [stalled.id]
    assert sorted(ledger.stalled_purges(-1)) == sorted([active.id, stalled.id])


def test_the_purge_of_an_expired_submission_ends(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submission = opened(ledger)
    add(ledger, submission, 2)
    ledger.purge_submission(submission.id, 1, TTL_S, NOW)
    redis_client.delete(keys.submission(submission.id), keys.submission_jobs(submission.id))
    ledger.purge_submission(submission.id, 0, TTL_S, NOW)
    assert ledger.stalled_purges(-1) == []
