"""A Redis that has no memory left: nothing new is stored, and accepted jobs finish."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from contract.errors import UnavailableError
from contract.images.thumbnails import ThumbnailStore
from contract.job import JobStatus, new_job_id
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat, Sweep
from contract.queues import BULK, INTERACTIVE
from contract.submission import Submission
from tests.support.ledger import LEASE_MS, NOW, cat, claimed, make_job, read, store, submitted

BEAT = Heartbeat("w", "host", "model", "1", [], "numpy", "float32", 0.0, "http://x/metrics", NOW, NOW)


@contextmanager
def full(client: "redis.Redis") -> Iterator[None]:
    """Redis refuses every write that may need memory."""
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("ballast", "x")
        yield
    finally:
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    "write",
    [
        lambda ledger: store(ledger, [make_job()]),
        lambda ledger: ledger.open_submission(Submission(new_job_id(), BULK, NOW), 60, 100),
    ],
)
def test_a_full_redis_stores_nothing_for_a_client_and_the_error_names_the_cause(
    ledger: Ledger, redis_client: "redis.Redis", write: Callable[[Ledger], object]
) -> None:
    with full(redis_client):
        with pytest.raises(UnavailableError, match=r"\(Redis\) is full"):
            write(ledger)
        assert not redis_client.keys()


def test_accepted_jobs_finish_in_every_way_while_redis_is_full(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submission = Submission(new_job_id(), INTERACTIVE, NOW)
    ledger.open_submission(submission, 60, 100)
    good, returned, lost, unwanted, purged = (submitted(ledger) for _ in range(5))
    with full(redis_client):
        ledger.beat(BEAT, 1000, NOW)
        assert ledger.workers(NOW) == [BEAT]
        assert ledger.lead("w", 1000)
        claims = [claimed(ledger, job) for job in (good, returned, lost)]
        ledger.begin(claims)
        assert ledger.renew(claims[:2], 2 * LEASE_MS, NOW) == [True, True]
        assert ledger.commit([(claims[0], cat())], 60, NOW) == [True]
        assert ledger.release([claims[1]]) == [True]
        assert ledger.recover(Sweep(INTERACTIVE, max_attempts=1, ttl_s=60), NOW + LEASE_MS) == 0
        assert ledger.remove_dead(lost.id) == "ref-1"
        assert ledger.cancel([unwanted.id], 60, NOW) == [True]
        assert ledger.purge([purged.id], 60, NOW).jobs == 1
        ledger.close_submission(submission.id, 60, NOW)
    assert read(ledger, good).result == cat()
    assert [read(ledger, job).status for job in (returned, lost, unwanted)] == [
        JobStatus.QUEUED,
        JobStatus.FAILED,
        JobStatus.CANCELED,
    ]
    found = ledger.submission(submission.id)
    assert found
    assert found.finished_ms == NOW


def test_a_thumbnail_takes_no_memory_that_jobs_need(ledger: Ledger, redis_client: "redis.Redis") -> None:
    claim = claimed(ledger, submitted(ledger))
    with full(redis_client), pytest.raises(UnavailableError, match="is full"):
        ThumbnailStore(redis_client, 60).put(claim.job.id, b"x", claim.fence)
