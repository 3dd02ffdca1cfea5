"""Classifies the images of one request and waits for the results of all, for protocols without jobs."""

from collections.abc import Iterator
from typing import Any

from flask import request

from contract.errors import (
    DeadlineExpiredError,
    EmptyUploadError,
    ForbiddenError,
    ForbiddenOriginError,
    JobFailedError,
    NoModelError,
    NotAnImageError,
    PawqueueError,
    PredictFailedError,
    QueueFullError,
    TooManyPixelsError,
    UnavailableError,
    UndecodableImageError,
    UnknownModelError,
    UnsupportedEncodingError,
    UnsupportedFormatError,
    UnusableModelError,
    UploadError,
    UploadTooLargeError,
    WorkerLostError,
    error_classes,
)
from contract.job import Job, Prediction, split_model
from contract.queues import INTERACTIVE
from gateway import GROUP_MAX_BYTES
from gateway.accept.acceptor import GROUP_MAX_JOBS, Upload, of_image
from gateway.accept.inline import ImageBudget
from gateway.http.auth import caller
from gateway.routes.bodies import clean_name, release_body
from gateway.services import current_services

#: Maximum number of images in one request.
IMAGES_MAX = GROUP_MAX_JOBS
#: Models with more labels keep the probabilities of the most likely ones only.
ALL_LABELS_MAX = 100
#: Room in a body for the JSON around the images.
_JSON_MAX_BYTES = 131_072
#: The errors of a request that reads a model.
MODEL_ERRORS: tuple[type[PawqueueError], ...] = (
    *(ForbiddenError, ForbiddenOriginError, UnknownModelError, UnavailableError),
)
#: The errors of a request that waits for its results.
WAITING_ERRORS: tuple[type[PawqueueError], ...] = (
    *MODEL_ERRORS,
    *(UploadError, EmptyUploadError, NotAnImageError, UnsupportedFormatError, UnsupportedEncodingError),
    *(UploadTooLargeError, TooManyPixelsError, QueueFullError, NoModelError),
    *(UndecodableImageError, PredictFailedError, UnusableModelError, WorkerLostError, DeadlineExpiredError),
)


def begin_body() -> ImageBudget:
    """Prepare to read a body with several images, also in base64; returns the bytes that the images may have."""
    settings = current_services().settings
    max_bytes = settings.upload_max_bytes + GROUP_MAX_BYTES
    request.max_content_length = max_bytes * 4 // 3 + _JSON_MAX_BYTES
    return ImageBudget(settings.upload_max_bytes, max_bytes)


def check_model(model: str) -> None:
    """Check that a model exists, and that a worker takes its jobs.

    Raises:
        UnknownModelError: it does not exist.
        NoModelError: no worker takes its jobs.
    """
    current_services().models.check(model)
    check_served(model)


def check_served(model: str) -> None:
    """Check that a worker takes the jobs of a model.

    Raises:
        NoModelError: none does.
    """
    if not is_served(model):
        raise NoModelError("No worker serves this model. Start one, then try again.", retry_after_s=5)


def is_served(model: str = "") -> bool:
    """Whether a worker takes jobs of this model, or of the default model."""
    ledger = current_services().ledger
    try:
        name = split_model(model)[0] or ledger.models.default()
        return any(beat.takes_jobs_of(name) for beat in ledger.workers())
    except UnavailableError:
        return False


def classify(images: Iterator[tuple[str, bytes]], model: str, top_k: int = 0) -> list[Job]:
    """Accept all images, each a file name and bytes, or none; wait for their results, and return the jobs.

    Raises:
        PawqueueError: an image is invalid, has no prediction, or the service cannot accept the images now.
    """
    services = current_services()
    wait_s = services.settings.predict_wait_s
    sender = caller()
    options: dict[str, Any] = {
        "deadline_s": wait_s,
        "owner": sender.owner,
        "webhook": sender.webhook,
        "model": model,
        "top_k": top_k,
    }
    uploads: list[Upload] = []
    for name, data in images:
        if len(uploads) == IMAGES_MAX:
            raise UploadTooLargeError(
                f"A request may contain {IMAGES_MAX} images. Send several requests, or a submission (/v1/submissions)."
            )
        uploads.append(Upload(data, INTERACTIVE, file=clean_name(name), **options))
    if not uploads:
        raise UploadError("The request contains no images. Send at least one.")
    del data  # or it would keep the last image in memory
    jobs = services.acceptor.submit_all(uploads, wait_s, release_body)
    for number, job in enumerate(jobs, 1):
        if error := _error_of(job):
            raise of_image(error, number, len(jobs))
    return jobs


def prediction_of(job: Job) -> Prediction:
    """The prediction of a job that `classify` returned."""
    assert job.result  # noqa: S101
    assert job.result.prediction  # noqa: S101
    return job.result.prediction


def _error_of(job: Job) -> PawqueueError | None:
    """Why a job has no prediction."""
    if job.result is None:
        return UnavailableError("No worker processed the image in time. Try again shortly.", retry_after_s=5)
    if job.result.error:
        kind = error_classes().get(job.result.error.code, JobFailedError)
        return kind(job.result.error.detail)
    return None
