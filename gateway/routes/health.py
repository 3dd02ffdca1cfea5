"""`/healthz` (the process lives), `/readyz` (it can accept jobs), `/metrics`."""

from typing import Literal

from flask import Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from contract.access import Scope
from contract.errors import UnavailableError
from gateway.answers import RETRY_AFTER, Answer, plain
from gateway.routing import Routes
from gateway.services import Services


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """Whether jobs can be accepted."""

    status: Literal["ready", "not ready"]
    ledger: str


_READY = {"status": "ready", "ledger": "answers"}
_NOT_READY = {"status": "not ready", "ledger": "The job ledger (Redis) does not answer; try again shortly."}


def health_routes(services: Services) -> Routes:
    """The routes that operators and orchestrators ask."""
    routes = Routes("health", services, "For operators and orchestrators.")

    @routes.add(
        "GET", "/healthz", scope=None, answers={200: Answer(Alive, "It lives.", {"alive": {"status": "alive"}})}
    )
    def alive() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @routes.add(
        "GET",
        "/readyz",
        scope=None,
        answers={
            200: Answer(Readiness, "It can.", {"ready": _READY}),
            503: Answer(Readiness, "It cannot.", {"not_ready": _NOT_READY}, RETRY_AFTER),
        },
    )
    def ready() -> Response:
        """Whether jobs can be accepted."""
        try:
            services.ledger.ping()
        except UnavailableError as error:
            response = jsonify({"status": "not ready", "ledger": error.detail})
            response.status_code = 503
            response.headers["Retry-After"] = "1"
            return response
        return jsonify({"status": "ready", "ledger": "answers"})

    @routes.add(
        "GET",
        "/metrics",
        scope=Scope.READ if services.settings.metrics_access == "key" else None,
        answers={
            200: plain("Metrics for Prometheus.", "text/plain", 'pawqueue_queue_jobs{queue="bulk",state="queued"} 3')
        },
    )
    def metrics() -> Response:
        """Requests, and the counts by which workers are scaled, for Prometheus."""
        return Response(generate_latest(services.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return routes
