"""A submission as the gateway describes it: many jobs sent together, and how far they are."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from contract.submission import COUNTED, Counts, SubmissionStatus

__all__ = ["Counts", "Submission", "SubmissionStatus"]


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
    #: Images that end per second, lately; None when nothing is known.
    rate_per_s: float | None = None
    estimated_end_s: float | None = None

    @property
    def ended(self) -> int:
        """Images that have a result, refused ones included."""
        return self.counts.total - self.counts.pending

    def to_dict(self) -> dict[str, Any]:
        """Plain values: times as RFC 3339."""
        return {
            "id": self.id,
            "name": self.name,
            "queue": self.queue,
            "status": str(self.status),
            **{f"{name[:-2]}_at": _to_text(getattr(self, name)) for name in _TIMES},
            "counts": {"total": self.counts.total, **asdict(self.counts)},
            "rate_per_s": self.rate_per_s,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Submission":
        """Read a submission object of the HTTP interface; unknown fields are passed over."""
        counts = {name: int(values["counts"][name]) for name in COUNTED}
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
