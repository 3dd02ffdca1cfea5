"""`/healthz` (the process is alive), `/readyz` (it can accept jobs)."""

from typing import Literal

from flask import Response, jsonify
from pydantic import BaseModel

from contract.errors import UnavailableError
from gateway.http.routing import RETRY_AFTER, JsonResponse, Routes
from gateway.services import current_services

routes = Routes("health", "For operators and orchestrators.")


class Alive(BaseModel):
    """The process is alive."""

    status: Literal["alive"]


class Readiness(BaseModel):
    """Whether jobs can be accepted."""

    status: Literal["ready", "not ready"]
    ledger: str


_READY = {"status": "ready", "ledger": "answers"}
_NOT_READY = {"status": "not ready", "ledger": "The job ledger (Redis) is not responding. Try again shortly."}


@routes.add(
    "GET",
    "/healthz",
    scope=None,
    responses={200: JsonResponse(Alive, "The process is alive.", {"alive": {"status": "alive"}})},
)
def alive() -> dict[str, str]:
    """Check whether the process is alive."""
    return {"status": "alive"}


@routes.add(
    "GET",
    "/readyz",
    scope=None,
    responses={
        200: JsonResponse(Readiness, "Jobs can be accepted.", {"ready": _READY}),
        503: JsonResponse(Readiness, "Jobs cannot be accepted.", {"not_ready": _NOT_READY}, RETRY_AFTER),
    },
)
def ready() -> Response:
    """Check whether jobs can be accepted.

    A full ledger or queue does not count: results can still be read, and space becomes free when jobs finish or expire.
    """
    problem = problem_of_service()
    if not problem:
        return jsonify(_READY)
    response = jsonify({"status": "not ready", "ledger": problem})
    response.status_code = 503
    response.headers["Retry-After"] = "1"
    return response


def problem_of_service() -> str:
    """Why jobs cannot be accepted; empty if they can."""
    services = current_services()
    try:
        services.ledger.ping()
        return services.admission.lasting_problem()
    except UnavailableError as error:
        return error.detail
