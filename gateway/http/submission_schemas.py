"""Schemas of submissions: pydantic models that validate requests and appear in the OpenAPI document, and examples."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.accept.received import CUSTOM_ID_MAX
from gateway.accept.submissions import LISTED_MAX
from gateway.http.job_schemas import (
    BINARY,
    DEADLINE_MAX_S,
    IDEMPOTENCY_KEY_MAX,
    JOB_ID,
    MODEL,
    PREDICTION,
    TOP_K_MAX,
    TOP_K_TEXT,
    UUID,
    WARNINGS_TEXT,
    WEBHOOK_EXAMPLE,
    WEBHOOK_TEXT,
    AddressBody,
    ErrorObject,
    ModelObject,
    PredictionObject,
    Queue,
    Status,
    TimingsObject,
    form_schema,
    optional,
    optional_text,
)

_NAME_MAX = 200
#: Addresses in one request.
_ADDRESSES_MAX = 1000
_PLACE_MAX = 2**53
SUBMISSION_ID = "0192f3a4-5b6c-7d8e-9f01-0123456789ab"


class SubmissionPath(BaseModel):
    """A submission id in a path."""

    submission_id: str = Field(
        pattern=UUID, description="A submission's id: a UUID.", json_schema_extra={"example": SUBMISSION_ID}
    )


class SubmissionBody(BaseModel):
    """The options of a new submission; every member is optional."""

    name: str = Field(
        "", max_length=_NAME_MAX, description="A name for display.", json_schema_extra={"example": "Holiday"}
    )
    queue: Queue = Field(
        "bulk", description="The queue of its jobs; `bulk` jobs are processed only while no interactive job is queued."
    )
    model: str = Field(
        "",
        pattern=f"^$|{MODEL}",
        description="The model of its jobs: `NAME` for the live version of that moment, or `NAME@VERSION`. Default: "
        "the default model.",
        json_schema_extra={"example": "cats-dogs"},
    )
    top_k: int | None = Field(
        None, strict=True, ge=1, le=TOP_K_MAX, description=TOP_K_TEXT, json_schema_extra={"example": 5}
    )
    webhook: str = optional_text(WEBHOOK_TEXT, WEBHOOK_EXAMPLE)
    deadline_s: float | None = Field(
        None,
        strict=True,  # otherwise `true` would be one second
        description="Seconds after acceptance at which a job expires if no worker has claimed it.",
        gt=0,
        le=DEADLINE_MAX_S,
        allow_inf_nan=False,
        json_schema_extra={"example": 3600},
    )


class KeyHeader(BaseModel):
    """The `Idempotency-Key` header."""

    idempotency_key: str = optional_text(
        "Makes retries safe: the same key and body return the same submission.",
        "holiday-2026",
        alias="Idempotency-Key",
        max_length=IDEMPOTENCY_KEY_MAX,
    )


class ListQuery(BaseModel):
    """How many submissions to list."""

    limit: int = Field(
        20, ge=1, le=100, description="Maximum number of submissions.", json_schema_extra={"example": 20}
    )


class ResultsQuery(BaseModel):
    """Which results to return, and in which format."""

    cursor: int = optional(
        "Read in order of finishing: `0` reads from the start, other values after the result with this `cursor`.",
        100,
        default=0,
        ge=0,
        le=_PLACE_MAX,
    )
    after: int = Field(
        0,
        ge=0,
        le=_PLACE_MAX,
        description="Read in order of acceptance, after the result with this `n`.",
        json_schema_extra={"example": 100},
    )
    limit: int = optional("Maximum number of results.", 500, ge=1)
    status: list[Status] = optional(
        "Return only jobs with this status; repeatable. Default: all finished jobs.", ["succeeded", "failed"]
    )
    format: Literal["ndjson", "csv"] = optional("The format; takes precedence over `Accept`.", "csv")


class AcceptHeader(BaseModel):
    """The `Accept` header."""

    accept: str = optional_text("`text/csv` for CSV.", "application/x-ndjson", alias="Accept")


class CountsObject(BaseModel):
    """Number of images by status; `total` is the sum of the others."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    rejected: int = Field(description="Rejected as invalid; their results have the status `failed`.")


class SubmissionUrls(BaseModel):
    """Related URLs."""

    self: str
    jobs: str
    results: str
    close: str


class SubmissionObject(BaseModel):
    """A group of images sent together."""

    id: str = Field(pattern=UUID)
    name: str
    queue: Queue
    requested_model: str | None = Field(description="The model of its jobs; null if it names none.")
    deadline_s: float | None
    status: Literal["open", "closed", "finished", "canceled"]
    created_at: str = Field(description="RFC 3339, UTC.")
    closed_at: str | None
    finished_at: str | None = Field(description="When the submission was closed and all its jobs were finished.")
    counts: CountsObject
    rate_per_s: float | None = Field(
        description="Jobs finished per second: the recent rate, or the average once the submission has finished."
    )
    estimated_end_at: str | None = Field(description="When its current jobs will be finished at this rate.")
    urls: SubmissionUrls


class SubmissionList(BaseModel):
    """A list of submissions."""

    submissions: list[SubmissionObject]


class AcceptedImage(BaseModel):
    """An image that became a job."""

    custom_id: str = Field(max_length=CUSTOM_ID_MAX)
    job_id: str = Field(pattern=UUID)
    repeated: bool = Field(description="Whether an earlier request created the job.")


class RejectedImage(BaseModel):
    """An image that did not become a job."""

    custom_id: str = Field(max_length=CUSTOM_ID_MAX, description="Shortened if the name is too long.")
    code: str
    detail: str


class AddedObject(BaseModel):
    """The result of a request that added images."""

    accepted: list[AcceptedImage]
    rejected: list[RejectedImage] = Field(description=f"At most {LISTED_MAX}; the results contain all.")
    more_rejected: int = Field(description="How many more were rejected.")
    left: list[str] = Field(description="The `custom_id` of each image to resend later.")
    left_from: str | None = Field(
        description="The first of these. To continue an archive, resend it from this image onwards."
    )
    skipped: list[str] = Field(
        description="Members of an archive that an operating system added, such as `.DS_Store`; they are not counted. "
        f"At most {LISTED_MAX}."
    )
    more_skipped: int = Field(description="How many more were skipped.")


class ResultLine(BaseModel):
    """One line of the results."""

    model_config = ConfigDict(protected_namespaces=())

    n: int = Field(ge=1, description="Its position in order of acceptance, starting at 1.")
    cursor: int | None = Field(
        ge=1,
        description="Its position in order of finishing, starting at 1; null in order of acceptance.",
    )
    custom_id: str
    job_id: str = Field(pattern=UUID)
    status: Status
    prediction: PredictionObject | None
    error: ErrorObject | None
    model: ModelObject | None
    attempts: int
    timings: TimingsObject | None
    created_at: str
    finished_at: str | None
    warnings: list[str] = Field(description=WARNINGS_TEXT)


# Examples

_URL = f"/v1/submissions/{SUBMISSION_ID}"


def _example(**members: Any) -> dict[str, Any]:
    return {
        "id": SUBMISSION_ID,
        "name": "Holiday",
        "queue": "bulk",
        "requested_model": None,
        "deadline_s": None,
        "status": "open",
        "created_at": "2026-03-01T12:00:00.000Z",
        "closed_at": None,
        "finished_at": None,
        "counts": dict.fromkeys(CountsObject.model_fields, 0),
        "rate_per_s": None,
        "estimated_end_at": None,
        "urls": {
            "self": _URL,
            "jobs": f"{_URL}/jobs",
            "results": f"{_URL}/results",
            "close": f"{_URL}/close",
        },
    } | members


_NONE = dict.fromkeys(CountsObject.model_fields, 0)
OPEN_SUBMISSION = _example()
RUNNING_SUBMISSION = _example(
    status="closed",
    closed_at="2026-03-01T12:00:02.000Z",
    counts=_NONE | {"total": 1000, "queued": 600, "running": 64, "succeeded": 335, "rejected": 1},
    rate_per_s=250.0,
    estimated_end_at="2026-03-01T12:00:07.656Z",
)
FINISHED_SUBMISSION = _example(
    status="finished",
    closed_at="2026-03-01T12:00:02.000Z",
    finished_at="2026-03-01T12:00:07.500Z",
    counts=_NONE | {"total": 1000, "succeeded": 999, "rejected": 1},
    rate_per_s=181.6,
)
CANCELED_SUBMISSION = _example(
    status="canceled",
    closed_at="2026-03-01T12:00:02.000Z",
    finished_at="2026-03-01T12:00:02.400Z",
    counts=_NONE | {"total": 1000, "succeeded": 120, "canceled": 880},
)
_ACCEPTED = {"custom_id": "beach/cat.jpg", "job_id": JOB_ID, "repeated": False}
ADDED = {
    "accepted": [_ACCEPTED],
    "rejected": [{"custom_id": "notes.txt", "code": "not_an_image", "detail": "This is plain text. Send JPEG or PNG."}],
    "more_rejected": 0,
    "left": [],
    "left_from": None,
    "skipped": ["__MACOSX/beach/._cat.jpg"],
    "more_skipped": 0,
}
RESULT_LINE = {
    "n": 1,
    "cursor": 1,
    "custom_id": "beach/cat.jpg",
    "job_id": JOB_ID,
    "status": "succeeded",
    "prediction": PREDICTION,
    "error": None,
    "model": {"name": "cats-dogs", "version": "1"},
    "attempts": 1,
    "timings": {"queue_ms": 4.0, "batch_wait_ms": 1.2, "decode_ms": 2.1, "predict_ms": 11.0},
    "created_at": "2026-03-01T12:00:00.000Z",
    "finished_at": "2026-03-01T12:00:00.023Z",
    "warnings": [],
}


class AddressedImage(AddressBody):
    """An image of a submission that is fetched."""

    custom_id: str = Field(
        "",
        max_length=CUSTOM_ID_MAX,
        description="A name for the image, unique in the submission. Default: its address without the query.",
        json_schema_extra={"example": "beach/cat.jpg"},
    )


class AddressesBody(BaseModel):
    """The addresses of images."""

    model_config = ConfigDict(extra="forbid")

    images: list[AddressedImage] = Field(min_length=1, max_length=_ADDRESSES_MAX)


#: The request body that adds images: a form, a tar or a zip, or their addresses.
IMAGES_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": form_schema(
                {
                    "type": "array",
                    "maxItems": 100,
                    "items": BINARY,
                    "description": "Up to 100 images; the filename of a part becomes its `custom_id`.",
                }
            )
        },
        "application/x-tar": {"schema": BINARY},
        "application/zip": {"schema": BINARY},
        "application/json": {"schema": AddressesBody},
    },
}
