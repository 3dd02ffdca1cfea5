"""Short ways to put jobs into a ledger."""

from collections.abc import Sequence

import redis

from contract.job import Job
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Submit, Submitted


def store(ledger: Ledger, jobs: Sequence[Job], max_jobs: int = 10_000) -> list[Submitted]:
    """Submit jobs that nobody repeats; returns what became of each."""
    limits = QueueLimits(max_jobs, max_bytes=10**12)
    return [receipt.result for receipt in ledger.submit([Submit(job) for job in jobs], limits)]


def patient(url: str) -> "redis.Redis":
    """A client as services have it, which does not mind a busy machine."""
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=60)
