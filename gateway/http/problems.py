"""Error responses as RFC 9457 problem details: what is wrong, and what to do."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, jsonify, request
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from contract.errors import (
    PawqueueError,
    UnsupportedEncodingError,
    UploadError,
    UploadTooLargeError,
)
from contract.job import new_job_id
from contract.log import get_logger
from gateway.accept.check import too_large_text
from gateway.http.request import ACCEPTED_ENCODINGS
from gateway.http.routing import link
from gateway.services import current_services

_log = get_logger(__name__)

#: Details of the errors that the web framework raises.
_DETAILS = {
    400: "The request is malformed. Send a form with a part named `file`, or the image as the body.",
    405: "This endpoint does not support this method. The `Allow` header lists the supported methods.",
}


def problem_of(error: PawqueueError, members: Mapping[str, Any] | None = None) -> Response:
    """The response to an expected error; `members` are added to its body."""
    response = _problem(error.http_status, error.title, error.code, error.detail, members)
    response.headers.extend(headers_of(error))
    return response


def headers_of(error: PawqueueError) -> dict[str, str]:
    """The headers of the response to an expected error."""
    headers = {}
    if error.retryable:
        headers["Retry-After"] = str(error.retry_after_s or 1)
    if error.http_status == 413:
        headers["Connection"] = "close"  # the rest of the body is not read
    if isinstance(error, UnsupportedEncodingError):
        headers["Accept-Encoding"] = ACCEPTED_ENCODINGS
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def expected_error(error: Exception) -> PawqueueError | None:
    """Convert an expected error, including those of the web framework, to a `PawqueueError`; None for any other."""
    if isinstance(error, RequestEntityTooLarge):
        return UploadTooLargeError(too_large_text(current_services().settings.upload_max_bytes))
    if isinstance(error, ClientDisconnected):
        return broken_body(error)
    return error if isinstance(error, PawqueueError) else None


def broken_body(error: ClientDisconnected) -> UploadError:
    """The error for a body that could not be read."""
    cause = error.__context__  # what the web server raised
    if isinstance(cause, InvalidChunkSize | InvalidChunkExtension | ChunkMissingTerminator):
        return UploadError(f"The chunks of the request body are malformed: {cause}. Resend it.")
    if isinstance(cause, TimeoutError):
        return UploadError("The request body stalled or arrived too slowly. Resend the request.")
    return UploadError("The request body ended early. Resend the request.")


def register_problem_handlers(app: Flask) -> None:
    """Make `app` return a problem for every error."""

    @app.errorhandler(Exception)
    def handle(error: Exception) -> Response:
        if expected := expected_error(error):
            return problem_of(expected)
        if isinstance(error, HTTPException) and (error.code or 500) < 500:
            return _framework_problem(error)
        return _problem(500, "Internal error", "internal", log_unexpected(error))


def log_unexpected(error: Exception) -> str:
    """Log an unexpected error; returns a message for the client with the id of the log entry."""
    log_id = new_job_id()
    sent = {"method": request.method, "path": request.path, "client": request.remote_addr}
    _log.error("Unexpected error", exc_info=error, log_id=log_id, **sent)
    return f"An unexpected error occurred. Search the gateway's log for {log_id}."


def _framework_problem(error: HTTPException) -> Response:
    status = error.code or 400
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "bad_request")
    response = _problem(status, error.name, code, _detail(status, error))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _detail(status: int, error: HTTPException) -> str:
    if status == 404 and request.path == "/metrics":
        return (
            "Metrics are on a port of their own, `PAWQUEUE_GATEWAY_METRICS_PORT` (by default 9100). Scrape that port."
        )
    if status == 404:
        return f"No such endpoint. Jobs are at `{link('/v1/jobs')}`."
    return _DETAILS.get(status, error.description or error.name)


def _problem(status: int, title: str, code: str, detail: str, members: Mapping[str, Any] | None = None) -> Response:
    body = {"type": f"urn:pawqueue:error:{code}", "title": title, "status": status, "detail": detail, "code": code}
    response = jsonify(body | dict(members or {}))
    response.status_code = status
    response.content_type = "application/problem+json"
    g.problem_code = code  # for the metrics, which would otherwise have to parse the body
    return response
