"""Errors as RFC 9457 problem details: what happened, and what to do."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, jsonify, request
from flask_limiter import RateLimitExceeded
from limits.errors import StorageError
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from contract.errors import PawqueueError, UnavailableError, UploadError, UploadTooLargeError
from contract.job import new_job_id
from contract.log import get_logger
from gateway import BROKEN_BODY
from gateway.guard import rate_limited
from gateway.uploads import too_large_text

_log = get_logger(__name__)

#: What to do about errors that the web framework raises.
_ADVICE = {
    400: "The request could not be read. Send a form with a part named `file`, or the image as the body.",
    404: "There is nothing at this address. Jobs are at `/v1/jobs`.",
    405: "This address does not take this method. The `Allow` header lists those it takes.",
}


def problem(status: int, title: str, code: str, detail: str, members: Mapping[str, Any] | None = None) -> Response:
    """A problem+json answer, with further members."""
    body = {"type": f"urn:pawqueue:error:{code}", "title": title, "status": status, "detail": detail, "code": code}
    body |= members or {}
    response = jsonify(body)
    response.status_code = status
    response.content_type = "application/problem+json"
    return response


def problem_of(error: PawqueueError, members: Mapping[str, Any] | None = None) -> Response:
    """The answer to an expected error, with further members."""
    response = problem(error.http_status, error.title, error.code, error.detail, members)
    response.headers.extend(headers_of(error))
    return response


def headers_of(error: PawqueueError) -> dict[str, str]:
    """What an answer to an expected error carries besides its body."""
    headers = {}
    if error.retryable:
        headers["Retry-After"] = str(error.retry_after_s or 1)
    if error.http_status == 413:
        headers["Connection"] = "close"  # the rest of the body is not worth reading
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def known_error(error: Exception, max_bytes: int) -> PawqueueError | None:
    """An expected error, or what the web framework raises in its place."""
    if isinstance(error, RequestEntityTooLarge):
        return UploadTooLargeError(too_large_text(max_bytes))
    if isinstance(error, ClientDisconnected):
        request.environ[BROKEN_BODY] = True
        return UploadError("The body ended or stalled before all of it had come. Send the request again.")
    if isinstance(error, RateLimitExceeded):
        return rate_limited()
    if isinstance(error, StorageError):
        return UnavailableError("The job ledger (Redis) does not answer; try again shortly.")
    return error if isinstance(error, PawqueueError) else None


def register_problem_handlers(app: Flask, max_bytes: int) -> None:
    """Answer every error of `app` with a problem."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response:
        if known := known_error(error, max_bytes):
            return problem_of(known)
        if isinstance(error, HTTPException) and (error.code or 500) < 500:
            return _of_framework(error)
        return _of_surprise(error)


def _of_framework(error: HTTPException) -> Response:
    status = error.code or 400
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request")
    response = problem(status, error.name, code, _ADVICE.get(status, error.description or error.name))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _of_surprise(error: Exception) -> Response:
    log_id = log_surprise(error)
    return problem(500, "Internal error", "internal", surprise_text(log_id))


def log_surprise(error: Exception) -> str:
    """Log an unexpected error; returns the id under which the log has it."""
    log_id = new_job_id()
    fields: dict[str, Any] = {"log_id": log_id, "method": request.method, "path": request.path}
    _log.error("A request failed unexpectedly", exc_info=error, **fields)
    return log_id


def surprise_text(log_id: str) -> str:
    """What a caller is told of an unexpected error: nothing but where to find it."""
    return f"Something failed that should not have. The gateway's log has it under {log_id}."
