"""The job record: one image and its result. Standard library only, so that clients may use it."""

import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

#: Version of the stored record; a reader refuses a newer one.
SCHEMA = 1

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class JobStatus(StrEnum):
    """The states of a job; the last four are final."""

    #: Accepted and waiting for a worker.
    QUEUED = "queued"
    #: A worker holds a lease on it.
    RUNNING = "running"
    #: It has a prediction.
    SUCCEEDED = "succeeded"
    #: It has an error.
    FAILED = "failed"
    #: Its sender withdrew it.
    CANCELED = "canceled"
    #: Its deadline passed before it took a batch slot.
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether this state never changes again."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model said of an image."""

    label: str
    #: Probability of `label`, 0..1.
    confidence: float
    #: Probability by label; they sum to 1.
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job has no prediction."""

    #: One of the codes in `contract/errors.py`.
    code: str
    #: For people: what happened and what to do.
    detail: str


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that answered."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a job went, in milliseconds."""

    #: From acceptance to the claim of a worker.
    queue_ms: float = 0.0
    #: From decoded to the start of its batch.
    batch_wait_ms: float = 0.0
    decode_ms: float = 0.0
    #: Of the whole batch.
    predict_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Features:
    """What is measured on the image, to compare live images with those of training."""

    #: As stored, turned upright, in pixels.
    width: int
    height: int
    #: Mean luma, 0..1.
    brightness: float
    #: Standard deviation of luma, 0..1.
    contrast: float


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: exactly one of `prediction` and `error` is set."""

    prediction: Prediction | None = None
    error: JobError | None = None
    model: ModelRef | None = None
    #: Images predicted in the same call.
    batch_size: int | None = None
    timings: Timings | None = None
    features: Features | None = None

    def __post_init__(self) -> None:
        if (self.prediction is None) == (self.error is None):
            raise ValueError("A result is either a prediction or an error.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the absent parts."""
        return {name: value for name, value in self.all_parts().items() if value is not None}

    def all_parts(self) -> dict[str, Any]:
        """Plain values, None for what is absent; without `asdict`, which copies for ten times as long."""
        return {name: _plain(getattr(self, name)) for name in _RESULT_FIELDS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "JobResult":
        """Undo `to_dict`; unknown fields, of a newer version, are passed over."""
        return cls(
            prediction=_build(Prediction, values.get("prediction")),
            error=_build(JobError, values.get("error")),
            model=_build(ModelRef, values.get("model")),
            batch_size=values.get("batch_size"),
            timings=_build(Timings, values.get("timings")),
            features=_build(Features, values.get("features")),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One image and its result; times are Unix time in milliseconds."""

    id: str
    queue: str
    created_ms: int
    status: JobStatus = JobStatus.QUEUED
    #: The sender's file name, for people.
    file: str = ""
    size_bytes: int = 0
    #: Who may read it: the id of the API key that sent it; empty where none was asked for.
    owner: str = ""
    #: The submission that it belongs to; empty for a single image.
    submission: str = ""
    #: Where the image waits in the image store; empty once the job is final.
    image: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    #: When it expires if no worker has taken it.
    deadline_ms: int | None = None
    #: Times a worker began to decode or predict it.
    attempts: int = 0
    #: Number of the latest claim; a commit must carry it.
    fence: int = 0
    result: JobResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """The job object of the HTTP interface: times as RFC 3339, result laid flat, every field present."""
        result = self.result.all_parts() if self.result else dict.fromkeys(_RESULT_FIELDS)
        return {
            "id": self.id,
            "status": str(self.status),
            "queue": self.queue,
            "file": self.file,
            "size_bytes": self.size_bytes,
            "created_at": time_text(self.created_ms),
            "started_at": time_text(self.started_ms),
            "finished_at": time_text(self.finished_ms),
            "deadline_at": time_text(self.deadline_ms),
            "attempts": self.attempts,
            **result,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Job":
        """Read a job object of the HTTP interface; unknown fields are passed over."""
        ended = values.get("prediction") or values.get("error")
        return cls(
            id=values["id"],
            queue=values["queue"],
            status=JobStatus(values["status"]),
            file=values.get("file", ""),
            size_bytes=values.get("size_bytes", 0),
            created_ms=_to_ms(values["created_at"]) or 0,
            started_ms=_to_ms(values.get("started_at")),
            finished_ms=_to_ms(values.get("finished_at")),
            deadline_ms=_to_ms(values.get("deadline_at")),
            attempts=values.get("attempts", 0),
            result=JobResult.from_dict(values) if ended else None,
        )

    def log_fields(self) -> dict[str, Any]:
        """What a log line about this job carries."""
        fields: dict[str, Any] = {"job_id": self.id, "file": self.file, "size_bytes": self.size_bytes}
        if self.owner:
            fields["owner"] = self.owner
        if self.result and self.result.prediction:
            fields |= {"label": self.result.prediction.label, "confidence": self.result.prediction.confidence}
        if self.result and self.result.error:
            fields["code"] = self.result.error.code
        if self.finished_ms is not None:
            fields["latency_ms"] = self.finished_ms - self.created_ms
        return fields


_RESULT_FIELDS = tuple(JobResult.__dataclass_fields__)


def _plain(part: Any) -> Any:
    """A part of a result as a dictionary of its fields; numbers and None as they are."""
    names = getattr(part, "__dataclass_fields__", None)
    return part if names is None else {name: getattr(part, name) for name in names}


def new_job_id() -> str:
    """Make a UUIDv7 (RFC 9562, 5.7): sorts by time of creation, 74 random bits."""
    value = (
        (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0x2 << 62 | secrets.randbits(62)
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_job_id(text: str) -> bool:
    """Whether `text` is a UUID in lower case with hyphens, the only form of a job id."""
    return _UUID.fullmatch(text) is not None


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _build(kind: type[Any], values: dict[str, Any] | None) -> Any:
    if values is None:
        return None
    return kind(**{name: values[name] for name in kind.__dataclass_fields__ if name in values})


def time_text(time_ms: int | None) -> str | None:
    """A time in RFC 3339, UTC; None for none."""
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_ms(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)
