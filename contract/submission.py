"""The submission record: a group of jobs sent together. Standard library only: the client imports this module."""

import hashlib
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from contract.job import time_text, uuid_of_digest


class SubmissionStatus(StrEnum):
    """The status of a submission; the last two are final."""

    #: Accepts images.
    OPEN = "open"
    #: Accepts no more images; some of its jobs are not finished.
    CLOSED = "closed"
    #: Closed, and all of its jobs are finished.
    FINISHED = "finished"
    #: Canceled by its sender.
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether this status never changes again."""
        return self in (SubmissionStatus.FINISHED, SubmissionStatus.CANCELED)


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of images in a submission, by the status of their jobs."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    #: Images that the gateway rejected. In the results, their status is `failed`.
    rejected: int = 0

    @property
    def total(self) -> int:
        """The total number of images."""
        return self.pending + self.processed + self.canceled + self.rejected

    @property
    def pending(self) -> int:
        """The number of unfinished jobs."""
        return self.queued + self.running

    @property
    def processed(self) -> int:
        """The number of jobs with a result; the basis of the rate."""
        return self.succeeded + self.failed + self.expired


#: The names of the stored counts.
COUNTED = tuple(item.name for item in fields(Counts))


@dataclass(frozen=True, slots=True)
class Submission:
    """A group of jobs sent together; times are Unix time in milliseconds."""

    id: str
    queue: str
    created_ms: int
    #: Name given by the sender; for display.
    name: str = ""
    #: The model of its jobs, and how many labels they keep, as in `Job`.
    model: str = ""
    top_k: int = 0
    #: Id of the API key that opened it; empty if no key was required.
    owner: str = ""
    #: URL that receives an event when the submission is finished; empty for none.
    webhook: str = ""
    #: Deadline of each image, in seconds after it is accepted.
    deadline_s: float | None = None
    closed_ms: int | None = None
    canceled_ms: int | None = None
    #: When it was closed and all of its jobs were finished.
    finished_ms: int | None = None
    #: When a worker first claimed one of its jobs.
    started_ms: int | None = None
    counts: Counts = field(default_factory=Counts)
    #: The start of the window over which the rate is measured, and the number of jobs processed before it.
    mark_ms: int | None = None
    mark_processed: int = 0

    @property
    def status(self) -> SubmissionStatus:
        """The current status."""
        if self.canceled_ms is not None:
            return SubmissionStatus.CANCELED
        if self.finished_ms is not None:
            return SubmissionStatus.FINISHED
        return SubmissionStatus.OPEN if self.closed_ms is None else SubmissionStatus.CLOSED

    def rate_per_s(self, now_ms: int) -> float | None:
        """Jobs processed per second; None before a worker claims the first job.

        This is the recent rate, or the average once the submission has finished.
        """
        if self.started_ms is None:
            return None
        if self.finished_ms is not None:
            return _rate(self.counts.processed, self.finished_ms - self.started_ms)
        since_ms = self.started_ms if self.mark_ms is None else self.mark_ms
        return _rate(self.counts.processed - self.mark_processed, now_ms - since_ms)

    def estimated_end_ms(self, now_ms: int) -> int | None:
        """When the pending jobs will be finished at the current rate; None if unknown or nothing is pending."""
        rate = self.rate_per_s(now_ms)
        return now_ms + round(1000 * self.counts.pending / rate) if rate and self.counts.pending else None

    def to_dict(self, now_ms: int) -> dict[str, Any]:
        """The submission object of the HTTP API: RFC 3339 times, every member present."""
        rate = self.rate_per_s(now_ms)
        return {
            "id": self.id,
            "name": self.name,
            "queue": self.queue,
            "requested_model": self.model or None,
            "deadline_s": self.deadline_s,
            "status": str(self.status),
            "created_at": time_text(self.created_ms),
            "closed_at": time_text(self.closed_ms),
            "finished_at": time_text(self.finished_ms),
            "counts": {"total": self.counts.total, **asdict(self.counts)},
            "rate_per_s": None if rate is None else round(rate, 2),
            "estimated_end_at": time_text(self.estimated_end_ms(now_ms)),
        }


def _rate(count: int, elapsed_ms: int) -> float | None:
    return 1000 * count / elapsed_ms if elapsed_ms > 0 else None


def image_job_id(submission_id: str, custom_id: str) -> str:
    """The job id of an image in a submission. A resent image gets the same id, so it is recognized."""
    return _uuid_of(submission_id, custom_id)


def named_submission_id(owner: str, idempotency_key: str) -> str:
    """The id of the submission that an owner opens with an idempotency key."""
    return _uuid_of(f"submission of {owner}", idempotency_key)


def _uuid_of(space: str, name: str) -> str:
    return uuid_of_digest(hashlib.sha256(f"{space}\0{name}".encode()).digest())
