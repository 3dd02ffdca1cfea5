"""Everything that can go wrong with a request or a job. Standard library only, so that clients may use it.

PawqueueError
├── UploadError                 400 bad_request: the request; send something else
│   ├── NoFileError             400 no_file
│   ├── EmptyUploadError        400 empty_upload
│   ├── NotAnImageError         415 not_an_image
│   ├── UnsupportedFormatError  415 unsupported_format
│   ├── UploadTooLargeError     413 upload_too_large
│   └── TooManyPixelsError      413 too_many_pixels
├── UnauthorizedError           401 unauthorized
├── ForbiddenError              403 forbidden
├── NotFoundError               404 not_found
├── ConflictError               409 conflict
├── IdempotencyMismatchError    422 idempotency_mismatch
├── BusyError                   the service: send the same again later
│   ├── QueueFullError          429 queue_full
│   ├── RateLimitedError        429 rate_limited
│   ├── NoModelError            503 no_model
│   └── UnavailableError        503 unavailable
└── JobFailedError              the job: it was accepted and has an error for a result
    ├── UndecodableImageError   422 undecodable_image
    ├── PredictFailedError      500 predict_failed
    ├── WorkerLostError         500 worker_lost
    └── DeadlineExpiredError    504 deadline_expired
"""

from typing import ClassVar


class PawqueueError(Exception):
    """The base of all expected errors; its text says what happened and what to do."""

    #: Stable name for programs.
    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    #: Whether the same request may succeed later.
    retryable: ClassVar[bool] = False
    #: For people, the same for every error of the class.
    title: ClassVar[str] = "Error"

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class UploadError(PawqueueError):
    """The upload was refused; sending the same again is refused again."""

    code, title, http_status = "bad_request", "Bad request", 400


class NoFileError(UploadError):
    """The request carries no image."""

    code, title = "no_file", "No file"


class EmptyUploadError(UploadError):
    """The image has no bytes."""

    code, title = "empty_upload", "Empty upload"


class NotAnImageError(UploadError):
    """The bytes are not an image, or its header is broken."""

    code, title, http_status = "not_an_image", "Not an image", 415


class UnsupportedFormatError(UploadError):
    """An image, but of a format that is not served."""

    code, title, http_status = "unsupported_format", "Unsupported format", 415


class UploadTooLargeError(UploadError):
    """More bytes than the limit."""

    code, title, http_status = "upload_too_large", "Upload too large", 413


class TooManyPixelsError(UploadError):
    """More pixels than the limit."""

    code, title, http_status = "too_many_pixels", "Too many pixels", 413


class UnauthorizedError(PawqueueError):
    """The API key is missing, unknown or revoked."""

    code, title, http_status = "unauthorized", "API key needed", 401


class ForbiddenError(PawqueueError):
    """The API key is good, but not for this."""

    code, title, http_status = "forbidden", "Not allowed", 403


class NotFoundError(PawqueueError):
    """No such thing, or not any more."""

    code, title, http_status = "not_found", "Not found", 404


class ConflictError(PawqueueError):
    """The id is taken."""

    code, title, http_status = "conflict", "Conflict", 409


class IdempotencyMismatchError(PawqueueError):
    """The idempotency key was sent before with another image."""

    code, title, http_status = "idempotency_mismatch", "Idempotency key reused", 422


class BusyError(PawqueueError):
    """Refused for now; nothing was stored."""

    retryable = True
    http_status = 503


class QueueFullError(BusyError):
    """The queue holds as many jobs as it may."""

    code, title, http_status = "queue_full", "Queue full", 429


class RateLimitedError(BusyError):
    """The API key has made as many requests as it may for now."""

    code, title, http_status = "rate_limited", "Too many requests", 429


class NoModelError(BusyError):
    """No worker serves a model."""

    code, title = "no_model", "No model is being served"


class UnavailableError(BusyError):
    """A part that the service stands on does not answer."""

    code, title = "unavailable", "Service unavailable"


class JobFailedError(PawqueueError):
    """The job was accepted and its result is this error."""


class UndecodableImageError(JobFailedError):
    """The image's pixels are truncated or corrupt."""

    code, title, http_status = "undecodable_image", "Undecodable image", 422


class PredictFailedError(JobFailedError):
    """The model raised on this image alone."""

    code, title = "predict_failed", "Prediction failed"


class WorkerLostError(JobFailedError):
    """Workers died on this image as often as is allowed."""

    code, title = "worker_lost", "Worker lost"


class DeadlineExpiredError(JobFailedError):
    """Its deadline passed before a worker took it."""

    code, title, http_status = "deadline_expired", "Deadline expired", 504


def error_classes() -> dict[str, type[PawqueueError]]:
    """Every concrete error by its code."""
    found: dict[str, type[PawqueueError]] = {}
    pending: list[type[PawqueueError]] = [PawqueueError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if "code" in vars(kind) and kind is not PawqueueError:
            found[kind.code] = kind
    return found
