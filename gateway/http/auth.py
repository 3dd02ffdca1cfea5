"""API keys and rate limits, checked before a view is called."""

import logging
import time
from collections.abc import Iterable

from flask import Flask, Response, g, request
from flask_limiter import Limiter
from limits.errors import StorageError

from contract.access import ANYONE, Access, Caller
from contract.errors import NotFoundError, RateLimitedError, UnavailableError
from contract.job import Job
from contract.ledger import keys
from contract.settings import Settings
from contract.web.bodies import CALLER
from gateway.http.routing import Routes

_BEARER = "bearer "


def caller() -> Caller:
    """The caller of the current request."""
    current: Caller = g.get("caller", ANYONE)
    return current


def visible(job: Job | None) -> Job:
    """Return `job` if the caller may see it; the job of another owner is treated as unknown.

    Raises:
        NotFoundError: there is no such job for this caller.
    """
    if job is None or not caller().may_see(job):
        raise _no_such_job()
    return job


def purgeable(job: Job | None) -> Job:
    """Return `job` if the caller may purge it.

    Raises:
        NotFoundError: there is no such job for this caller.
    """
    if job is None or not caller().may_purge(job):
        raise _no_such_job()
    return job


def _no_such_job() -> NotFoundError:
    return NotFoundError("No such job: the id is wrong, or the job has expired or was purged.")


def require_keys(app: Flask, access: Access, settings: Settings, parts: Iterable[Routes]) -> None:
    """Make `app` check the API key and rate limit of every request to a route with a scope."""
    scopes = {
        f"{routes.blueprint.name}.{operation.view.__name__}": operation.required_scope(settings)
        for routes in parts
        for operation in routes.operations
    }

    @app.before_request
    def check_key() -> None:
        scope = scopes.get(request.endpoint or "")
        # A browser's preflight request (OPTIONS) has no key.
        if scope is not None and request.method != "OPTIONS":
            g.caller = access.check(_credential(), scope)
            request.environ[CALLER] = g.caller.owner

    limiter = Limiter(
        lambda: caller().owner,
        application_limits=[lambda: caller().rate_limit or settings.rate_limit],
        application_limits_exempt_when=lambda: not caller().owner,
        storage_uri=settings.redis_address().replace("unix://", "redis+unix://", 1),  # the name that limits has for it
        storage_options={
            "key_prefix": keys.RATES,
            "wrap_exceptions": True,
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
        },
        strategy="fixed-window",
    )

    # Flask calls these hooks in reverse order, and this one must run after the limiter's.
    @app.after_request
    def add_rate(response: Response) -> Response:
        if caller().owner:
            _add_rate_headers(response, limiter)
        return response

    limiter.init_app(app)
    limiter.logger.setLevel(logging.WARNING)  # otherwise a flood of requests would fill the log


def rate_limited() -> RateLimitedError:
    """The error for a key over its rate limit."""
    return RateLimitedError("This API key has reached its rate limit. Wait for the time in `Retry-After`.")


def _credential() -> str:
    """The API key of the request; empty if it has none."""
    authorization = request.headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return request.headers.get("X-API-Key", "").strip()


def _add_rate_headers(response: Response, limiter: Limiter) -> None:
    """Add the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers."""
    limit = limiter.current_limit
    if limit is None:
        return
    try:
        reset_s = min(max(1, limit.reset_at - int(time.time())), limit.limit.get_expiry())
        remaining = 0 if limit.breached else limit.remaining
    except (StorageError, UnavailableError):
        return
    if limit.breached:
        response.headers["Retry-After"] = str(reset_s)
    response.headers["RateLimit-Policy"] = f'"default";q={limit.limit.amount};w={limit.limit.get_expiry()}'
    response.headers["RateLimit"] = f'"default";r={remaining};t={reset_s}'
