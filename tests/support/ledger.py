"""Jobs for tests of the ledger, and helpers that submit, claim and read them."""

from collections.abc import Iterator, Sequence

import redis

from contract.job import Features, Job, JobResult, ModelRef, Prediction, Timings, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim, QueueLimits, Submit, SubmitStatus, Sweep
from contract.queues import INTERACTIVE

#: The time at which tests start; they pass later times instead of sleeping.
NOW = 1_000_000
LEASE_MS = 1000
#: Limits that no test reaches by accident.
_LIMITS = QueueLimits(max_jobs=10_000, max_bytes=10**12)


def make_job(queue: str = INTERACTIVE, created_ms: int = NOW) -> Job:
    """A new job with an image of 7 bytes."""
    return Job(new_job_id(), queue, created_ms, file="cat.jpg", size_bytes=7, image="ref-1")


def cat(confidence: float = 0.9) -> JobResult:
    """A result with the prediction `cat` and every optional member."""
    return JobResult(
        prediction=Prediction("cat", confidence, {"cat": confidence, "dog": 1 - confidence}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=4,
        timings=Timings(1.0, 2.0, 3.0, 4.0),
        features=Features(40, 30, 0.5, 0.25),
    )


def store(ledger: Ledger, jobs: Sequence[Job], limits: QueueLimits = _LIMITS) -> list[SubmitStatus]:
    """Submit jobs; returns the status of each."""
    return [receipt.status for receipt in ledger.submit([Submit(job) for job in jobs], limits)]


def submitted(ledger: Ledger, queue: str = INTERACTIVE, created_ms: int = NOW) -> Job:
    """Submit a new job and return it."""
    job = make_job(queue, created_ms)
    assert store(ledger, [job]) == [SubmitStatus.STORED]
    return job


def claimed(ledger: Ledger, job: Job, now_ms: int = NOW) -> Claim:
    """Claim a job; fails if it cannot be claimed."""
    (claim,) = claim_jobs(ledger, [job.id], LEASE_MS, 60, now_ms)
    assert claim is not None
    return claim


def follow_finished(ledger: Ledger) -> Iterator[list[str] | None]:
    """Yield the ids of jobs and submissions as they finish; None first, when the subscription is active."""
    for change in ledger.changes():
        if change is None or change.finished:
            yield change.ids if change else None


def claim_jobs(
    ledger: Ledger, job_ids: Sequence[str], lease_ms: int, ttl_s: int, now_ms: int = 0
) -> list[Claim | None]:
    """Claim these jobs without counting an attempt, after a sweep; None for those that are not waiting then.

    A worker claims the oldest jobs; this claims all, and releases those that the test does not ask for.
    """
    for queue in ledger.queue_names():
        ledger.recover(Sweep(queue, max_attempts=100, ttl_s=ttl_s), now_ms)
    found: dict[str, Claim] = {}
    while claims := ledger.claim(dict.fromkeys(ledger.queue_names(), 1000), lease_ms, ttl_s, now_ms):
        found |= {claim.job.id: claim for claim in claims}
    ledger.postpone(list(found.values()))
    ledger.release([claim for job_id, claim in found.items() if job_id not in job_ids])
    return [found.get(job_id) for job_id in job_ids]


def read(ledger: Ledger, job: Job) -> Job:
    """Read a job; fails if it does not exist."""
    (found,) = ledger.get([job.id])
    assert found is not None
    return found


def forget_order(client: "redis.Redis", job: Job, *, stored_by: str = "0.1") -> None:
    """Change a finished job of a submission into one that a worker of version 0.1 finished.

    That worker did not add it to the order of finishing. If version 0.1 stored it too, it has no number.
    """
    if stored_by == "0.1":
        client.hdel(keys.job(job.id), "n")
    assert client.lrem(keys.submission_finished(job.submission), -1, str(job.number)) == 1


def patient_client(url: str) -> "redis.Redis":
    """A Redis client like that of the services, but with a longer timeout for busy test machines."""
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=60)


def contents(client: "redis.Redis") -> str:
    """All keys of Redis with their values, one a line."""
    parts = []
    for key in map(str, client.scan_iter()):
        match client.type(key):
            case "string":
                value: object = client.get(key)
            case "hash":
                value = client.hgetall(key)
            case "list":
                value = client.lrange(key, 0, -1)
            case "set":
                value = sorted(client.smembers(key))
            case "zset":
                value = client.zrange(key, 0, -1, withscores=True)
            case "stream":
                value = client.xrange(key)
            case kind:
                raise AssertionError(f"unknown type {kind!r}")
        parts.append(f"{key} {value}")
    return "\n".join(sorted(parts))
