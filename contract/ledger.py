"""The ledger: the records of all jobs, the only truth about a job."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from contract.errors import DeadlineExpiredError, WorkerLostError
from contract.job import Job, JobError, JobStatus, Outcome


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


@dataclass(frozen=True, slots=True)
class Submit:
    """A job to store, and how to know it again."""

    job: Job
    #: The caller's name for this submit, so that a repeated one is recognized.
    idempotency_key: str = ""
    #: Hash of the picture; only needed where a submit may be repeated.
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


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How full one queue is."""

    queued: int = 0
    running: int = 0
    #: Milliseconds since the oldest job that waits was accepted; 0 when none waits.
    oldest_age_ms: int = 0
    #: Of the pictures of the jobs that wait.
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


class Ledger(ABC):
    """What may be done to job records; every method takes many jobs in one round trip.

    All methods raise `UnavailableError` when the ledger cannot be reached.
    `now_ms` 0 means the ledger's own clock; tests pass a time of theirs instead of sleeping.
    """

    @abstractmethod
    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        """Store new queued jobs, as long as there is room in their queues; a repeated submit is recognized."""

    @abstractmethod
    def withdraw(self, job_ids: Sequence[str]) -> None:
        """Forget jobs that are still queued: a submit that was never acknowledged."""

    @abstractmethod
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Read jobs; None for an unknown id."""

    @abstractmethod
    def claim(self, job_ids: Sequence[str], lease_ms: int, ttl_s: int, now_ms: int = 0) -> list[Claim | None]:
        """Lease jobs that are queued, or running on a lease that has ended; None for all others.

        One whose deadline has passed ends as expired instead and is kept for `ttl_s`.
        """

    @abstractmethod
    def begin(self, claims: Sequence[Claim]) -> None:
        """Count an attempt: these jobs are now being decoded."""

    @abstractmethod
    def renew(self, claims: Sequence[Claim], lease_ms: int, now_ms: int = 0) -> list[bool]:
        """Prolong leases; False for one that was lost to a later claim or an end."""

    @abstractmethod
    def release(self, claims: Sequence[Claim]) -> list[bool]:
        """Give jobs back to the queue, at their old place, the attempt uncounted."""

    @abstractmethod
    def commit(self, outcomes: Sequence[tuple[Claim, Outcome]], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """End jobs, wake whoever waits; False, and nothing changed, where the fence is not current."""

    @abstractmethod
    def cancel(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """End jobs that are queued or running; False for all others, which stay as they are."""

    @abstractmethod
    def recover(self, sweep: "Sweep", now_ms: int = 0) -> list[str]:
        """Give back to the queue what nobody works on, end what has no attempt or no time left.

        Returns:
            The ids that need a message.
        """

    @abstractmethod
    def take_discarded(self, count: int) -> list[str]:
        """References of up to `count` pictures that nobody needs any more; each is told once."""

    @abstractmethod
    def lead(self, worker_id: str, ttl_ms: int) -> bool:
        """Whether this worker is the one that reconciles, for the next `ttl_ms`."""

    @abstractmethod
    def places(self, jobs: Sequence[Job]) -> list[int | None]:
        """How many jobs of the same queue stand before each; None for a job that does not wait."""

    @abstractmethod
    def stored_bytes(self) -> int:
        """Memory that the ledger takes, in bytes."""

    @abstractmethod
    def stats(self, queues: Sequence[str], now_ms: int = 0) -> LedgerStats:
        """Count jobs by queue and by how they ended."""

    @abstractmethod
    def beat(self, heartbeat: Heartbeat, ttl_ms: int, now_ms: int = 0) -> None:
        """Store a worker's heartbeat, good for `ttl_ms`."""

    @abstractmethod
    def retire(self, worker_id: str) -> None:
        """Forget a worker that leaves in order."""

    @abstractmethod
    def workers(self, now_ms: int = 0) -> list[Heartbeat]:
        """Heartbeats that still count, oldest worker first."""

    @abstractmethod
    def ended(self) -> Iterator[list[str] | None]:
        """Yield the ids of jobs as they end; None first, once it listens: what ended earlier is to be read."""

    @abstractmethod
    def ping(self) -> None:
        """Return if the ledger answers."""


#: The outcome of a job that workers died on as often as is allowed.
LOST = Outcome(
    error=JobError(
        WorkerLostError.code, "Workers died on this picture as often as is allowed. It stands in the dead-letter list."
    )
)
#: The outcome of a job whose deadline passed.
EXPIRED = Outcome(
    error=JobError(
        DeadlineExpiredError.code, "Its deadline passed before a worker took it. Send it again with more time."
    )
)


#: How long an idempotency key is remembered.
IDEMPOTENCY_TTL_S = 86_400


def final_status(outcome: Outcome) -> JobStatus:
    """The state that an outcome leads to."""
    if outcome.error:
        return JobStatus.EXPIRED if outcome.error.code == DeadlineExpiredError.code else JobStatus.FAILED
    return JobStatus.SUCCEEDED
