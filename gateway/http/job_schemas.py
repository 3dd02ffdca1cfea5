"""Schemas of jobs: pydantic models that validate requests and appear in the OpenAPI document, and examples."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contract.destinations import URL_MAX
from contract.job import WARNINGS, JobStatus
from contract.queues import INTERACTIVE
from gateway.accept.header import FORMATS

UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
JOB_ID = "0192f3a4-5b6c-7d8e-9f01-23456789abcd"
DEADLINE_MAX_S = 604_800
IDEMPOTENCY_KEY_MAX = 255

#: The name of a model, and optionally one of its versions.
MODEL_NAME = "[a-z0-9][a-z0-9._-]{0,63}"
MODEL = f"^{MODEL_NAME}(@[^@/\\s]{{1,64}})?$"
TOP_K_MAX = 100

Queue = Literal["interactive", "bulk"]
Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]


TOP_K_TEXT = (
    "Keep the probabilities of this many labels, most likely first. Default: of all labels if the model has at most "
    "100, else of 5."
)


def optional(text: str, example: Any = None, default: Any = None, **limits: Any) -> Any:
    """An optional parameter or member; its default is omitted from the OpenAPI document."""

    def shape(schema: dict[str, Any]) -> None:
        schema.pop("default", None)
        if example is not None:
            schema["example"] = example

    return Field(default, description=text, json_schema_extra=shape, **limits)


def optional_text(text: str, example: str, **limits: Any) -> Any:
    """An optional text parameter; empty if it is missing."""
    return optional(text, example, default="", **limits)


class JobPath(BaseModel):
    """A job id in a path."""

    job_id: str = Field(pattern=UUID, description="A job's id: a UUID.", json_schema_extra={"example": JOB_ID})


class ModelQuery(BaseModel):
    """The model that processes an image."""

    model: str = optional_text(
        "The model: `NAME` for its live version, or `NAME@VERSION`. Default: the default model.",
        "cats-dogs",
        pattern=f"^$|{MODEL}",
    )


WEBHOOK_TEXT = (
    "URL that receives an event when it is finished: `https://`, or `http://`, at a public address. Default: the "
    "webhook of the API key, if it has one."
)
WEBHOOK_EXAMPLE = "https://example.org/hooks/pawqueue"


class SubmitQuery(ModelQuery):
    """How to process an image."""

    queue: Queue = Field(
        "interactive", description="`bulk` jobs are processed only while no interactive job is queued."
    )
    file: str = optional_text("File name of an image that is sent as the request body.", "cat.jpg")
    deadline_s: float = optional(
        "Seconds after which the job expires if no worker has claimed it.",
        60,
        gt=0,
        le=DEADLINE_MAX_S,
        allow_inf_nan=False,
    )
    top_k: int = optional(TOP_K_TEXT, 5, default=0, ge=1, le=TOP_K_MAX)
    webhook: str = optional_text(WEBHOOK_TEXT, WEBHOOK_EXAMPLE)


class PurgeQuery(BaseModel):
    """Whether to remove what is canceled."""

    purge: bool = Field(
        default=False,
        description="`true`: remove the record, the result, the image and all other traces.",
        json_schema_extra={"example": False},
    )


class WaitHeader(BaseModel):
    """The `Prefer` header (RFC 7240)."""

    prefer: str = optional_text(
        "`wait=10`: wait at most 10 s for the job or submission to finish. Invalid values are ignored.",
        "wait=10",
        alias="Prefer",
    )


class EventsHeader(BaseModel):
    """The `Last-Event-ID` header of server-sent events."""

    last_event_id: str = optional_text(
        "The `id` of the last event that you have. The stream begins with the state only if it has changed since.",
        "1772366400000-running-1",
        alias="Last-Event-ID",
        max_length=255,
    )


class SubmitHeaders(WaitHeader):
    """The headers of an upload."""

    idempotency_key: str = optional_text(
        "Makes retries safe: for 24 h the same key and image return the same job.",
        "cat-17",
        alias="Idempotency-Key",
        max_length=IDEMPOTENCY_KEY_MAX,
    )


class PredictionObject(BaseModel):
    """What the model predicts for an image."""

    label: str
    confidence: float = Field(ge=0, le=1, description="Probability of `label`.")
    probabilities: dict[str, float] = Field(
        description="Probability of each label; they sum to 1, unless an image can have several labels. With `top_k`, "
        "or if the model has more than 100 labels, only of the most likely labels, most likely first."
    )
    familiarity: float | None = Field(
        ge=0,
        le=1,
        description="Share of the validation images that differ more from the training images than this image does. "
        "Below 0.01, `warnings` contains `unfamiliar_image`. Null if the model does not measure it.",
    )
    labels: list[str] | None = Field(
        description="The labels that the image has, most probable first, if the model gives several labels to an "
        "image. Otherwise null."
    )


class ErrorObject(BaseModel):
    """Why a job has no prediction."""

    code: str
    detail: str


class ModelObject(BaseModel):
    """The model that made the prediction."""

    name: str
    version: str


class TimingsObject(BaseModel):
    """How long each step of a job took, in milliseconds."""

    queue_ms: float
    batch_wait_ms: float
    decode_ms: float
    predict_ms: float


class FeaturesObject(BaseModel):
    """Measurements of the image."""

    width: int
    height: int
    brightness: float
    contrast: float


class UrlsObject(BaseModel):
    """Related URLs."""

    self: str


#: The description of `warnings`.
WARNINGS_TEXT = " ".join(
    ["Reasons to doubt the prediction; empty if there are none. A later version may add codes."]
    + [f"`{code}`: {text}" for code, text in WARNINGS.items()]
)


class JobObject(BaseModel):
    """One image and its result."""

    id: str = Field(pattern=UUID)
    status: Status
    queue: Queue
    requested_model: str | None = Field(description="The `model` of the upload; null if it named none.")
    file: str
    size_bytes: int
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None
    finished_at: str | None
    deadline_at: str | None
    attempts: int = Field(description="How many times a worker started to process the image.")
    prediction: PredictionObject | None
    error: ErrorObject | None
    model: ModelObject | None
    batch_size: int | None = Field(description="Number of images predicted in the same call.")
    timings: TimingsObject | None
    features: FeaturesObject | None
    warnings: list[str] = Field(description=WARNINGS_TEXT)
    urls: UrlsObject = optional("Related URLs.")
    queue_position: int = optional("Number of jobs ahead of this one while it is queued.")
    estimated_wait_s: float | None = optional("Estimated from the current rate; null if unknown.")


class JobList(BaseModel):
    """A list of jobs."""

    jobs: list[JobObject]


class Problem(BaseModel):
    """An error (RFC 9457); it may have more members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The `code` as a URN.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, for people.")
    code: str = Field(description="Identifies the kind of error, for programs.")


def example_job(status: JobStatus, **members: Any) -> dict[str, Any]:
    """An example of a job object."""
    job: dict[str, Any] = dict.fromkeys(JobObject.model_fields) | {
        "id": JOB_ID,
        "status": str(status),
        "queue": INTERACTIVE,
        "file": "cat.jpg",
        "size_bytes": 54_321,
        "created_at": "2026-03-01T12:00:00.000Z",
        "attempts": 0,
        "warnings": [],
        "urls": {"self": f"/v1/jobs/{JOB_ID}"},
    }
    del job["queue_position"], job["estimated_wait_s"]
    return job | members


PREDICTION: dict[str, Any] = {
    "label": "cat",
    "confidence": 0.97,
    "probabilities": {"cat": 0.97, "dog": 0.03},
    "familiarity": 0.64,
    "labels": None,
}
QUEUED_JOB = example_job(JobStatus.QUEUED)
WAITING_JOB = example_job(JobStatus.QUEUED, queue_position=12, estimated_wait_s=0.1)
SUCCEEDED_JOB = example_job(
    JobStatus.SUCCEEDED,
    started_at="2026-03-01T12:00:00.004Z",
    finished_at="2026-03-01T12:00:00.023Z",
    attempts=1,
    prediction=PREDICTION,
    model={"name": "cats-dogs", "version": "1"},
    batch_size=4,
    timings={"queue_ms": 4.0, "batch_wait_ms": 1.2, "decode_ms": 2.1, "predict_ms": 11.0},
    features={"width": 500, "height": 375, "brightness": 0.46, "contrast": 0.21},
)
FAILED_JOB = example_job(
    JobStatus.FAILED,
    started_at="2026-03-01T12:00:00.004Z",
    finished_at="2026-03-01T12:00:00.009Z",
    attempts=1,
    error={"code": "undecodable_image", "detail": "The image is truncated. Send the whole file."},
    model={"name": "cats-dogs", "version": "1"},
)
CANCELED_JOB = example_job(JobStatus.CANCELED, finished_at="2026-03-01T12:00:00.009Z")

#: The response to a purge.
PURGED: dict[str, Any] = {"description": "With `purge=true`: everything was removed."}

#: The response to a client that already has the last event.
NO_EVENTS: dict[str, Any] = {"description": "You have the last event. A browser does not reconnect after this."}


class EventObject(BaseModel):
    """One server-sent event."""

    event: Literal["progress", "finished"] = Field(description="`finished` is the last event.")
    id: str = Field(description="Identifies the state; send it as `Last-Event-ID` when you reconnect.")
    data: str = Field(description="The whole job or submission as JSON.")


def event_stream(example: Any) -> dict[str, Any]:
    """The response with the events of an object, such as `example`, the last one."""
    data = json.dumps(example, separators=(",", ":"))
    event = {"event": "finished", "id": "1772366400000-succeeded-1", "data": data}
    return {
        "description": "Server-sent events: `progress`, and `finished` as the last one.",
        "content": {"text/event-stream": {"schema": EventObject, "example": event}},
        "headers": {"X-Accel-Buffering": {"description": "`no`, for nginx.", "schema": {"type": "string"}}},
    }


BINARY = {"type": "string", "format": "binary"}


def form_schema(file: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form whose part `file` has the schema `file`."""
    return {"type": "object", "required": ["file"], "properties": {"file": file}}


#: The request body of an upload: a form with one image, or only the image.
class AddressBody(BaseModel):
    """The address of an image."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        min_length=1,
        max_length=URL_MAX,
        description="Where a worker fetches the image: `https://`, `http://`, or an object in a bucket, such as "
        "`s3://bucket/cat.jpg`. Only from where the operator allows it (`PAWQUEUE_FETCH_ALLOW`).",
        json_schema_extra={"example": "https://images.example.com/cat.jpg"},
    )


IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": form_schema(BINARY | {"description": "The image."})},
        "application/octet-stream": {"schema": BINARY},
        **{f"image/{name.lower()}": {"schema": BINARY} for name in (*FORMATS, "HEIC")},
        "application/json": {"schema": AddressBody},
    },
}
