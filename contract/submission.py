"""The submission record: many jobs sent together. Standard library only, so that clients may use it."""

import hashlib
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from contract.job import time_text


class SubmissionStatus(StrEnum):
    """The states of a submission; the last two are final."""

    #: It takes images.
    OPEN = "open"
    #: It takes no more, and some of its jobs have not ended.
    CLOSED = "closed"
    #: All its jobs have ended.
    FINISHED = "finished"
    #: Its sender withdrew it.
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether this state never changes again."""
        return self in (SubmissionStatus.FINISHED, SubmissionStatus.CANCELED)


@dataclass(frozen=True, slots=True)
class Counts:
    """The images of a submission by state: those of its jobs, and `rejected` for what became none."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    #: Refused by the gateway; their rows say `failed`.
    rejected: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.pending + self.processed + self.canceled + self.rejected

    @property
    def pending(self) -> int:
        """Those that have not ended."""
        return self.queued + self.running

    @property
    def processed(self) -> int:
        """Those that left the queue with a result, which a rate is made from."""
        return self.succeeded + self.failed + self.expired


#: The names of the counts.
COUNTED = tuple(item.name for item in fields(Counts))


@dataclass(frozen=True, slots=True)
class Submission:
    """Many jobs sent together; times are Unix time in milliseconds."""

    id: str
    queue: str
    created_ms: int
    #: The sender's name for it, for people.
    name: str = ""
    #: Who may read it: the id of the API key that opened it; empty where none was asked for.
    owner: str = ""
    #: Seconds from an image's acceptance to the end of its deadline.
    deadline_s: float | None = None
    closed_ms: int | None = None
    canceled_ms: int | None = None
    #: When it was closed and all its jobs had ended.
    finished_ms: int | None = None
    #: When a worker first took one of its jobs.
    started_ms: int | None = None
    counts: Counts = field(default_factory=Counts)
    #: A time within the last two spans in which jobs ended, and how many had ended by then.
    mark_ms: int | None = None
    mark_processed: int = 0

    @property
    def status(self) -> SubmissionStatus:
        """How far it is."""
        if self.canceled_ms is not None:
            return SubmissionStatus.CANCELED
        if self.finished_ms is not None:
            return SubmissionStatus.FINISHED
        return SubmissionStatus.OPEN if self.closed_ms is None else SubmissionStatus.CLOSED

    def rate_per_s(self, now_ms: int) -> float | None:
        """Jobs that end per second: lately, or over all once it has finished; None before the first."""
        if self.started_ms is None:
            return None
        if self.finished_ms is not None:
            return _rate(self.counts.processed, self.finished_ms - self.started_ms)
        since_ms = self.started_ms if self.mark_ms is None else self.mark_ms
        return _rate(self.counts.processed - self.mark_processed, now_ms - since_ms)

    def estimated_end_ms(self, now_ms: int) -> int | None:
        """When what it holds now will have ended at this rate; None when that is not known, or nothing is left."""
        rate = self.rate_per_s(now_ms)
        return now_ms + round(1000 * self.counts.pending / rate) if rate and self.counts.pending else None

    def to_dict(self, now_ms: int) -> dict[str, Any]:
        """The submission object of the HTTP interface: times as RFC 3339, every field present."""
        rate = self.rate_per_s(now_ms)
        return {
            "id": self.id,
            "name": self.name,
            "queue": self.queue,
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
    """Id of the job of one image of a submission: the same whenever it is sent."""
    return _uuid_of(submission_id, custom_id)


def named_submission_id(owner: str, idempotency_key: str) -> str:
    """Id of the submission that an owner opens with an idempotency key."""
    return _uuid_of(f"submission of {owner}", idempotency_key)


def _uuid_of(space: str, name: str) -> str:
    """A UUIDv8 (RFC 9562, 5.8) out of a SHA-256: 122 bits of it."""
    value = int.from_bytes(hashlib.sha256(f"{space}\0{name}".encode()).digest()[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    text = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
