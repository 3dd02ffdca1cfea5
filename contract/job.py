"""The job record: one image and its result. Standard library only: the client imports this module."""

import re
import secrets
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from contract.queues import queue_name
from contract.tracing import trace_id_of

#: Version of the stored record.
SCHEMA = 1

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class JobStatus(StrEnum):
    """The status of a job; the last four are final."""

    #: Accepted, waiting for a worker.
    QUEUED = "queued"
    #: A worker holds a lease on it.
    RUNNING = "running"
    #: Finished with a prediction.
    SUCCEEDED = "succeeded"
    #: Finished with an error.
    FAILED = "failed"
    #: Canceled by its sender.
    CANCELED = "canceled"
    #: Its deadline passed before a worker started it.
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether a job with this status is finished."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


#: The meaning of each code in a result's `warnings`, for users. Codes from a newer version may be missing.
WARNINGS = {
    "sample_range_assumed": (
        "The file does not state which sample values are black and white, or uses only a small part of its range. The"
        " brightness may be wrong."
    ),
    "color_profile_ignored": (
        "The image has a color profile that is damaged, over 4 MB or for another color space. Its colors may be wrong."
    ),
    "cmyk_polarity_assumed": (
        "The CMYK JPEG has no Adobe marker, so whether its inks are inverted was inferred from the image."
    ),
    "invalid_samples": "Some samples of the image are not numbers. They are black.",
    "unfamiliar_image": (
        "The image is unlike those that the model was trained on: 99 % of the validation images are more similar to"
        " them. Check the label: the image may show something else."
    ),
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model predicted for an image."""

    label: str
    #: Probability of `label`, 0..1.
    confidence: float
    #: Probability of each label, in the order of the model; they sum to 1, unless an image can have several labels. Of
    #: the most likely labels only, most likely first, if the job has a `top_k` or the model has many labels.
    probabilities: dict[str, float]
    #: Share of the validation images that differ more from the training images, 0..1; None if the model cannot tell.
    familiarity: float | None = None
    #: Of a model with several labels per image: those that the image has, most probable first. Else None.
    labels: list[str] | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job has no prediction."""

    #: A code from `contract/errors.py`.
    code: str
    #: A message for a person: what is wrong and what to do.
    detail: str


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that made a prediction."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Timings:
    """How long each step of a job took, in milliseconds."""

    #: From acceptance until a worker claimed the job.
    queue_ms: float = 0.0
    #: From the end of decoding to the start of the batch.
    batch_wait_ms: float = 0.0
    decode_ms: float = 0.0
    #: The model call, for the whole batch.
    predict_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Features:
    """Measurements of the image, used to compare live images with the training data."""

    #: Original size in pixels, after EXIF rotation.
    width: int
    height: int
    #: Mean luma, 0..1.
    brightness: float
    #: Standard deviation of luma, 0..1.
    contrast: float


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job: exactly one of `prediction` and `error` is set."""

    prediction: Prediction | None = None
    error: JobError | None = None
    model: ModelRef | None = None
    #: Number of images predicted in the same call.
    batch_size: int | None = None
    timings: Timings | None = None
    features: Features | None = None
    #: Codes of reasons to doubt the prediction; `WARNINGS` has their meaning.
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.prediction is None) == (self.error is None):
            raise ValueError("A result must have either a prediction or an error. Set exactly one of them.")

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, without members that are None or empty."""
        parts = self.all_parts()
        if not self.warnings:
            del parts["warnings"]
        for name in ("familiarity", "labels"):
            if self.prediction and getattr(self.prediction, name) is None:
                del parts["prediction"][name]
        return {name: value for name, value in parts.items() if value is not None}

    def all_parts(self) -> dict[str, Any]:
        """The result as plain values, with every member present."""
        parts = {name: _plain(getattr(self, name)) for name in _RESULT_FIELDS}
        parts["warnings"] = list(self.warnings)
        return parts

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "JobResult":
        """Read the output of `to_dict`; unknown fields, from a newer version, are ignored."""
        return cls(
            prediction=_build(Prediction, values.get("prediction")),
            error=_build(JobError, values.get("error")),
            model=_build(ModelRef, values.get("model")),
            batch_size=values.get("batch_size"),
            timings=_build(Timings, values.get("timings")),
            features=_build(Features, values.get("features")),
            warnings=tuple(values.get("warnings") or ()),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One image and its result; times are Unix time in milliseconds."""

    id: str
    #: `interactive` or `bulk`.
    queue: str
    created_ms: int
    status: JobStatus = JobStatus.QUEUED
    #: File name given by the sender; for display.
    file: str = ""
    size_bytes: int = 0
    #: Id of the API key that sent it; empty if no key was required.
    owner: str = ""
    #: Id of its submission; empty for a single upload.
    submission: str = ""
    #: Its number in the submission, in order of acceptance from 1; 0 if it has no submission, or is from version 0.1.
    number: int = 0
    #: The model that its sender named: `NAME` or `NAME@VERSION`; empty for the default model.
    model: str = ""
    #: Number of labels whose probabilities are kept, chosen by the sender; 0 for the default number.
    top_k: int = 0
    #: URL that receives an event when the job is finished; empty for none.
    webhook: str = ""
    #: The span in which it was accepted, as a `traceparent` of the W3C; empty if its sender named no trace.
    traceparent: str = ""
    #: Reference of the image in the image store; empty once the job is finished.
    image: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    #: When the job expires if no worker has started it.
    deadline_ms: int | None = None
    #: Number of times that a worker started to process it.
    attempts: int = 0
    #: Number of the latest claim. A commit with an older number changes nothing.
    fence: int = 0
    result: JobResult | None = None

    @property
    def queue_name(self) -> str:
        """Name of the queue in Redis in which it waits: each model has its own."""
        return queue_name(self.queue, split_model(self.model)[0])

    @property
    def outcome(self) -> JobResult | None:
        """Deprecated name of `result`, from 0.1; it will be removed in the next release."""
        warnings.warn("`Job.outcome` is deprecated. Use `Job.result` instead.", DeprecationWarning, stacklevel=2)
        return self.result

    def to_dict(self) -> dict[str, Any]:
        """The job object of the HTTP API: RFC 3339 times, the result inlined, every member present."""
        result = self.result.all_parts() if self.result else dict.fromkeys(_RESULT_FIELDS) | {"warnings": []}
        return {
            "id": self.id,
            "status": str(self.status),
            "queue": self.queue,
            "requested_model": self.model or None,
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
        """Read a job object of the HTTP API; unknown members are ignored."""
        has_result = values.get("prediction") or values.get("error")
        return cls(
            id=values["id"],
            queue=values["queue"],
            model=values.get("requested_model") or "",
            status=JobStatus(values["status"]),
            file=values.get("file", ""),
            size_bytes=values.get("size_bytes", 0),
            created_ms=_to_ms(values["created_at"]) or 0,
            started_ms=_to_ms(values.get("started_at")),
            finished_ms=_to_ms(values.get("finished_at")),
            deadline_ms=_to_ms(values.get("deadline_at")),
            attempts=values.get("attempts", 0),
            result=JobResult.from_dict(values) if has_result else None,
        )

    def log_fields(self) -> dict[str, Any]:
        """The fields of a log line about this job."""
        fields: dict[str, Any] = {"job_id": self.id, "file": self.file, "size_bytes": self.size_bytes}
        if self.owner:
            fields["owner"] = self.owner
        if self.traceparent:
            fields["trace_id"] = trace_id_of(self.traceparent)
        if self.result and self.result.model:
            fields["model"] = f"{self.result.model.name}@{self.result.model.version}"
        if self.result and self.result.prediction:
            fields |= {"label": self.result.prediction.label, "confidence": self.result.prediction.confidence}
        if self.result and self.result.warnings:
            fields["warnings"] = list(self.result.warnings)
        if self.result and self.result.error:
            fields["code"] = self.result.error.code
        if self.finished_ms is not None:
            fields["latency_ms"] = self.finished_ms - self.created_ms
        return fields


_RESULT_FIELDS = tuple(JobResult.__dataclass_fields__)


def _plain(part: Any) -> Any:
    """A dataclass as a dictionary, anything else unchanged. `dataclasses.asdict` takes ten times as long."""
    names = getattr(part, "__dataclass_fields__", None)
    return part if names is None else {name: getattr(part, name) for name in names}


def _build(kind: type[Any], values: dict[str, Any] | None) -> Any:
    """A dataclass from the output of `_plain`."""
    if values is None:
        return None
    return kind(**known_fields(kind, values))


def known_fields(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the fields that a dataclass has; a record from a newer version may have more."""
    return {name: value for name, value in values.items() if name in kind.__dataclass_fields__}


def split_model(model: str) -> tuple[str, str]:
    """The name and the version in `NAME@VERSION`; the version is empty if it is not pinned."""
    name, _, version = model.partition("@")
    return name, version


def new_job_id() -> str:
    """Return a new UUIDv7 (RFC 9562, section 5.7): it sorts by creation time and has 74 random bits."""
    return uuid_text(now_ms() << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0x2 << 62 | secrets.randbits(62))


def uuid_text(value: int) -> str:
    """A 128-bit integer in the text form of a UUID."""
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid_of_digest(digest: bytes) -> str:
    """A UUIDv8 (RFC 9562, section 5.8) with 122 bits of a digest."""
    value = int.from_bytes(digest[:16], "big") & ~(0xF << 76) | 0x8 << 76
    return uuid_text(value & ~(0x3 << 62) | 0x2 << 62)


def is_job_id(text: str) -> bool:
    """Whether `text` is a lowercase UUID with hyphens, the only valid form of a job id."""
    return _UUID.fullmatch(text) is not None


def now_ms() -> int:
    """The current Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def time_text(time_ms: int | None) -> str | None:
    """A time in RFC 3339 format, in UTC; None for None."""
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_ms(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)
