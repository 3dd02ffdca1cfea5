"""What goes into the ledger and what comes out of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from contract.errors import DeadlineExpiredError, WorkerLostError
from contract.job import Job, JobError, JobResult, JobStatus


class Submitted(IntEnum):
    """What became of a submitted job."""

    #: Its id is known already, for something else; the known job stays as it is.
    TAKEN = 0
    STORED = 1
    #: The queue holds as much as it may.
    FULL = 2
    #: The same was sent before under this id or idempotency key: that job stands for it.
    REPEATED = 3
    #: The idempotency key was sent before with something else.
    MISMATCHED = 4
    #: Its owner's jobs fill as much of the queue as one owner's may.
    CROWDED = 5
    #: Its submission is closed, or is not there.
    CLOSED = 6


@dataclass(frozen=True, slots=True)
class Submit:
    """A job to store, and how to know it again."""

    job: Job
    #: The caller's name for this submit, so that a repeated one is recognized.
    idempotency_key: str = ""
    #: Hash of the image; only needed where a submit may be repeated.
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a submit, and the id of the job that stands for it."""

    result: Submitted
    job_id: str

    @property
    def is_new(self) -> bool:
        """Whether this submit made the job."""
        return self.result is Submitted.STORED


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait in a queue."""

    max_jobs: int
    max_bytes: int
    #: Share of both that one owner's jobs may fill, 0..1; jobs without an owner are not held to it.
    owner_share: float = 1.0

    @property
    def owner_max_jobs(self) -> int:
        """Most jobs of one owner."""
        return max(1, int(self.max_jobs * self.owner_share))

    @property
    def owner_max_bytes(self) -> int:
        """Most bytes of one owner's images."""
        return int(self.max_bytes * self.owner_share)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's lease on one job."""

    job: Job
    #: Number of this claim; a commit carries it, so that only the latest claim can end the job.
    fence: int
    #: A worker died on it: it is to be tried with no other job in hand, so that the culprit is found.
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says of itself every few seconds."""

    id: str
    host: str
    model_name: str
    model_version: str
    labels: list[str]
    backend: str
    precision: str
    #: Share of the last seconds in which the model was predicting, 0..1.
    busy_ratio: float
    #: Where its metrics are read.
    metrics_address: str
    started_ms: int
    seen_ms: int

    @classmethod
    def from_json(cls, text: str) -> "Heartbeat":
        """Read a stored heartbeat; unknown fields, from a newer version, are ignored."""
        values = json.loads(text)
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How full one queue is."""

    queued: int = 0
    running: int = 0
    #: Milliseconds since the oldest job that waits was accepted; 0 when none waits.
    oldest_age_ms: int = 0
    #: Of the images of the jobs that wait.
    queued_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Counts over all jobs."""

    queues: Mapping[str, QueueStats]
    #: (queue, status, label) -> jobs that ended so; the label is empty without a prediction.
    totals: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    #: Error code -> jobs that ended with it.
    errors: Mapping[str, int] = field(default_factory=dict)
    #: Jobs in the dead-letter list.
    dead: int = 0


@dataclass(frozen=True, slots=True)
class LedgerMemory:
    """What the ledger takes of its server's memory."""

    used_bytes: int = 0
    #: Beyond it the server takes no more; 0 where it sets no limit.
    max_bytes: int = 0
    #: The server is set to drop keys of its own choice when it is full: no promise can be kept on it.
    evicts: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a reconciler looks for in one queue."""

    queue: str
    #: When the oldest message that no worker has taken was published; 0 when there is none.
    oldest_message_ms: int
    #: How long a job may wait without a message before it gets another.
    grace_ms: int
    max_attempts: int
    #: How long ended jobs are kept.
    ttl_s: int
    #: Most jobs looked at.
    limit: int = 1000


#: The result of a job that workers died on as often as is allowed.
LOST = JobResult(
    error=JobError(
        WorkerLostError.code, "Workers died on this image as often as is allowed. It stands in the dead-letter list."
    )
)
#: The result of a job whose deadline passed.
EXPIRED = JobResult(
    error=JobError(
        DeadlineExpiredError.code, "Its deadline passed before a worker took it. Send it again with more time."
    )
)


#: How long an idempotency key is remembered.
IDEMPOTENCY_TTL_S = 86_400


def final_status(result: JobResult) -> JobStatus:
    """The state that a result leads to."""
    if result.error:
        return JobStatus.EXPIRED if result.error.code == DeadlineExpiredError.code else JobStatus.FAILED
    return JobStatus.SUCCEEDED
