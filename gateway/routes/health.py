"""`/healthz` (the process lives), `/readyz` (it can accept jobs), `/metrics`."""

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from contract.errors import UnavailableError
from gateway.services import Services


def health_routes(services: Services) -> Blueprint:
    """The routes that operators and orchestrators ask."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get("/readyz")
    def ready() -> Response:
        try:
            services.ledger.ping()
        except UnavailableError as error:
            response = jsonify({"status": "not ready", "ledger": error.detail})
            response.status_code = 503
            response.headers["Retry-After"] = "1"
            return response
        return jsonify({"status": "ready", "ledger": "answers"})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(services.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return routes
