"""Submissions: groups of jobs, counted by status."""

from dataclasses import replace

import pytest
import redis

from contract.job import Job, JobError, JobResult, JobStatus, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Submit, SubmitStatus, Sweep
from contract.queues import BULK
from contract.submission import Counts, Submission, SubmissionStatus, image_job_id
from tests.support.ledger import (
    LEASE_MS,
    NOW,
    cat,
    claim_jobs,
    claimed,
    follow_finished,
    forget_order,
    make_job,
    read,
    store,
)

TTL_S = 60


def opened(ledger: Ledger, owner: str = "", created_ms: int = NOW, **fields: object) -> Submission:
    submission = Submission(new_job_id(), BULK, created_ms, owner=owner, **fields)  # type: ignore[arg-type]
    assert ledger.open_submission(submission, TTL_S, 100) is SubmitStatus.STORED
    return submission


def sent(ledger: Ledger, submission: Submission, count: int) -> list[Job]:
    jobs = [replace(make_job(BULK), submission=submission.id) for _ in range(count)]
    assert store(ledger, jobs) == [SubmitStatus.STORED] * count
    return jobs


def reject(ledger: Ledger, submission: Submission, custom_id: str) -> Job:
    result = JobResult(error=JobError("not_an_image", "Not an image."))
    job_id = image_job_id(submission.id, custom_id)
    job = Job(job_id, BULK, NOW, JobStatus.FAILED, file=custom_id, submission=submission.id, result=result)
    ledger.reject([job], TTL_S, NOW)
    return job


def reread(ledger: Ledger, submission: Submission) -> Submission:
    found = ledger.submission(submission.id)
    assert found
    return found


def counts(ledger: Ledger, submission: Submission) -> Counts:
    return reread(ledger, submission).counts


def test_a_submission_is_read_back_unchanged(ledger: Ledger) -> None:
    submission = opened(ledger, "ada", name="Holiday", deadline_s=12345.678)
    assert ledger.submission(submission.id) == submission
    assert submission.status is SubmissionStatus.OPEN
    assert ledger.submission(new_job_id()) is None


def test_opening_the_same_submission_twice_is_recognized_and_a_different_one_is_rejected(ledger: Ledger) -> None:
    submission = opened(ledger, "ada", name="Holiday")
    assert ledger.open_submission(replace(submission, created_ms=NOW + 5), TTL_S, 100) is SubmitStatus.REPEATED
    for other in ({"name": "Work"}, {"owner": "bob"}, {"queue": "interactive"}, {"deadline_s": 5.0}):
        assert ledger.open_submission(replace(submission, **other), TTL_S, 100) is SubmitStatus.TAKEN  # type: ignore[arg-type]
    assert ledger.submission(submission.id) == submission


def test_an_owner_may_have_a_limited_number_of_open_submissions(ledger: Ledger) -> None:
    def open_another(now_ms: int, owner: str = "ada", limit: int = 3) -> SubmitStatus:
        return ledger.open_submission(Submission(new_job_id(), BULK, now_ms, owner=owner), TTL_S, limit)

    first, second, third = (opened(ledger, "ada") for _ in range(3))
    assert open_another(NOW) is SubmitStatus.TOO_MANY_OPEN
    assert open_another(NOW, owner="bob") is SubmitStatus.STORED
    assert ledger.open_submission(first, TTL_S, 3) is SubmitStatus.REPEATED
    # Closed without images, it takes as much memory as before.
    ledger.close_submission(first.id, TTL_S, NOW)
    assert open_another(NOW) is SubmitStatus.TOO_MANY_OPEN
    ledger.purge_submission(first.id, 1, TTL_S, NOW)
    sent(ledger, second, 1)
    assert open_another(NOW) is SubmitStatus.STORED
    assert open_another(NOW) is SubmitStatus.TOO_MANY_OPEN
    ledger.close_submission(second.id, TTL_S, NOW)
    assert open_another(NOW) is SubmitStatus.STORED
    # All that have no images have expired.
    (job,) = sent(ledger, third, 1)
    later_ms = NOW + 1000 * TTL_S
    assert [open_another(later_ms, limit=3) for _ in range(3)] == [SubmitStatus.STORED] * 2 + [
        SubmitStatus.TOO_MANY_OPEN
    ]
    # Without unfinished jobs, an open submission expires, too.
    ledger.commit([(claimed(ledger, job), cat())], 2 * TTL_S, NOW)
    assert open_another(later_ms) is SubmitStatus.TOO_MANY_OPEN
    assert open_another(NOW + 2000 * TTL_S) is SubmitStatus.STORED


def test_a_submission_without_images_expires_after_an_hour(ledger: Ledger, redis_client: "redis.Redis") -> None:
    day_s = 86_400

    def expires_within(submission: Submission, seconds: int) -> bool:
        return seconds - 60 < redis_client.ttl(keys.submission(submission.id)) <= seconds

    used, empty = (Submission(new_job_id(), BULK, NOW, owner="ada") for _ in range(2))
    for submission in (used, empty):
        ledger.open_submission(submission, day_s, 100)
        assert expires_within(submission, 3600)
    ledger.close_submission(empty.id, day_s, NOW)
    assert expires_within(empty, 3600)
    (job,) = sent(ledger, used, 1)
    assert redis_client.ttl(keys.submission(used.id)) == -1
    ledger.commit([(claimed(ledger, job), cat())], day_s, NOW)
    assert expires_within(used, day_s)


def test_the_latest_submissions_of_an_owner_are_listed(ledger: Ledger) -> None:
    first, second, third = (opened(ledger, "ada", NOW + at) for at in range(3))
    unowned = opened(ledger)
    assert ledger.submissions("ada", 2) == [third, second]
    assert ledger.submissions("ada", 10) == [third, second, first]
    assert ledger.submissions("", 10) == [unowned]
    assert ledger.submissions("bob", 10) == []


def test_counts_follow_every_status_change(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = sent(ledger, submission, 6)
    assert counts(ledger, submission) == Counts(queued=6)
    claims = [claimed(ledger, job) for job in jobs[:4]]
    assert counts(ledger, submission) == Counts(queued=2, running=4)
    ledger.release([claims[3]])
    assert counts(ledger, submission) == Counts(queued=3, running=3)
    failed = JobResult(error=JobError("undecodable_image", "broken"))
    ledger.commit([(claims[0], cat()), (claims[1], failed)], TTL_S, NOW)
    assert counts(ledger, submission) == Counts(queued=3, running=1, succeeded=1, failed=1)
    ledger.cancel([jobs[2].id, jobs[4].id, jobs[0].id], TTL_S, NOW)
    assert counts(ledger, submission) == Counts(queued=2, succeeded=1, failed=1, canceled=2)
    assert ledger.commit([(claims[2], cat()), (claims[0], cat())], TTL_S, NOW) == [False, False]
    assert counts(ledger, submission).total == 6


def test_counts_include_expired_and_lost_jobs(ledger: Ledger) -> None:
    submission = opened(ledger)
    (lost, deadly) = sent(ledger, submission, 2)
    late = replace(make_job(BULK), submission=submission.id, deadline_ms=NOW + 10)
    later = replace(make_job(BULK), submission=submission.id, deadline_ms=NOW + 10)
    store(ledger, [late, later])
    assert claim_jobs(ledger, [late.id], LEASE_MS, TTL_S, NOW + 20) == [None]
    sweep = Sweep(BULK, max_attempts=1, ttl_s=TTL_S)
    ledger.recover(sweep, NOW + 20)
    assert counts(ledger, submission) == Counts(queued=2, expired=2)
    claimed(ledger, lost, NOW + 20)
    ledger.begin([claimed(ledger, deadly, NOW + 20)])
    ledger.recover(sweep, NOW + 20 + LEASE_MS)
    assert counts(ledger, submission) == Counts(queued=1, expired=2, failed=1)


def test_claiming_a_job_with_an_expired_lease_does_not_change_the_counts(ledger: Ledger) -> None:
    submission = opened(ledger)
    (job,) = sent(ledger, submission, 1)
    claimed(ledger, job)
    claimed(ledger, job, NOW + LEASE_MS)
    assert counts(ledger, submission) == Counts(running=1)


def test_a_rejected_image_is_counted_once_and_stored_as_a_failed_job(ledger: Ledger) -> None:
    submission = opened(ledger)
    (first,) = sent(ledger, submission, 1)
    job = reject(ledger, submission, "notes.txt")
    assert ledger.reject([job], TTL_S, NOW) == [False]
    assert counts(ledger, submission) == Counts(queued=1, rejected=1)
    assert read(ledger, job) == replace(job, finished_ms=NOW, number=2)
    assert ledger.submission_job_ids(submission.id, 0, 10) == [first.id, job.id]
    assert claim_jobs(ledger, [job.id], LEASE_MS, TTL_S, NOW) == [None]
    assert not ledger.stats([BULK]).totals


def test_the_id_of_a_rejected_image_cannot_be_reused(ledger: Ledger) -> None:
    submission = opened(ledger)
    rejected = reject(ledger, submission, "cat.jpg")
    job = replace(make_job(BULK), id=rejected.id, submission=submission.id)
    (receipt,) = ledger.submit([Submit(job, "", "print")], QueueLimits(10, 10**9))
    assert receipt.status is SubmitStatus.TAKEN


def test_jobs_are_listed_in_pages_in_order_of_acceptance(ledger: Ledger) -> None:
    submission = opened(ledger)
    ids = [job.id for job in sent(ledger, submission, 5)]
    assert ledger.submission_job_ids(submission.id, 0, 2) == ids[:2]
    assert ledger.submission_job_ids(submission.id, 3, 10) == ids[3:]
    assert ledger.submission_job_ids(submission.id, 5, 10) == []
    assert ledger.submission_job_ids(new_job_id(), 0, 10) == []


def finished(ledger: Ledger, submission: Submission, start: int = 0, count: int = 100) -> list[int]:
    """The numbers of the finished jobs in order of finishing."""
    jobs = ledger.submission_job_ids(submission.id, 0, 100)
    found = ledger.submission_finished(submission.id, start, count)
    assert [job_id for _, job_id in found] == [jobs[number - 1] for number, _ in found]
    return [number for number, _ in found]


def test_jobs_are_listed_in_the_order_in_which_they_finish_in_any_way(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = sent(ledger, submission, 5)
    deadlines = (NOW + 25, NOW + 10)
    late = [replace(make_job(BULK), submission=submission.id, deadline_ms=deadline) for deadline in deadlines]
    store(ledger, late)
    assert finished(ledger, submission) == []
    ledger.commit([(claimed(ledger, jobs[2]), cat())], TTL_S, NOW)
    ledger.cancel([jobs[4].id], TTL_S, NOW)
    reject(ledger, submission, "notes.txt")
    claim_jobs(ledger, [late[1].id], LEASE_MS, TTL_S, NOW + 20)
    sweep = Sweep(BULK, max_attempts=1, ttl_s=TTL_S)
    ledger.recover(sweep, NOW + 20)
    ledger.begin([claimed(ledger, jobs[0], NOW + 20)])
    ledger.recover(sweep, NOW + 20 + LEASE_MS)
    failed = JobResult(error=JobError("undecodable_image", "broken"))
    ledger.commit([(claimed(ledger, jobs[3]), failed), (claimed(ledger, jobs[1]), cat())], TTL_S, NOW)
    assert finished(ledger, submission) == [3, 5, 8, 7, 6, 1, 4, 2]
    assert finished(ledger, submission, 2, 3) == [8, 7, 6]
    assert finished(ledger, submission, 8) == []


def test_many_jobs_may_finish_in_one_call(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = sent(ledger, submission, 8_500)
    assert all(ledger.cancel([job.id for job in jobs], TTL_S))
    assert [number for number, _ in ledger.submission_finished(submission.id, 0, 8_500)] == list(range(1, 8_501))


def test_a_dropped_commit_and_a_repeated_cancel_list_a_job_once(ledger: Ledger) -> None:
    submission = opened(ledger)
    (job,) = sent(ledger, submission, 1)
    claim = claimed(ledger, job)
    for _ in range(2):
        ledger.cancel([job.id], TTL_S, NOW)
        ledger.commit([(claim, cat())], TTL_S, NOW)
    assert finished(ledger, submission) == [1]


@pytest.mark.parametrize("stored_by", ["0.1", "this version"])
def test_jobs_finished_by_version_0_1_are_listed_once(
    ledger: Ledger, redis_client: "redis.Redis", stored_by: str
) -> None:
    submission = opened(ledger)
    jobs = [read(ledger, job) for job in sent(ledger, submission, 6)]
    ledger.commit([(claimed(ledger, job), cat()) for job in (jobs[4], jobs[1], jobs[3])], TTL_S, NOW)
    forget_order(redis_client, jobs[1], stored_by=stored_by)
    redis_client.delete(keys.job(jobs[1].id))  # its record has expired
    forget_order(redis_client, jobs[3], stored_by=stored_by)
    assert finished(ledger, submission) == [5]
    for _ in range(2):
        ledger.list_finished(submission.id)
        assert finished(ledger, submission) == [5, 2, 4]
    ledger.commit([(claimed(ledger, jobs[0]), cat()), (claimed(ledger, jobs[5]), cat())], TTL_S, NOW)
    forget_order(redis_client, jobs[5], stored_by=stored_by)
    ledger.list_finished(submission.id)
    assert finished(ledger, submission) == [5, 2, 4, 1, 6]
    assert redis_client.ttl(keys.submission_finished(submission.id)) == -1


def test_a_submission_of_version_0_1_gets_its_list_from_its_jobs(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submission = opened(ledger)
    jobs = [read(ledger, job) for job in sent(ledger, submission, 4)]
    ledger.cancel([job.id for job in jobs], TTL_S, NOW)
    for job in jobs:
        forget_order(redis_client, job)
    redis_client.expire(keys.submission(submission.id), 7)
    ledger.list_finished(submission.id)
    assert finished(ledger, submission) == [1, 2, 3, 4]
    assert 0 < redis_client.ttl(keys.submission_finished(submission.id)) <= 7


def test_a_long_submission_of_version_0_1_is_listed_in_steps(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submission = opened(ledger)
    redis_client.rpush(keys.submission_jobs(submission.id), *map(str, range(1, 4501)))  # their records have expired
    redis_client.rpush(keys.submission_finished(submission.id), *range(4500, 1000, -1))
    redis_client.hset(keys.submission(submission.id), "succeeded", 4500)
    ledger.list_finished(submission.id)
    listed = [number for number, _ in ledger.submission_finished(submission.id, 0, 5000)]
    assert listed == [*range(4500, 1000, -1), *range(1, 1001)]


def test_the_list_that_version_0_1_left_of_an_expired_submission_is_deleted(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    submission = opened(ledger)
    ledger.cancel([job.id for job in sent(ledger, submission, 1)], TTL_S, NOW)
    redis_client.persist(keys.submission_finished(submission.id))
    redis_client.delete(keys.submission(submission.id))
    opened(ledger)
    assert not redis_client.exists(keys.submission_finished(submission.id))


def test_an_image_that_is_resent_after_its_record_expired_is_another_job(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    submission = opened(ledger)
    (job,) = sent(ledger, submission, 1)
    ledger.cancel([job.id], TTL_S, NOW)
    forget_order(redis_client, read(ledger, job), stored_by="this version")
    redis_client.delete(keys.job(job.id))
    store(ledger, [job])
    assert read(ledger, job).number == 2
    ledger.list_finished(submission.id)
    assert finished(ledger, submission) == [1]
    ledger.commit([(claimed(ledger, job), cat())], TTL_S, NOW)
    assert finished(ledger, submission) == [1, 2]


def test_the_list_of_finished_jobs_is_kept_as_long_as_the_submission(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    submission = opened(ledger)
    ledger.cancel([job.id for job in sent(ledger, submission, 1)], TTL_S, NOW)
    assert 0 < redis_client.ttl(keys.submission_finished(submission.id)) <= TTL_S
    sent(ledger, submission, 1)
    assert redis_client.ttl(keys.submission_finished(submission.id)) == -1
    redis_client.delete(keys.submission(submission.id))
    ledger.cancel(ledger.submission_job_ids(submission.id, 1, 1), TTL_S, NOW)
    assert finished(ledger, submission) == [1]


def test_a_resent_job_is_counted_once(ledger: Ledger) -> None:
    submission = opened(ledger)
    submit = Submit(replace(make_job(BULK), submission=submission.id), "", "print")
    for expected in (SubmitStatus.STORED, SubmitStatus.REPEATED):
        assert ledger.submit([submit], QueueLimits(10, 10**9))[0].status is expected
    assert counts(ledger, submission) == Counts(queued=1)
    assert ledger.submission_job_ids(submission.id, 0, 10) == [submit.job.id]


def test_a_job_refused_by_a_full_queue_is_not_counted(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = [replace(make_job(BULK), submission=submission.id) for _ in range(3)]
    limits = QueueLimits(max_jobs=2, max_bytes=1000)
    assert store(ledger, jobs, limits) == [SubmitStatus.STORED, SubmitStatus.STORED, SubmitStatus.FULL]
    assert counts(ledger, submission) == Counts(queued=2)


@pytest.mark.parametrize("cancel", [False, True])
def test_a_closed_submission_accepts_no_more_images(ledger: Ledger, cancel: bool) -> None:
    submission = opened(ledger)
    ledger.close_submission(submission.id, TTL_S, NOW + 1, cancel=cancel)
    job = replace(make_job(BULK), submission=submission.id)
    stray = replace(make_job(BULK), submission=new_job_id())
    assert store(ledger, [job, stray, make_job(BULK)]) == [
        SubmitStatus.CLOSED,
        SubmitStatus.CLOSED,
        SubmitStatus.STORED,
    ]
    reject(ledger, submission, "notes.txt")
    assert counts(ledger, submission) == Counts()
    assert ledger.get([job.id]) == [None]


def test_a_closed_submission_finishes_with_its_last_job(ledger: Ledger) -> None:
    submission = opened(ledger)
    first, second = sent(ledger, submission, 2)
    ledger.commit([(claimed(ledger, first), cat())], TTL_S, NOW)
    ledger.close_submission(submission.id, TTL_S, NOW + 10)
    ledger.close_submission(submission.id, TTL_S, NOW + 20)
    found = reread(ledger, submission)
    assert (found.status, found.closed_ms, found.finished_ms) == (SubmissionStatus.CLOSED, NOW + 10, None)
    ledger.commit([(claimed(ledger, second), cat())], TTL_S, NOW + 30)
    found = reread(ledger, submission)
    assert (found.status, found.finished_ms) == (SubmissionStatus.FINISHED, NOW + 30)
    ledger.close_submission(submission.id, TTL_S, NOW + 40, cancel=True)
    assert reread(ledger, submission) == found


def test_a_submission_without_pending_jobs_finishes_when_it_is_closed(ledger: Ledger) -> None:
    submission = opened(ledger)
    (job,) = sent(ledger, submission, 1)
    ledger.commit([(claimed(ledger, job), cat())], TTL_S, NOW)
    assert reread(ledger, submission).status is SubmissionStatus.OPEN
    ledger.close_submission(submission.id, TTL_S, NOW + 10)
    assert reread(ledger, submission).finished_ms == NOW + 10


def test_a_canceled_submission_accepts_no_jobs_and_finishes_with_its_last_job(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = sent(ledger, submission, 2)
    claim = claimed(ledger, jobs[0])
    ledger.close_submission(submission.id, TTL_S, NOW + 10, cancel=True)
    found = reread(ledger, submission)
    assert (found.status, found.canceled_ms, found.finished_ms) == (SubmissionStatus.CANCELED, NOW + 10, None)
    ledger.cancel([job.id for job in jobs], TTL_S, NOW + 20)
    found = reread(ledger, submission)
    assert (found.status, found.finished_ms, found.counts) == (
        SubmissionStatus.CANCELED,
        NOW + 20,
        Counts(canceled=2),
    )
    assert ledger.commit([(claim, cat())], TTL_S, NOW + 30) == [False]


def test_a_submission_is_published_as_finished_with_its_last_job(ledger: Ledger) -> None:
    submission, finished = opened(ledger), follow_finished(ledger)
    (job,) = sent(ledger, submission, 1)
    ledger.close_submission(submission.id, TTL_S, NOW)
    assert next(finished) is None
    ledger.commit([(claimed(ledger, job), cat())], TTL_S, NOW)
    assert sorted((next(finished) or []) + (next(finished) or [])) == sorted([job.id, submission.id])
    finished.close()


def test_the_rate_and_the_estimated_end_reflect_the_most_recent_seconds(ledger: Ledger) -> None:
    submission, span_ms = opened(ledger), keys.RATE_SPAN_MS
    jobs = sent(ledger, submission, 60)
    assert submission.rate_per_s(NOW) is None
    claims = [claimed(ledger, job) for job in jobs]
    for at in range(20):  # one per second
        ledger.commit([(claims[at], cat())], TTL_S, NOW + 1000 * at)
    found, now_ms = reread(ledger, submission), NOW + 19_000
    assert found.rate_per_s(now_ms) == pytest.approx(1.0, rel=0.01)
    assert found.estimated_end_ms(now_ms) == pytest.approx(now_ms + 40_000, abs=1000)
    for at in range(20, 40):  # ten per second
        ledger.commit([(claims[at], cat())], TTL_S, NOW + 19_000 + 100 * (at - 19))
    for at in range(40, 59):
        ledger.commit([(claims[at], cat())], TTL_S, NOW + 19_000 + span_ms + 100 * (at - 19))
    assert (reread(ledger, submission).rate_per_s(NOW + 19_000 + span_ms + 4000) or 0) > 3


def test_the_rate_starts_over_after_a_pause(ledger: Ledger) -> None:
    submission = opened(ledger)
    claims = [claimed(ledger, job) for job in sent(ledger, submission, 4)]
    later = NOW + 100 * keys.RATE_SPAN_MS
    for at, claim in enumerate(claims):
        ledger.commit([(claim, cat())], TTL_S, later + 1000 * at if at else NOW)
    found = reread(ledger, submission)
    assert found.rate_per_s(later + 3000) == pytest.approx(2 / 2, rel=0.4)


def test_the_rate_of_a_finished_submission_covers_all_of_its_jobs(ledger: Ledger) -> None:
    submission = opened(ledger)
    jobs = sent(ledger, submission, 4)
    claims = [claimed(ledger, job, NOW) for job in jobs]
    ledger.close_submission(submission.id, TTL_S, NOW)
    for at, claim in enumerate(claims):
        ledger.commit([(claim, cat())], TTL_S, NOW + 500 * (at + 1))
    found = reread(ledger, submission)
    assert found.rate_per_s(NOW + 10**9) == 2.0
    assert found.estimated_end_ms(NOW + 10**9) is None


def test_a_resent_image_has_the_same_job_id() -> None:
    first, second = new_job_id(), new_job_id()
    found = image_job_id(first, "cat.jpg")
    assert found == image_job_id(first, "cat.jpg")
    assert len({found, image_job_id(first, "dog.jpg"), image_job_id(second, "cat.jpg")}) == 3
    assert (found[14], found[19] in "89ab") == ("8", True)
