"""The ledger: the records of all jobs, the only truth about a job."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from contract.job import Job, JobResult
from contract.ledger_submissions import SubmissionLedger
from contract.ledger_types import Claim, Heartbeat, LedgerMemory, LedgerStats, QueueLimits, Receipt, Submit, Sweep


class Ledger(SubmissionLedger):
    """What may be done to job records; every method takes many jobs in one round trip.

    All methods raise `UnavailableError` when the ledger cannot be reached.
    `now_ms` 0 means the ledger's own clock; tests pass a time of theirs instead of sleeping.
    """

    @abstractmethod
    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        """Store new queued jobs, as long as there is room in their queues; a repeated submit is recognized.

        A job that names a submission joins it, if that takes jobs.
        """

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
    def commit(self, results: Sequence[tuple[Claim, JobResult]], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """End jobs, wake whoever waits; False, and nothing changed, where the fence is not current."""

    @abstractmethod
    def cancel(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """End jobs that are queued or running; False for all others, which stay as they are."""

    @abstractmethod
    def recover(self, sweep: Sweep, now_ms: int = 0) -> list[str]:
        """Give back to the queue what nobody works on, end what has no attempt or no time left.

        Returns:
            The ids that need a message.
        """

    @abstractmethod
    def dead(self, count: int) -> list[str]:
        """Ids of up to `count` jobs in the dead-letter list, the latest first."""

    @abstractmethod
    def dead_image(self, job_id: str) -> str | None:
        """The reference of the image of a job in the dead-letter list; None if it is not there."""

    @abstractmethod
    def unbury(self, job_id: str) -> str | None:
        """Take a job off the dead-letter list; the reference of its image, None if it is not there."""

    @abstractmethod
    def discard(self, image: str) -> None:
        """Leave an image to be deleted."""

    @abstractmethod
    def take_discarded(self, count: int) -> list[str]:
        """References of up to `count` images that nobody needs any more; each is told once."""

    @abstractmethod
    def lead(self, worker_id: str, ttl_ms: int) -> bool:
        """Whether this worker is the one that reconciles, for the next `ttl_ms`."""

    @abstractmethod
    def places(self, jobs: Sequence[Job]) -> list[int | None]:
        """How many jobs of the same queue stand before each; None for a job that does not wait."""

    @abstractmethod
    def memory(self) -> LedgerMemory:
        """How much of its memory the ledger takes, and whether it may forget what it holds."""

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
        """Yield the ids of jobs and submissions as they end; None first, once it listens."""

    @abstractmethod
    def recent(self, count: int, after: str = "") -> list[tuple[str, str]]:
        """The latest `count` ended jobs at most, newest first, as (place in the stream, job id).

        `after` is the place of an earlier answer: only what ended later is told.
        """

    @abstractmethod
    def ping(self) -> None:
        """Return if the ledger answers."""
