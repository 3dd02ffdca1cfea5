"""`/v1/dead`: the dead-letter list."""

from typing import Any

from flask import Blueprint, Response, jsonify

from contract.job import Job
from gateway.services import Services


def dead_routes(services: Services) -> Blueprint:
    """The routes of the dead-letter list."""
    routes = Blueprint("dead", __name__, url_prefix="/v1/dead")

    @routes.get("")
    def listed() -> dict[str, Any]:
        return {"jobs": [job.to_dict() for job in services.dead.listed()]}

    @routes.get("/<job_id>")
    def show(job_id: str) -> dict[str, Any]:
        return services.dead.show(job_id).to_dict()

    @routes.post("/<job_id>/retry")
    def retry(job_id: str) -> tuple[Response, int, dict[str, str]]:
        job: Job = services.dead.retry(job_id)
        address = f"/v1/jobs/{job.id}"
        return jsonify(job.to_dict() | {"urls": {"self": address}}), 202, {"Location": address, "Retry-After": "1"}

    @routes.delete("/<job_id>")
    def drop(job_id: str) -> dict[str, Any]:
        return services.dead.drop(job_id).to_dict()

    return routes
