"""The Flask application: its routes, error responses, headers, authentication and request metrics."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from prometheus_client import make_wsgi_app

from contract.errors import UnavailableError
from contract.log import configure_logging, get_logger
from contract.metrics_port import serve_metrics
from contract.origin import OriginCheck
from contract.proxy import behind_proxy
from contract.settings import load_settings
from contract.tracing import open_tracer
from contract.web.limits import Refusals
from gateway.http.auth import allow_anyone, require_keys
from gateway.http.headers import add_headers
from gateway.http.problems import register_problem_handlers
from gateway.http.request import GatewayRequest
from gateway.http.routing import PathPart, Routes
from gateway.http.spans import RequestSpans
from gateway.metrics import GatewayMetrics, RefusalCollector
from gateway.routes import (
    dead,
    documents,
    feedback,
    health,
    inference,
    jobs,
    legacy,
    models,
    reports,
    review,
    serving,
    shadows,
    status,
    submissions,
    webhooks,
)
from gateway.services import Services, build_services

_log = get_logger(__name__)

#: All documented routes, in the order of the OpenAPI document.
ROUTES: tuple[Routes, ...] = (
    jobs.routes,
    submissions.routes,
    webhooks.routes,
    dead.routes,
    models.routes,
    feedback.routes,
    reports.routes,
    shadows.routes,
    review.routes,
    status.routes,
    inference.routes,
    serving.routes,
    legacy.routes,
    health.routes,
)
#: Size allowed in a form besides the image, for part headers and small fields.
_FORM_OVERHEAD_BYTES = 64 * 1024


def make_app(refusals: Refusals) -> Flask:
    """Create the application from environment variables; `refusals` are the web server's counts."""
    settings = load_settings(os.environ)
    configure_logging(settings.log_level, "gateway")
    services = build_services(settings, tracer=open_tracer("gateway"))
    services.metrics.registry.register(RefusalCollector(refusals))
    _warn_about_access(services)
    return create_app(services)


def serve_metrics_of(app: Flask) -> int:
    """Serve the metrics of an application on the metrics port; returns the port.

    Raises:
        OSError: the port is in use.
    """
    services: Services = app.config["SERVICES"]
    host, port = services.settings.gateway_metrics_host, services.settings.gateway_metrics_port
    port = serve_metrics(host, port, make_wsgi_app(services.metrics.registry))
    _log.info("Serving metrics", host=host, port=port)
    return port


def create_app(services: Services) -> Flask:
    """Create the application with the given services."""
    settings = services.settings
    app = _Application("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.upload_max_bytes + _FORM_OVERHEAD_BYTES
    app.config["SERVICES"] = services
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.converters["default"] = PathPart
    for routes in ROUTES:
        app.register_blueprint(routes.blueprint)
    app.register_blueprint(documents.document_routes(ROUTES, settings))
    register_problem_handlers(app)
    _observe_requests(app, services.metrics, RequestSpans(services.tracer))
    add_headers(app, settings.allowed_origins())
    if services.access.required:
        require_keys(app, services.access, services.rates, settings, ROUTES)
    else:
        allow_anyone(app)
        # With API keys it is not needed: browsers do not add a key to the requests of a page.
        _check_origins(app, OriginCheck(settings.host_names(settings.gateway_host), settings.allowed_origins()))
    app.wsgi_app = behind_proxy(  # type: ignore[method-assign]
        app.wsgi_app, settings.gateway_prefix, settings.trusted_networks()
    )
    return app


def _check_origins(app: Flask, origins: OriginCheck) -> None:
    @app.before_request
    def check_origin() -> None:
        origins.check(request.environ)


def _warn_about_access(services: Services) -> None:
    settings = services.settings
    if not services.access.required:
        if not settings.is_local():
            _log.warning("The gateway accepts requests without API keys", address=settings.gateway_host)
        elif settings.gateway_prefix or settings.trusted_proxies:
            _log.warning(
                "Everyone who can reach the proxy can send requests. Require keys with PAWQUEUE_ACCESS=required."
            )
        return
    with suppress(UnavailableError):
        if not services.access.has_keys():
            _log.warning("The gateway requires API keys, but none exists. Create one with `pawqueue keys create`.")


class _NoSessions(SessionInterface):
    """Keeps Flask from creating a session for every request."""

    _none = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> SessionMixin:
        """Return an empty session."""
        return self._none

    def save_session(self, _app: Flask, _session: SessionMixin, _response: Response) -> None:
        """Save nothing."""


class _Application(Flask):
    """Flask without sessions and asynchronous views; supporting them takes time in every request."""

    session_interface = _NoSessions()
    request_class = GatewayRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: every view is synchronous."""
        return func


def _observe_requests(app: Flask, metrics: GatewayMetrics, spans: RequestSpans) -> None:
    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        spans.begin(request.environ)

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "(none)"
        metrics.count_request(request.method, route, response.status_code, time.perf_counter() - g.started)
        spans.end(request.method, route, response.status_code)
        if code := g.get("problem_code"):
            metrics.count_refused(code)
        return response
