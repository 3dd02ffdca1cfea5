"""What every answer carries: the request's id, and what browsers are to refuse."""

import re
import secrets

import structlog
from flask import Flask, Response, g, request
from flask_cors import CORS

REQUEST_ID = "X-Request-ID"
#: An id that a caller or a proxy has given the request; anything else gets one of ours.
_GIVEN_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)
_FOR_BROWSERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
#: What pages of other origins may send and read, where they are allowed at all.
_SENT = ["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Prefer", REQUEST_ID]
_READ = ["Location", "Retry-After", "Preference-Applied", "RateLimit", "RateLimit-Policy", REQUEST_ID]


def add_headers(app: Flask, cors_origins: str) -> None:
    """Have `app` name each request, in its answer and in the logs, and tell browsers to be strict."""
    if cors_origins.strip():
        origins = [origin.strip() for origin in cors_origins.split(",") if origin.strip()]
        CORS(app, origins=origins, allow_headers=_SENT, expose_headers=_READ, max_age=600)

    @app.before_request
    def name_request() -> None:
        given = request.headers.get(REQUEST_ID, "")
        g.request_id = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        # One greenlet answers many requests of a connection: what the last one bound must go.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def finish(response: Response) -> Response:
        headers = response.headers
        headers[REQUEST_ID] = g.request_id
        for name, value in _FOR_BROWSERS.items():
            if name not in headers:
                headers[name] = value
        if request.path.startswith("/v1/") and "Cache-Control" not in headers:
            headers["Cache-Control"] = "no-store"
        return response
