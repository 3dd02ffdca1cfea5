"""A submission as the gateway describes it: many jobs sent together, and how far they are."""

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class SubmissionStatus(StrEnum):
    """The states of a submission; the last two are final."""

    #: It takes pictures.
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
    """The pictures of a submission by state; `total` is their sum, refused ones included."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    #: Refused by the gateway: no job was made.
    rejected: int = 0

    @property
    def ended(self) -> int:
        """Pictures that have an outcome."""
        return self.succeeded + self.failed + self.canceled + self.expired + self.rejected


@dataclass(frozen=True, slots=True)
class Submission:
    """Many jobs sent together; times are Unix time in seconds."""

    id: str
    status: SubmissionStatus
    counts: Counts
    name: str = ""
    #: `interactive` or `bulk`.
    queue: str = "bulk"
    created_s: float | None = None
    closed_s: float | None = None
    finished_s: float | None = None
    #: Pictures that end per second, lately; None when nothing is known.
    rate_per_s: float | None = None
    estimated_end_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: times as RFC 3339."""
        return {
            "id": self.id,
            "name": self.name,
            "queue": self.queue,
            "status": str(self.status),
            **{f"{name[:-2]}_at": _to_text(getattr(self, name)) for name in _TIMES},
            "counts": asdict(self.counts),
            "rate_per_s": self.rate_per_s,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Submission":
        """Read a submission object of the HTTP interface; unknown fields are passed over."""
        known = {field.name for field in fields(Counts)}
        counts = {name: int(count) for name, count in values["counts"].items() if name in known}
        times = {name: _to_s(values.get(f"{name[:-2]}_at")) for name in _TIMES}
        return cls(
            id=values["id"],
            status=SubmissionStatus(values["status"]),
            counts=Counts(**counts),
            name=values.get("name") or "",
            queue=values.get("queue", "bulk"),
            rate_per_s=values.get("rate_per_s"),
            **times,
        )


_TIMES = ("created_s", "closed_s", "finished_s", "estimated_end_s")


def _to_s(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _to_text(time_s: float | None) -> str | None:
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
