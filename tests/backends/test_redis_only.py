"""What only the ledger on Redis can show: times to live, a server that does not answer, nothing left over."""

import time

import pytest
import redis

from contract import keys
from contract.broker import BULK, INTERACTIVE, QUEUES, make_celery, publish
from contract.errors import UnavailableError
from contract.job import Job, JobError, Outcome, new_job_id, now_ms
from contract.ledger_redis import RedisLedger
from contract.ledger_types import QueueLimits, Submit
from contract.redis_client import connect
from contract.submission import Submission, picture_job_id
from tests.backends.test_ledger import cat
from tests.support.ledger import store
from tests.support.services import free_port


def test_an_ended_job_lives_as_long_as_was_said(clean_redis: str) -> None:
    ledger, client = RedisLedger(connect(clean_redis)), connect(clean_redis)
    job = Job(new_job_id(), INTERACTIVE, now_ms(), image="x")
    store(ledger, [job], 10)
    assert client.ttl(keys.job(job.id)) == -1
    (claim,) = ledger.claim([job.id], 1000, 60)
    assert claim
    ledger.commit([(claim, Outcome(error=JobError("predict_failed", "")))], 77)
    assert client.ttl(keys.job(job.id)) == 77


def test_without_a_time_given_the_ledger_goes_by_its_own_clock(clean_redis: str) -> None:
    ledger, job = RedisLedger(connect(clean_redis)), Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job], 10)
    (claim,) = ledger.claim([job.id], 60_000, 60)
    assert claim
    assert claim.job.started_ms
    assert abs(claim.job.started_ms - now_ms()) < 10_000
    assert ledger.claim([job.id], 60_000, 60) == [None]


def test_a_job_of_a_submission_costs_little_memory(clean_redis: str) -> None:
    """Its record, its places in queue and submission: 0.6 kB while it waits, 1 kB once it has ended."""
    ledger, client, count = RedisLedger(connect(clean_redis)), connect(clean_redis), 2000
    submission = Submission(new_job_id(), BULK, now_ms())
    ledger.open_submission(submission, 60)
    before = client.info("memory")["used_memory"]
    jobs = [
        Job(
            picture_job_id(submission.id, f"photos/cat-{n}.jpg"),
            BULK,
            now_ms(),
            file=f"photos/cat-{n}.jpg",
            size_bytes=55_000,
            image=f"{n:032x}",
            submission=submission.id,
        )
        for n in range(count)
    ]
    submits = [Submit(job, "", f"{n:022}") for n, job in enumerate(jobs)]
    for at in range(0, count, 100):  # as they come in requests; one large command would grow Redis's own buffers
        ledger.submit(submits[at : at + 100], QueueLimits(10_000, 10**12))
    assert (client.info("memory")["used_memory"] - before) / count < 600
    for at in range(0, count, 100):
        claims = ledger.claim([job.id for job in jobs[at : at + 100]], 60_000, 60)
        ledger.commit([(claim, cat()) for claim in claims if claim], 60)
    assert (client.info("memory")["used_memory"] - before) / count < 1000


def test_a_submission_lives_until_its_last_job_has_ended_and_for_a_time_after_that(clean_redis: str) -> None:
    ledger, client = RedisLedger(connect(clean_redis)), connect(clean_redis)
    submission = Submission(new_job_id(), BULK, now_ms())
    both = (keys.submission(submission.id), keys.submission_jobs(submission.id))
    ledger.open_submission(submission, 50)
    assert client.ttl(both[0]) == 50
    jobs = [Job(new_job_id(), BULK, now_ms(), submission=submission.id) for _ in range(2)]
    store(ledger, jobs)
    assert [client.ttl(key) for key in both] == [-1, -1]
    ledger.cancel([jobs[0].id], 70)
    assert [client.ttl(key) for key in both] == [-1, -1]
    ledger.cancel([jobs[1].id], 70)
    assert [client.ttl(key) for key in both] == [70, 70]
    store(ledger, [Job(new_job_id(), BULK, now_ms(), submission=submission.id)])
    assert [client.ttl(key) for key in both] == [-1, -1]


def test_submissions_that_are_gone_leave_the_list(clean_redis: str) -> None:
    ledger, client = RedisLedger(connect(clean_redis)), connect(clean_redis)
    submissions = [Submission(new_job_id(), BULK, now_ms() + n) for n in range(3)]
    for submission in submissions:
        ledger.open_submission(submission, 50)
    client.delete(keys.submission(submissions[2].id))
    assert ledger.submissions("", 1) == [submissions[1]]
    assert client.zcard(keys.submissions("")) == 2


def test_a_ledger_that_does_not_answer_is_unavailable_at_once() -> None:
    ledger = RedisLedger(connect(f"redis://127.0.0.1:{free_port()}/0"))
    started_s = time.monotonic()
    for ask in (ledger.ping, lambda: ledger.get(["x"]), lambda: ledger.stats(QUEUES), lambda: next(ledger.ended())):
        with pytest.raises(UnavailableError, match="try again"):
            ask()
    assert time.monotonic() - started_s < 5


def test_publishing_without_a_broker_is_unavailable() -> None:
    app = make_celery(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(UnavailableError, match="try again"):
        publish(app, INTERACTIVE, [new_job_id()])


def test_a_message_lands_below_our_prefix(clean_redis: str) -> None:
    publish(make_celery(clean_redis), BULK, [new_job_id(), new_job_id()])
    names = {name.decode() for name in redis.Redis.from_url(clean_redis).scan_iter()}
    assert f"{keys.PREFIX}{BULK}" in names
    assert all(name.startswith(keys.PREFIX) for name in names)
