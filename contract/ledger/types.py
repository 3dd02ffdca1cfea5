"""The arguments and return values of the ledger."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from contract.errors import DeadlineExpiredError, WorkerLostError
from contract.job import Job, JobError, JobResult, JobStatus, known_fields
from contract.queues import split_queue_name

#: Maximum number of labels in a heartbeat.
LABELS_REPORTED = 100
#: The oldest Redis that the ledger supports.
OLDEST_REDIS = (6, 2)


class Committed(IntEnum):
    """What happened to a result that a worker committed."""

    #: Dropped: the job was claimed again, or is finished.
    DROPPED = 0
    #: The job is finished.
    FINISHED = 1
    #: Dropped, because a canary failed on the job: the live version processes it.
    RETRIED = 2


class SubmitStatus(IntEnum):
    """What happened to a submitted job."""

    #: Rejected: the id belongs to a different job of the same owner, which is unchanged.
    TAKEN = 0
    #: Stored as a new job.
    STORED = 1
    #: Refused: the queue is full.
    FULL = 2
    #: Not stored again: the same image was sent before with this id or idempotency key.
    REPEATED = 3
    #: Rejected: the idempotency key was used with a different image.
    MISMATCHED = 4
    #: Refused: its owner's share of the queue is full.
    SHARE_FULL = 5
    #: Rejected: its submission is closed or does not exist.
    CLOSED = 6
    #: Refused: the submission with this id is being purged.
    PURGING = 7
    #: Refused: its owner has too many open submissions.
    TOO_MANY_OPEN = 8


@dataclass(frozen=True, slots=True)
class Submit:
    """A job to store, with the values that identify it when it is resent."""

    job: Job
    #: Chosen by the sender; the same when the image is resent.
    idempotency_key: str = ""
    #: Hash of the image; empty if the image cannot be resent.
    fingerprint: str = ""
    #: The id to use instead if a job of another owner has the job's id; empty if nobody else can have it.
    own_id: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What happened to a submitted job, and its id or the id of the job that already exists."""

    status: SubmitStatus
    job_id: str

    @property
    def is_new(self) -> bool:
        """Whether a new job was stored."""
        return self.status is SubmitStatus.STORED


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits on the jobs waiting in a queue."""

    max_jobs: int
    max_bytes: int
    #: Share of both limits that one owner may fill, 0..1. It does not apply to jobs without an owner.
    owner_share: float = 1.0

    @property
    def owner_max_jobs(self) -> int:
        """Maximum number of jobs of one owner."""
        return max(1, int(self.max_jobs * self.owner_share))

    @property
    def owner_max_bytes(self) -> int:
        """Maximum size of the images of one owner, in bytes."""
        return int(self.max_bytes * self.owner_share)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's lease on a job."""

    job: Job
    #: Number of this claim. Only the latest claim can finish the job.
    fence: int
    #: The model and version that process it: `NAME@VERSION`; empty before a worker has registered a default model.
    routed: str = ""
    #: Whether to process this job alone, because a worker died while processing it together with others.
    alone: bool = False
    #: The model and version that process it if its worker does not hold the canary to which it was routed; empty if it
    #: was not routed to a canary.
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Jobs and submissions that just changed, by id."""

    ids: list[str]
    #: Whether they finished; otherwise their status or counts changed.
    finished: bool


@dataclass(frozen=True, slots=True)
class Purged:
    """What one step of a purge removed."""

    jobs: int
    #: References of images to delete.
    images: list[str]
    #: Whether the submission has more jobs to remove.
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class ChosenStrategy:
    """How a worker runs batches of about this many images."""

    images: int
    #: `wide`: one call on all cores. `frozen`: the same with constant weights. `parts_8`: parts of at most 8 images,
    #: each on one core.
    strategy: str
    #: The fastest call in milliseconds by precision and strategy, such as `float32/wide`; empty if not measured.
    measured_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A version that a worker holds, or tried to load."""

    name: str
    version: str
    #: `waiting`: loaded when a job needs it. `loading`, `ready` or `failed`.
    state: str
    #: Why it cannot be loaded; empty if it can.
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A periodic report from a worker: its models, its load and its address."""

    id: str
    host: str
    #: The model that it loaded first.
    model_name: str
    model_version: str
    #: Its labels, at most `LABELS_REPORTED`.
    labels: list[str]
    backend: str
    precision: str
    #: Share of the last few seconds that the worker spent running its model, 0..1.
    busy_ratio: float
    #: Host and port of its metrics endpoint.
    metrics_address: str
    started_ms: int
    seen_ms: int
    #: By number of images; an earlier version does not report them.
    strategies: Sequence[ChosenStrategy] = ()
    #: Names of the models whose jobs it takes; empty in a report of an earlier version.
    serves: Sequence[str] = ()
    #: The versions that it holds, or cannot load.
    models: Sequence[HeldModel] = ()
    #: By model: the revision at which a change of its live version began for which the worker has loaded the new
    #: version, or failed to.
    prepared: Mapping[str, int] = field(default_factory=dict)
    #: The shadows that it should run, and their state. Without a problem, a `ready` one predicts.
    shadows: Sequence[HeldModel] = ()

    def takes_jobs_of(self, model: str) -> bool:
        """Whether it takes jobs of a model; the empty name stands for any model."""
        return not model or model in (self.serves or (self.model_name,))

    def shadow_of(self, model: str, version: str) -> HeldModel | None:
        """The state of a model's shadow in the worker; None if the worker does not know of it."""
        return next((found for found in self.shadows if (found.name, found.version) == (model, version)), None)

    @classmethod
    def from_json(cls, text: str) -> "Heartbeat":
        """Read a stored heartbeat; unknown fields, from a newer version, are ignored."""
        values = known_fields(cls, json.loads(text))
        for name, kind in (("strategies", ChosenStrategy), ("models", HeldModel), ("shadows", HeldModel)):
            values[name] = tuple(kind(**known_fields(kind, item)) for item in values.get(name, ()))
        values["serves"] = tuple(values.get("serves", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The state of a queue."""

    queued: int = 0
    running: int = 0
    #: Milliseconds since the oldest waiting job was accepted; 0 if none is waiting.
    oldest_age_ms: int = 0
    #: Size of the images of all waiting jobs.
    queued_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """Counts of all jobs."""

    queues: Mapping[str, QueueStats]
    #: Finished jobs by (queue, status, label); the label is empty if there is no prediction.
    totals: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    #: Jobs that finished with an error, by error code.
    errors: Mapping[str, int] = field(default_factory=dict)
    #: Jobs in the dead-letter list.
    dead: int = 0

    def of_queue(self, queue: str, models: Collection[str] | None = None) -> QueueStats:
        """The jobs of `interactive` or `bulk`, of all models or of these; the empty name is for jobs that name none."""
        rows = [row for name, row in self.queues.items() if _belongs(name, queue, models)]
        return QueueStats(
            queued=sum(row.queued for row in rows),
            running=sum(row.running for row in rows),
            oldest_age_ms=max((row.oldest_age_ms for row in rows), default=0),
            queued_bytes=sum(row.queued_bytes for row in rows),
        )


def _belongs(name: str, queue: str, models: Collection[str] | None) -> bool:
    found, model = split_queue_name(name)
    return found == queue and (models is None or model in models)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """The state of the Redis server."""

    used_bytes: int = 0
    #: Memory limit set in Redis (`maxmemory`); 0 for none.
    max_bytes: int = 0
    #: What Redis does when it reaches this limit (`maxmemory-policy`).
    policy: str = "noeviction"
    #: `standalone`, `cluster` or `sentinel`.
    mode: str = "standalone"
    is_replica: bool = False

    @property
    def evicts(self) -> bool:
        """Whether Redis may delete keys when it is full, which could lose accepted jobs."""
        return self.max_bytes > 0 and self.policy != "noeviction"

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> "RedisServer":
        """Read the reply to INFO."""
        return cls(
            used_bytes=int(info["used_memory"]),
            max_bytes=int(info["maxmemory"]),
            # Servers that are only compatible with Redis may leave these out.
            policy=str(info.get("maxmemory_policy", "noeviction")),
            mode=str(info.get("redis_mode") or info.get("server_mode", "standalone")),  # the latter in Valkey 9
            is_replica=info.get("role", "master") != "master",
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a Redis cannot be used, or only at a risk."""

    #: Continues a sentence that starts with the name of the Redis, for example "is a read-only replica".
    text: str
    #: A sentence that says what to do.
    remedy: str

    def __str__(self) -> str:
        return f"{self.text}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The parameters of a search for lost jobs in a queue."""

    queue: str
    max_attempts: int
    #: How long finished jobs are kept.
    ttl_s: int
    #: Maximum number of jobs that each step handles.
    limit: int = 1000


#: The result of a job whose last allowed attempt killed its worker.
LOST = JobResult(
    error=JobError(
        WorkerLostError.code,
        "Every attempt to process this image killed its worker. The job is in the dead-letter list.",
    )
)
#: The result of a job whose deadline passed.
EXPIRED = JobResult(
    error=JobError(
        DeadlineExpiredError.code,
        "The deadline passed before a worker started the job. Resend the image with a later deadline.",
    )
)

#: How long an idempotency key is kept.
IDEMPOTENCY_TTL_S = 86_400
#: How long a submission without images is kept.
EMPTY_SUBMISSION_TTL_S = 3600


def final_status(result: JobResult) -> JobStatus:
    """The status of a job with this result."""
    if result.error:
        return JobStatus.EXPIRED if result.error.code == DeadlineExpiredError.code else JobStatus.FAILED
    return JobStatus.SUCCEEDED
