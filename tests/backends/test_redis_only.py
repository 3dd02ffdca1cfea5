"""What only the ledger on Redis can show: times to live, a server that does not answer, nothing left over."""

import time

import pytest
import redis

from contract import keys
from contract.broker import BULK, INTERACTIVE, QUEUES, make_celery, publish
from contract.errors import UnavailableError
from contract.job import Job, JobError, Outcome, new_job_id, now_ms
from contract.ledger_redis import RedisLedger
from contract.redis_client import connect
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


def test_a_queued_job_costs_less_than_a_kilobyte(clean_redis: str) -> None:
    ledger, client = RedisLedger(connect(clean_redis)), connect(clean_redis)
    before = client.info("memory")["used_memory"]
    count = 2000
    store(
        ledger,
        [
            Job(new_job_id(), BULK, now_ms(), file=f"photo-{n}.jpg", size_bytes=55_000, image="a" * 32)
            for n in range(count)
        ],
        10_000,
    )
    assert (client.info("memory")["used_memory"] - before) / count < 1000


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
