"""What goes over HTTP about submissions: checked with these models, documented from them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.incoming import CUSTOM_ID_MAX
from gateway.schemas import (
    DEADLINE_MAX_S,
    UUID,
    ErrorObject,
    ModelObject,
    PredictionObject,
    Queue,
    Status,
    TimingsObject,
    WaitHeader,
    absent,
    shown,
)

_NAME_MAX = 200
_KEY_MAX = 255
SUBMISSION_ID = "0192f3a4-5b6c-7d8e-9f01-0123456789ab"


class SubmissionPath(BaseModel):
    """The id of a submission in an address."""

    submission_id: str = Field(
        pattern=UUID, description="A submission's id: a UUID.", json_schema_extra={"example": SUBMISSION_ID}
    )


class SubmissionWish(BaseModel):
    """What a submission is to be; every member may be missing."""

    name: str = Field("", max_length=_NAME_MAX, description="For people.", json_schema_extra={"example": "Holiday"})
    queue: Queue = Field("bulk", description="Of its jobs: `bulk` is served when no interactive job waits.")
    deadline_s: float | None = Field(
        None,
        strict=True,  # else `true` would be a second
        description="Seconds from an image's acceptance: if no worker has taken it by then, it ends `expired`.",
        gt=0,
        le=DEADLINE_MAX_S,
        allow_inf_nan=False,
        json_schema_extra={"example": 3600},
    )


class KeyHeader(BaseModel):
    """The sender's name for this request."""

    idempotency_key: str = shown(
        "The same key and body give the same submission, so that sending again does no harm.",
        "holiday-2026",
        alias="Idempotency-Key",
        max_length=_KEY_MAX,
    )


class FinishWaitHeader(WaitHeader):
    """A wish to wait (RFC 7240)."""

    prefer: str = shown(
        "`wait=10`: answer when it has finished, at the latest after 10 s. What cannot be read is ignored.",
        "wait=10",
        alias="Prefer",
    )


class ListQuery(BaseModel):
    """How many to list."""

    limit: int = Field(20, ge=1, le=100, description="Most submissions listed.", json_schema_extra={"example": 20})


class ResultsQuery(BaseModel):
    """Which results, and in which form."""

    after: int = Field(
        0,
        ge=0,
        le=2**53,
        description="Go on behind the image of this place `n` in the order of acceptance.",
        json_schema_extra={"example": 100},
    )
    limit: int = absent("At most so many; what lies behind the last of them is not even looked at.", 500, ge=1)
    status: list[Status] = absent(
        "Only jobs in these states; may be repeated. Without it: those that have ended.", ["succeeded", "failed"]
    )
    format: Literal["ndjson", "csv"] = absent("The form; it goes before `Accept`.", "csv")


class AcceptHeader(BaseModel):
    """The form that is wanted."""

    accept: str = shown("`text/csv` for CSV.", "application/x-ndjson", alias="Accept")


class CountsObject(BaseModel):
    """Its images by state; `total` is the sum of the others."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    rejected: int = Field(description="Refused as no image; their rows say `failed`.")


class SubmissionUrls(BaseModel):
    """Where to go on."""

    self: str
    jobs: str
    results: str
    close: str


class SubmissionObject(BaseModel):
    """Many jobs sent together."""

    id: str = Field(pattern=UUID)
    name: str
    queue: Queue
    deadline_s: float | None
    status: Literal["open", "closed", "finished", "canceled"]
    created_at: str = Field(description="RFC 3339, UTC.")
    closed_at: str | None
    finished_at: str | None = Field(description="When it was closed and all its jobs had ended.")
    counts: CountsObject
    rate_per_s: float | None = Field(description="Jobs that end per second: lately, or over all once it has finished.")
    estimated_end_at: str | None = Field(description="When what it holds now will have ended at this rate.")
    urls: SubmissionUrls


class SubmissionList(BaseModel):
    """Some submissions."""

    submissions: list[SubmissionObject]


class AcceptedImage(BaseModel):
    """An image that is a job now."""

    custom_id: str = Field(max_length=CUSTOM_ID_MAX)
    job_id: str = Field(pattern=UUID)
    repeated: bool = Field(description="It was sent before: the job is the one of then.")


class RejectedImage(BaseModel):
    """An image that cannot be a job."""

    custom_id: str
    code: str
    detail: str


class TakenObject(BaseModel):
    """What became of the images of one request."""

    accepted: list[AcceptedImage]
    rejected: list[RejectedImage]
    left: list[str] = Field(description="The `custom_id` of images that are to be sent again later.")
    left_from: str | None = Field(description="The first of them; of an archive everything from it on is left.")


class ResultLine(BaseModel):
    """A line of the results."""

    model_config = ConfigDict(protected_namespaces=())

    n: int = Field(ge=1, description="Its place in the order of acceptance.")
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
