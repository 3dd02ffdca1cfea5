"""The Flask application: routes, error handler, metrics of requests."""

import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface, SessionMixin

from gateway.headers import add_headers
from gateway.problems import register_problem_handlers
from gateway.routes.dead import dead_routes
from gateway.routes.documents import document_routes
from gateway.routes.health import health_routes
from gateway.routes.jobs import jobs_routes
from gateway.routes.replaced import replaced_routes
from gateway.routes.status import status_routes
from gateway.routes.submissions import submissions_routes
from gateway.routing import Routes
from gateway.services import Services

#: What a form may hold beside the image: part headers, small fields.
_FORM_OVERHEAD_BYTES = 64 * 1024


def create_app(services: Services) -> Flask:
    """Build the application around `services`."""
    app = _Application("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.settings.upload_max_bytes + _FORM_OVERHEAD_BYTES
    app.config["SERVICES"] = services
    app.json.sort_keys = False  # type: ignore[attr-defined]
    parts = declare_routes(services)
    for routes in parts:
        app.register_blueprint(routes.blueprint)
    app.register_blueprint(document_routes(parts, access_is_required=services.guard.access.required))
    register_problem_handlers(app, services.settings.upload_max_bytes)
    _count_requests(app, services)
    add_headers(app, services.settings.cors_origins)
    services.guard.protect(app)
    return app


class _NoSessions(SessionInterface):
    """Nobody has a session: Flask need not look for one, nor make and weigh an empty one, at each request."""

    _none = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> SessionMixin:
        """Every request's: none."""
        return self._none

    def save_session(self, _app: Flask, _session: SessionMixin, _response: Response) -> None:
        """Keep nothing."""


class _Application(Flask):
    """Flask without what a request pays for and no route here uses."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """All functions are synchronous: they need not be looked at one by one at each request."""
        return func


def declare_routes(services: Services) -> list[Routes]:
    """All routes that the OpenAPI document tells of, in its order."""
    return [
        make(services)
        for make in (jobs_routes, submissions_routes, dead_routes, status_routes, replaced_routes, health_routes)
    ]


def _count_requests(app: Flask, services: Services) -> None:
    metrics = services.metrics

    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # The rule, not the path: ids must not become labels.
        route = request.url_rule.rule if request.url_rule else "(none)"
        metrics.requests.labels(request.method, route, response.status_code).inc()
        metrics.seconds.labels(request.method, route).observe(time.perf_counter() - g.started)
        if response.status_code >= 400 and response.mimetype == "application/problem+json":
            metrics.refused.labels((response.get_json() or {}).get("code", "unknown")).inc()
        return response
