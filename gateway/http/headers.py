"""Headers added to every response: the request id, and security headers for browsers."""

import re
import secrets

import structlog
from flask import Flask, Response, g, request
from flask_cors import CORS

REQUEST_ID = "X-Request-ID"
#: Request ids from clients and proxies that match this are kept; others are replaced.
_VALID_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
#: Headers that pages from the allowed origins may send and read.
_REQUEST_HEADERS = [
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "Content-Encoding",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    REQUEST_ID,
]
_RESPONSE_HEADERS = ["Location", "Retry-After", "Preference-Applied", "RateLimit", "RateLimit-Policy", REQUEST_ID]


def add_headers(app: Flask, origins: list[str]) -> None:
    """Add a request id to every response and log line, and security headers to every response."""
    if origins:
        CORS(app, origins=origins, allow_headers=_REQUEST_HEADERS, expose_headers=_RESPONSE_HEADERS, max_age=600)

    @app.before_request
    def set_request_id() -> None:
        sent = request.headers.get(REQUEST_ID, "")
        g.request_id = sent if _VALID_ID.fullmatch(sent) else secrets.token_hex(8)
        # One greenlet serves all requests of a connection: remove the id of the previous request.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def add_response_headers(response: Response) -> Response:
        headers = response.headers
        headers[REQUEST_ID] = g.request_id
        for name, value in _SECURITY.items():
            if name not in headers:
                headers[name] = value
        if request.path.startswith(("/v1/", "/v2/")) and "Cache-Control" not in headers:
            headers["Cache-Control"] = "no-store"
        return response
