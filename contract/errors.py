"""Errors of requests and jobs. Uses only the standard library, because the client imports this module.

PawqueueError
├── UploadError                 400 bad_request: the request is invalid; resending it fails again
│   ├── NoFileError             400 no_file
│   ├── EmptyUploadError        400 empty_upload
│   ├── NotAnImageError         415 not_an_image
│   ├── UnsupportedFormatError  415 unsupported_format
│   ├── UnsupportedEncodingError 415 unsupported_encoding
│   ├── UploadTooLargeError     413 upload_too_large
│   ├── TooManyPixelsError      413 too_many_pixels
│   ├── InvalidWebhookError     422 invalid_webhook
│   ├── UrlTooLongError         414 url_too_long
│   └── HeadersTooLargeError    431 headers_too_large
├── UnauthorizedError           401 unauthorized
├── ForbiddenError              403 forbidden
├── ForbiddenOriginError        403 forbidden_origin
├── NotFoundError               404 not_found
├── UnknownModelError           404 unknown_model
├── ConflictError               409 conflict
│   ├── ModelChangedError       409 model_changed
│   ├── ModelChangingError      409 model_changing
│   └── NotPromotedError        409 not_promoted
├── IdempotencyMismatchError    422 idempotency_mismatch
├── BusyError                   the request is refused for now; resend it later
│   ├── QueueFullError          429 queue_full
│   ├── TooManySubmissionsError 429 too_many_submissions
│   ├── RateLimitedError        429 rate_limited
│   ├── HeadTooSlowError        408 head_too_slow
│   ├── NoModelError            503 no_model
│   └── UnavailableError        503 unavailable
└── JobFailedError              the job was accepted, but finished with an error
    ├── UndecodableImageError   422 undecodable_image
    ├── PredictFailedError      500 predict_failed
    ├── UnusableModelError      500 unusable_model
    ├── WorkerLostError         500 worker_lost
    └── DeadlineExpiredError    504 deadline_expired
"""

from typing import ClassVar


class PawqueueError(Exception):
    """Base of all expected errors. The message says what is wrong and what to do."""

    #: Stable and machine-readable.
    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    #: Whether the same request may succeed later.
    retryable: ClassVar[bool] = False
    #: Short and human-readable; the same for every error of the class.
    title: ClassVar[str] = "Error"

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class UploadError(PawqueueError):
    """The request is invalid; resending it fails again."""

    code, title, http_status = "bad_request", "Bad request", 400


class NoFileError(UploadError):
    """The request contains no image."""

    code, title = "no_file", "No file"


class EmptyUploadError(UploadError):
    """The image is empty."""

    code, title = "empty_upload", "Empty upload"


class NotAnImageError(UploadError):
    """The bytes are not an image, or its header is broken."""

    code, title, http_status = "not_an_image", "Not an image", 415


class UnsupportedFormatError(UploadError):
    """The image format is not supported."""

    code, title, http_status = "unsupported_format", "Unsupported format", 415


class UnsupportedEncodingError(UploadError):
    """The body is compressed in a way that is not supported."""

    code, title, http_status = "unsupported_encoding", "Unsupported encoding", 415


class UploadTooLargeError(UploadError):
    """The image is larger than the limit in bytes."""

    code, title, http_status = "upload_too_large", "Upload too large", 413


class TooManyPixelsError(UploadError):
    """The image has more pixels than the limit."""

    code, title, http_status = "too_many_pixels", "Too many pixels", 413


class InvalidWebhookError(UploadError):
    """Nothing can be delivered to the URL of the webhook."""

    code, title, http_status = "invalid_webhook", "Invalid webhook", 422


class UrlTooLongError(UploadError):
    """The URL is longer than the limit."""

    code, title, http_status = "url_too_long", "URL too long", 414


class HeadersTooLargeError(UploadError):
    """The request has too many header fields, or one that is too long."""

    code, title, http_status = "headers_too_large", "Header fields too large", 431


class FetchNotAllowedError(UploadError):
    """Images are not fetched from this address."""

    code, title, http_status = "fetch_not_allowed", "Address not allowed", 403


class UnauthorizedError(PawqueueError):
    """The API key is missing, unknown or revoked."""

    code, title, http_status = "unauthorized", "API key required", 401


class ForbiddenError(PawqueueError):
    """The API key is valid but lacks the required scope."""

    code, title, http_status = "forbidden", "Forbidden", 403


class ForbiddenOriginError(PawqueueError):
    """A web page of another origin sent the request, or its host name is not allowed."""

    code, title, http_status = "forbidden_origin", "Forbidden origin", 403


class NotFoundError(PawqueueError):
    """The resource does not exist, or has expired."""

    code, title, http_status = "not_found", "Not found", 404


class UnknownModelError(PawqueueError):
    """There is no model or version with this name."""

    code, title, http_status = "unknown_model", "Unknown model", 404


class ConflictError(PawqueueError):
    """The id is already in use, or the submission is closed."""

    code, title, http_status = "conflict", "Conflict", 409


class ModelChangedError(ConflictError):
    """The model has changed since the revision that the request names."""

    code, title = "model_changed", "Model changed"


class ModelChangingError(ConflictError):
    """Another change of the model's live version is in progress."""

    code, title = "model_changing", "Model is changing"


class NotPromotedError(ConflictError):
    """The version did not become live, and the model is as it was before."""

    code, title = "not_promoted", "Not promoted"


class IdempotencyMismatchError(PawqueueError):
    """The idempotency key was already used for a different request."""

    code, title, http_status = "idempotency_mismatch", "Idempotency key reused", 422


class BusyError(PawqueueError):
    """The request is refused for now. Resend it later."""

    retryable = True
    http_status = 503


class QueueFullError(BusyError):
    """The queue is full."""

    code, title, http_status = "queue_full", "Queue full", 429


class TooManySubmissionsError(BusyError):
    """The API key has too many open submissions."""

    code, title, http_status = "too_many_submissions", "Too many open submissions", 429


class RateLimitedError(BusyError):
    """The API key has exceeded its rate limit."""

    code, title, http_status = "rate_limited", "Too many requests", 429


class HeadTooSlowError(BusyError):
    """The head of the request did not arrive in time."""

    code, title, http_status = "head_too_slow", "Request timeout", 408


class NoModelError(BusyError):
    """No worker is serving a model."""

    code, title = "no_model", "No model is being served"


class UnavailableError(BusyError):
    """A backing service, such as Redis or the image store, is not responding."""

    code, title = "unavailable", "Service unavailable"


class JobFailedError(PawqueueError):
    """The job was accepted, but finished with this error."""


class UndecodableImageError(JobFailedError):
    """The image data is truncated or corrupt."""

    code, title, http_status = "undecodable_image", "Undecodable image", 422


class FetchFailedError(JobFailedError):
    """The image could not be fetched from its address."""

    code, title, http_status = "fetch_failed", "Image not fetched", 502


class PredictFailedError(JobFailedError):
    """The model failed on this image."""

    code, title = "predict_failed", "Prediction failed"


class UnusableModelError(JobFailedError):
    """The version of the model that the job names cannot be used."""

    code, title = "unusable_model", "Unusable model"


class WorkerLostError(JobFailedError):
    """Every attempt to process this image killed its worker."""

    code, title = "worker_lost", "Worker lost"


class DeadlineExpiredError(JobFailedError):
    """The deadline passed before a worker started the job."""

    code, title, http_status = "deadline_expired", "Deadline expired", 504


def error_classes() -> dict[str, type[PawqueueError]]:
    """All concrete error classes by code."""
    found: dict[str, type[PawqueueError]] = {}
    pending: list[type[PawqueueError]] = [PawqueueError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if "code" in vars(kind) and kind is not PawqueueError:
            found[kind.code] = kind
    return found
