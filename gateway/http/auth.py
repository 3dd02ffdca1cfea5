"""API keys and rate limits, checked before a view is called."""

from collections.abc import Iterable

from flask import Flask, Response, g, request

from contract.access import ANYONE, Access, Caller
from contract.errors import NotFoundError
from contract.job import Job
from contract.rates import RateLimits, Window
from contract.settings import Settings
from contract.web.bodies import CALLER
from contract.web.turns import take_turns_of
from gateway.http.routing import Routes

_BEARER = "bearer "
_NOBODY = Caller()


def caller() -> Caller:
    """The caller of the current request; one who sees nothing if the route requires no API key."""
    current: Caller = g.get("caller", _NOBODY)
    return current


def visible(job: Job | None) -> Job:
    """Return `job` if the caller may see it; the job of another owner is treated as unknown.

    Raises:
        NotFoundError: there is no such job for this caller.
    """
    if job is None or not caller().may_see(job):
        raise _no_such_job()
    return job


def manageable(job: Job | None) -> Job:
    """Return `job` if the caller may purge or label it.

    Raises:
        NotFoundError: there is no such job for this caller.
    """
    if job is None or not caller().may_manage(job):
        raise _no_such_job()
    return job


def _no_such_job() -> NotFoundError:
    return NotFoundError("No such job: the id is wrong, or the job has expired or was purged.")


def allow_anyone(app: Flask) -> None:
    """Make `app` require no API key."""

    @app.before_request
    def set_caller() -> None:
        g.caller = ANYONE


def require_keys(app: Flask, access: Access, rates: RateLimits, settings: Settings, parts: Iterable[Routes]) -> None:
    """Make `app` check the API key and rate limit of every request to a route with a scope."""
    required = {
        f"{routes.blueprint.name}.{operation.view.__name__}": operation.required_scopes(settings)
        for routes in parts
        for operation in routes.operations
    }

    @app.before_request
    def check_key() -> None:
        scopes = required.get(request.endpoint or "", ())
        # A browser's preflight request (OPTIONS) has no key.
        if scopes and request.method != "OPTIONS":
            for scope in scopes:
                g.caller = access.check(_credential(), scope)
            request.environ[CALLER] = g.caller.owner
            take_turns_of(g.caller.owner)
            g.rate_window = rates.count(g.caller.owner, g.caller.rate_limit)
            g.rate_window.check("This API key has reached its rate limit.")

    @app.after_request
    def add_rate(response: Response) -> Response:
        if window := g.get("rate_window"):
            _add_rate_headers(response, window)
        return response


def _credential() -> str:
    """The API key of the request; empty if it has none."""
    authorization = request.headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return request.headers.get("X-API-Key", "").strip()


def _add_rate_headers(response: Response, window: Window) -> None:
    """Add the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers."""
    response.headers["RateLimit-Policy"] = f'"default";q={window.limit};w={window.length_s}'
    response.headers["RateLimit"] = f'"default";r={window.remaining};t={window.reset_s}'
