"""Whom a request comes from, and whether it may: API keys and their rates, before any route is called."""

import logging
import time
from dataclasses import dataclass, field

from flask import Flask, Response, g, request
from flask_limiter import Limiter
from limits.errors import StorageError

from contract.access import ANYONE, Access, Caller, Scope
from contract.errors import NotFoundError, RateLimitedError, UnavailableError
from contract.job import Job
from contract.ledger import keys

_BEARER = "bearer "


def caller() -> Caller:
    """Whom the request comes from."""
    found: Caller = g.get("caller", ANYONE)
    return found


def own(job: Job | None) -> Job:
    """The job, if the caller may see it: another's is as unknown as one that never was.

    Raises:
        NotFoundError: it is unknown.
    """
    if job is None or not caller().may_see(job):
        raise NotFoundError("There is no such job: the id is wrong, or its time to live has ended.")
    return job


@dataclass
class Guard:
    """Checks each request by the scope that its route was declared with."""

    access: Access
    #: Where requests are counted: the ledger's Redis, or `memory://`.
    storage_url: str
    #: Of API keys that have no limit of their own.
    rate_limit: str
    #: Endpoint -> what an API key must have for it; one that is not here is open.
    scopes: dict[str, Scope] = field(default_factory=dict)

    def protect(self, app: Flask) -> None:
        """Have `app` check every request; where no API keys are asked for that costs nothing."""
        if not self.access.required:
            return

        @app.before_request
        def admit() -> None:
            scope = self.scopes.get(request.endpoint or "")
            # Browsers ask without a key what they may send (OPTIONS).
            if scope is not None and request.method != "OPTIONS":
                g.caller = self.access.check(credential(), scope)

        limiter = Limiter(
            lambda: caller().owner,
            application_limits=[lambda: caller().rate_limit or self.rate_limit],
            application_limits_exempt_when=lambda: not caller().owner,
            storage_uri=self.storage_url,
            storage_options=_storage_options(self.storage_url),
            strategy="fixed-window",
        )

        # Before the limiter's own hook, so that it is called after it: Flask calls them in reverse.
        @app.after_request
        def tell_rate(response: Response) -> Response:
            if caller().owner:
                _tell_rate(response, limiter)
            return response

        limiter.init_app(app)
        limiter.logger.setLevel(logging.WARNING)  # a flood of requests must not become a flood of lines


def _storage_options(url: str) -> dict[str, str | int]:
    if url.startswith("memory://"):
        return {}
    return {"key_prefix": keys.RATES, "wrap_exceptions": True, "socket_timeout": 2, "socket_connect_timeout": 2}


def credential() -> str:
    """The API key that the request carries; empty without one."""
    given = request.headers.get("Authorization", "")
    if given[: len(_BEARER)].lower() == _BEARER:
        return given[len(_BEARER) :].strip()
    return request.headers.get("X-API-Key", "").strip()


def rate_limited() -> RateLimitedError:
    """The error of a key that asks too often."""
    return RateLimitedError("This API key has made as many requests as it may for now. Ask again later.")


def _tell_rate(response: Response, limiter: Limiter) -> None:
    """Add the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers."""
    limit = limiter.current_limit
    if limit is None:
        return
    try:
        reset_s = min(max(1, limit.reset_at - int(time.time())), limit.limit.get_expiry())
        remaining = 0 if limit.breached else limit.remaining
    except (StorageError, UnavailableError):
        return  # the answer stands without them
    if limit.breached:
        response.headers["Retry-After"] = str(reset_s)
    response.headers["RateLimit-Policy"] = f'"default";q={limit.limit.amount};w={limit.limit.get_expiry()}'
    response.headers["RateLimit"] = f'"default";r={remaining};t={reset_s}'
