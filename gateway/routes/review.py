"""`/v1/review`: images of doubtful results, which people label one by one."""

from typing import Any

from flask import Response
from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import ConflictError, NotFoundError
from contract.images.formats import media_type_of
from contract.job import ModelRef, time_text
from contract.ledger.reviews import KeptImage, Reviewed, ReviewReason
from gateway.http.auth import caller, manageable
from gateway.http.job_schemas import BINARY, JOB_ID, UUID, JobPath, ModelObject, optional
from gateway.http.routing import JsonResponse, Routes
from gateway.routes.feedback import LABEL_MAX, check_label, labels_of
from gateway.services import Services, current_services

routes = Routes(
    "review",
    "Images of doubtful results, kept so that people label them. A key sees the images that were sent with it; with "
    "the scope `admin` too, it sees all.",
    "/v1/review",
)

#: How long no other reviewer gets an image.
LEASE_S = 60
_REVIEWER_MAX = 64
_PAGE_MAX = 100
#: How many images without data are removed in one request.
_MISSING_MAX = 20


class ReviewObject(BaseModel):
    """An image that is kept for review."""

    job_id: str
    reason: str = Field(
        description="Why it is kept: " + ", ".join(f"`{reason}`" for reason in ReviewReason) + ". There may be others."
    )
    file: str
    size_bytes: int
    predicted: str
    confidence: float
    model: ModelObject
    kept_at: str
    label: str | None = Field(description="What the image shows; null before somebody labeled it.")
    labeled_by: str | None = Field(description="Id of the API key with which it was labeled.")
    labeled_at: str | None


class CountsOfReview(BaseModel):
    """How many images are kept for review."""

    kept: int
    reviewed: int = Field(description="Number of kept images that have a label.")


class ReviewList(CountsOfReview):
    """Images that are kept for review, in the order in which they were kept."""

    images: list[ReviewObject]
    next: int | None = Field(description="The `after` of the next page; null after the last one.")


class ReviewTask(ReviewObject):
    """An image for a reviewer."""

    labels: list[str] = Field(description="The labels of the model; empty if its version is no longer registered.")
    preview: str | None = Field(description="A WebP image in Base64, if browsers may not show the image itself.")


class ReviewClaim(CountsOfReview):
    """What a reviewer does next."""

    image: ReviewTask | None = Field(description="null if no image waits.")
    lease_s: int = Field(description="For this time, no other reviewer gets the image.")


class ListQuery(BaseModel):
    """Which images to list."""

    labeled: bool = Field(
        default=False, description="Only images that have a label.", json_schema_extra={"example": True}
    )
    after: int = optional("The `next` of the page before.", 17, default=0, ge=0, le=2**53)
    limit: int = optional("Maximum number of images.", 50, default=_PAGE_MAX, ge=1, le=_PAGE_MAX)


class ClaimBody(BaseModel):
    """Who reviews."""

    model_config = ConfigDict(extra="forbid")

    reviewer: str = Field(
        min_length=1, max_length=_REVIEWER_MAX, description="Identifies the reviewer: a random text for each page."
    )
    job_id: str | None = Field(
        None,
        pattern=UUID,
        description="The image, to keep it for longer or to return to it. A label that this reviewer gave it is taken "
        "back. Default: the image that waits longest.",
    )


class LabelBody(BaseModel):
    """What an image shows."""

    model_config = ConfigDict(extra="forbid")

    reviewer: str = Field(min_length=1, max_length=_REVIEWER_MAX)
    label: str | None = Field(
        min_length=1, max_length=LABEL_MAX, description="One of the model's labels. null: skip it for ten minutes."
    )


def _image(kept: KeptImage) -> dict[str, Any]:
    return {
        "job_id": kept.job_id,
        "reason": kept.reason,
        "file": kept.file,
        "size_bytes": kept.size_bytes,
        "predicted": kept.predicted,
        "confidence": kept.confidence,
        "model": {"name": kept.model, "version": kept.version},
        "kept_at": time_text(kept.kept_ms),
        "label": kept.label or None,
        "labeled_by": kept.labeled_by or None,
        "labeled_at": time_text(kept.labeled_ms or None),
    }


_KEPT = KeptImage(
    *(JOB_ID, ReviewReason.LOW_CONFIDENCE, "", 55_000, "cat", 0.56, "cats-dogs", "1", 20_514),
    file="cat.jpg",
    kept_ms=1_772_366_400_000,
)
_TASK = _image(_KEPT) | {"labels": ["cat", "dog"], "preview": None}
_COUNTS = {"kept": 80, "reviewed": 12}
_LABELED = _image(_KEPT) | {"label": "dog", "labeled_at": "2026-03-01T12:02:00.000Z"}


@routes.add(
    "GET",
    "",
    scope=Scope.READ,
    responses={200: JsonResponse(ReviewList, "A page.", {"labeled": _COUNTS | {"images": [_LABELED], "next": None}})},
)
def listed(query: ListQuery) -> dict[str, Any]:
    """List the images that are kept for review, in pages.

    A page may contain fewer images than `limit`, or none, although there are more.
    """
    reviews, owner = current_services().ledger.reviews, _owner()
    found = reviews.after(query.after, owner, query.limit)
    following = found[-1][0] if len(found) == query.limit else None
    images = [_image(kept) for _, kept in found if kept.label or not query.labeled]
    return _counts(owner) | {"images": images, "next": following}


@routes.add(
    "POST",
    "/claims",
    scope=(Scope.READ, Scope.SUBMIT),
    responses={
        200: JsonResponse(
            ReviewClaim,
            "The image, or null.",
            {
                "image": _COUNTS | {"image": _TASK, "lease_s": LEASE_S},
                "none": {"kept": 12, "reviewed": 12, "image": None, "lease_s": LEASE_S},
            },
        )
    },
    errors=(NotFoundError, ConflictError),
)
def claim(body: ClaimBody) -> dict[str, Any]:
    """Get an image to review. No other reviewer gets it for a minute; get it again to keep it for longer."""
    services, owner = current_services(), _owner()
    if body.job_id:
        _find(services, body.job_id)
    kept = _claim(services, body.reviewer, owner, body.job_id or "")
    if body.job_id and not kept:
        raise ConflictError("Another reviewer has this image, or labeled it. Get the next one.")
    task = (
        _image(kept) | {"labels": labels_of(kept.model, kept.version), "preview": kept.preview or None}
        if kept
        else None
    )
    return _counts(owner) | {"image": task, "lease_s": LEASE_S}


@routes.add(
    "POST",
    "/<job_id>/label",
    scope=Scope.SUBMIT,
    responses={200: JsonResponse(ReviewObject, "The image.", {"labeled": _LABELED, "skipped": _image(_KEPT)})},
    errors=(NotFoundError, ConflictError),
)
def label(path: JobPath, body: LabelBody) -> dict[str, Any]:
    """Record what an image shows, or skip it. The label is feedback on its job, even if the job has expired."""
    services = current_services()
    kept = _find(services, path.job_id)
    if body.label is not None:
        check_label(body.label, ModelRef(kept.model, kept.version))
    done = services.ledger.reviews.label(path.job_id, body.reviewer, body.label or "", caller().owner)
    if done is Reviewed.TAKEN:
        raise ConflictError("Another reviewer has this image, or labeled it. Get the next one.")
    found = services.ledger.reviews.get(path.job_id) if done is Reviewed.DONE else None
    if found is None:
        raise _not_kept()
    return _image(found)


@routes.add(
    "GET",
    "/<job_id>/image",
    scope=Scope.READ,
    responses={
        200: {
            "description": "The image as it was sent.",
            "content": {"image/*": {"schema": BINARY, "example": "(the bytes of the image)"}},
        }
    },
    errors=(NotFoundError,),
)
def image(path: JobPath) -> Response:
    """Read an image that is kept for review, as it was sent."""
    services = current_services()
    data = services.images.get([_find(services, path.job_id).image])[0]
    if data is None:
        raise _not_kept()
    return Response(data, mimetype=media_type_of(data))


def _owner() -> str:
    """The owner whose images the caller may see; empty if they may see all.

    Raises:
        NotFoundError: they may see none.
    """
    current = caller()
    if current.sees_all or current.is_admin:
        return ""
    if not current.owner:
        raise NotFoundError("No images are kept for you.")
    return current.owner


def _find(services: Services, job_id: str) -> KeptImage:
    kept = services.ledger.reviews.get(job_id)
    if kept is None:
        raise _not_kept()
    manageable(kept.job)
    return kept


def _claim(services: Services, reviewer: str, owner: str, job_id: str) -> KeptImage | None:
    """Lease an image; those whose data is missing are removed from review."""
    reviews = services.ledger.reviews
    for _ in range(_MISSING_MAX):
        kept = reviews.claim(reviewer, owner, LEASE_S * 1000, job_id)
        if kept is None or services.images.get([kept.image])[0] is not None:
            return kept
        reviews.drop(kept.job_id)
        if job_id:
            break
    return None


def _counts(owner: str) -> dict[str, int]:
    counts = current_services().ledger.reviews.counts(owner)
    return {"kept": counts.kept, "reviewed": counts.reviewed}


def _not_kept() -> NotFoundError:
    return NotFoundError("This image is not kept for review: the id is wrong, or the image has expired or was purged.")
