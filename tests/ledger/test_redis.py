"""How the ledger uses Redis: expiry, memory, outages, and the connection."""

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from contract.broker import make_celery
from contract.errors import UnavailableError
from contract.job import Job, JobError, JobResult, new_job_id, now_ms
from contract.ledger import keys
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.tickets import TASK
from contract.ledger.types import QueueLimits, RedisServer, Submit, Sweep
from contract.queues import BULK, INTERACTIVE, QUEUES
from contract.submission import Submission, image_job_id
from tests.support.ledger import cat, claim_jobs, follow_finished, store
from tests.support.proxy import cuttable
from tests.support.services import free_port


def test_a_finished_job_expires_after_its_ttl(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = Job(new_job_id(), INTERACTIVE, now_ms(), image="x")
    store(ledger, [job])
    assert redis_client.ttl(keys.job(job.id)) == -1
    (claim,) = claim_jobs(ledger, [job.id], 1000, 60)
    assert claim
    ledger.commit([(claim, JobResult(error=JobError("predict_failed", "")))], 77)
    assert redis_client.ttl(keys.job(job.id)) == 77


def test_an_idempotency_key_is_kept_for_a_day(ledger: Ledger, redis_client: "redis.Redis") -> None:
    ledger.submit([Submit(Job(new_job_id(), INTERACTIVE, now_ms()), "mine", "print")], QueueLimits(10, 1000))
    assert redis_client.ttl(f"{keys.IDEMPOTENCY}mine") in (86_399, 86_400)


def test_the_ledger_uses_the_redis_clock_unless_a_time_is_given(ledger: Ledger) -> None:
    job = Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job])
    (claim,) = claim_jobs(ledger, [job.id], 60_000, 60)
    assert claim
    assert claim.job.started_ms
    assert abs(claim.job.started_ms - now_ms()) < 10_000
    assert claim_jobs(ledger, [job.id], 60_000, 60) == [None]


def test_a_job_of_a_submission_takes_little_memory(ledger: Ledger, redis_client: "redis.Redis") -> None:
    """Record and list entries: under 0.6 kB for a waiting job, under 1 kB for a finished one."""
    count = 2000
    submission = Submission(new_job_id(), BULK, now_ms())
    ledger.open_submission(submission, 60, 100)
    before = redis_client.info("memory")["used_memory"]
    jobs = [
        Job(
            image_job_id(submission.id, f"images/cat-{n}.jpg"),
            BULK,
            now_ms(),
            file=f"images/cat-{n}.jpg",
            size_bytes=55_000,
            image=f"{n:032x}",
            submission=submission.id,
        )
        for n in range(count)
    ]
    submits = [Submit(job, "", f"{n:022}") for n, job in enumerate(jobs)]
    for at in range(0, count, 100):  # in small requests: a single large one would make the Redis buffers grow
        ledger.submit(submits[at : at + 100], QueueLimits(10_000, 10**12))
    assert (redis_client.info("memory")["used_memory"] - before) / count < 600
    while claims := ledger.claim({BULK: 100}, 60_000, 60):
        ledger.commit([(claim, cat()) for claim in claims], 60)
    assert (redis_client.info("memory")["used_memory"] - before) / count < 1000


def test_a_submission_expires_after_its_last_job_has_finished(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submission = Submission(new_job_id(), BULK, now_ms())
    both = (keys.submission(submission.id), keys.submission_jobs(submission.id))
    ledger.open_submission(submission, 50, 100)
    assert redis_client.ttl(both[0]) == 50
    jobs = [Job(new_job_id(), BULK, now_ms(), submission=submission.id) for _ in range(2)]
    store(ledger, jobs)
    assert [redis_client.ttl(key) for key in both] == [-1, -1]
    ledger.cancel([jobs[0].id], 70)
    assert [redis_client.ttl(key) for key in both] == [-1, -1]
    ledger.cancel([jobs[1].id], 70)
    assert [redis_client.ttl(key) for key in both] == [70, 70]
    store(ledger, [Job(new_job_id(), BULK, now_ms(), submission=submission.id)])
    assert [redis_client.ttl(key) for key in both] == [-1, -1]


def test_expired_submissions_are_not_listed_and_the_owners_next_submission_removes_them(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    submissions = [Submission(new_job_id(), BULK, now_ms() + n) for n in range(3)]
    for submission in submissions:
        ledger.open_submission(submission, 50, 100)
    redis_client.delete(keys.submission(submissions[1].id))  # as if it had expired
    assert ledger.submissions("", 2) == [submissions[2], submissions[0]]
    ledger.open_submission(Submission(new_job_id(), BULK, now_ms() + 3), 50, 100)
    assert redis_client.zscore(keys.submissions(""), submissions[1].id) is None
    assert redis_client.zcard(keys.submissions("")) == 3


def test_an_unreachable_redis_is_reported_immediately() -> None:
    ledger = Ledger(connect(f"redis://127.0.0.1:{free_port()}/0"))
    started_s = time.monotonic()
    for call in (ledger.ping, lambda: ledger.get(["x"]), lambda: ledger.stats(QUEUES), lambda: next(ledger.changes())):
        with pytest.raises(UnavailableError, match="Try again"):
            call()
    assert time.monotonic() - started_s < 5


def test_all_keys_of_the_queues_start_with_the_prefix(clean_redis: str) -> None:
    make_celery(clean_redis).send_task(TASK, queue=BULK)
    names = {name.decode() for name in redis.Redis.from_url(clean_redis).scan_iter()}
    assert f"{keys.PREFIX}{BULK}" in names
    assert all(name.startswith(keys.PREFIX) for name in names)


def test_a_claim_on_an_expired_job_is_not_valid_for_a_new_job_with_the_same_id(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    job = Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job])
    (old,) = claim_jobs(ledger, [job.id], 60_000, 60)
    ledger.cancel([job.id], 60)
    redis_client.delete(keys.job(job.id))  # as if it had expired
    store(ledger, [job])
    (new,) = claim_jobs(ledger, [job.id], 60_000, 60)
    assert old
    assert new
    result = JobResult(error=JobError("predict_failed", ""))
    assert ledger.commit([(old, result)], 60) == [False]
    assert ledger.commit([(new, result)], 60) == [True]


def test_a_dead_letter_is_removed_when_its_record_expires(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job])
    (claim,) = claim_jobs(ledger, [job.id], 1, 60, 1000)
    assert claim
    ledger.begin([claim])
    sweep = Sweep(INTERACTIVE, max_attempts=1, ttl_s=60)
    ledger.recover(sweep, 2000)
    ledger.recover(sweep, 2000 + 61_000)
    assert ledger.stats(QUEUES).dead == 1  # its record still exists
    redis_client.delete(keys.job(job.id))
    ledger.recover(sweep, 2000 + 61_000)
    assert ledger.stats(QUEUES).dead == 0


@pytest.fixture
def configurable(redis_client: "redis.Redis") -> Iterator["redis.Redis"]:
    """A client of a Redis whose configuration a test may change; it is restored afterwards."""
    yield redis_client
    redis_client.config_set("maxmemory", 0)
    redis_client.config_set("maxmemory-policy", "noeviction")
    redis_client.config_set("min-replicas-to-write", 0)


def test_server_returns_the_memory_limit_of_redis_and_whether_it_evicts(configurable: "redis.Redis") -> None:
    ledger = Ledger(configurable)
    assert ledger.server() == RedisServer(ledger.server().used_bytes, 0)
    assert ledger.server().used_bytes > 100_000
    configurable.config_set("maxmemory", 10**9)
    assert (ledger.server().max_bytes, ledger.server().evicts) == (10**9, False)
    configurable.config_set("maxmemory-policy", "volatile-lru")
    assert ledger.server().evicts


def test_submitting_to_a_full_redis_raises_unavailable(configurable: "redis.Redis") -> None:
    ledger, job = Ledger(configurable), Job(new_job_id(), INTERACTIVE, now_ms())
    configurable.config_set("maxmemory", 1)
    with pytest.raises(UnavailableError, match="Try again"):
        store(ledger, [job])
    configurable.config_set("maxmemory", 0)
    assert ledger.get([job.id]) == [None]
    assert ledger.stats(QUEUES).queues[INTERACTIVE].queued == 0


def test_submitting_to_a_redis_without_replicas_raises_unavailable(
    configurable: "redis.Redis",
) -> None:
    ledger, job = Ledger(configurable), Job(new_job_id(), INTERACTIVE, now_ms())
    configurable.config_set("min-replicas-to-write", 1)
    with pytest.raises(UnavailableError, match="not writable"):
        store(ledger, [job])
    configurable.config_set("min-replicas-to-write", 0)
    assert ledger.get([job.id]) == [None]


def test_a_subscription_detects_a_dead_connection(clean_redis: str) -> None:
    with cuttable(urlsplit(clean_redis).port or 0) as proxy:
        finished = follow_finished(Ledger(connect(f"redis://127.0.0.1:{proxy.port}/0"), health_check_s=0.2))
        assert next(finished) is None
        proxy.cut()
        with pytest.raises(UnavailableError, match="stopped responding"):
            next(finished)
        proxy.restore()
        finished.close()


def test_an_idle_subscription_stays_alive(redis_client: "redis.Redis") -> None:
    ledger = Ledger(redis_client, health_check_s=0.05)
    finished = follow_finished(ledger)
    assert next(finished) is None
    job = Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job])
    timer = threading.Timer(0.5, ledger.cancel, ([job.id], 60))  # after several pings
    timer.start()
    assert next(finished) == [job.id]
    timer.join()
    finished.close()
