"""`/v1/dead`: the dead-letter list."""

from typing import Any

from flask import Response, jsonify

from contract.access import Scope
from contract.errors import NotFoundError, QueueFullError
from contract.job import Job, JobStatus
from gateway.answers import LOCATION, RETRY_AFTER, Answer
from gateway.routing import Routes
from gateway.schemas import QUEUED_JOB, JobList, JobObject, JobPath, example_job
from gateway.services import Services

_DEAD_JOB = example_job(
    JobStatus.FAILED,
    attempts=3,
    finished_at="2026-03-01T12:00:40.000Z",
    error={"code": "worker_lost", "detail": "Workers died on this image as often as is allowed."},
)
_DEAD = {"dead": _DEAD_JOB}


def dead_routes(services: Services) -> Routes:
    """The routes of the dead-letter list."""
    routes = Routes("dead", services, "Jobs that killed their workers, kept for a person to decide.", "/v1/dead")
    _add_reading(routes, services)
    _add_deciding(routes, services)
    return routes


def _add_reading(routes: Routes, services: Services) -> None:
    @routes.add(
        "GET",
        "",
        scope=Scope.ADMIN,
        answers={200: Answer(JobList, "The latest dead jobs, at most 1000.", {"one": {"jobs": [_DEAD_JOB]}})},
    )
    def listed() -> dict[str, Any]:
        """List dead jobs."""
        return {"jobs": [_shown(job) for job in services.dead.listed()]}

    @routes.add(
        "GET",
        "/<job_id>",
        scope=Scope.ADMIN,
        answers={200: Answer(JobObject, "The dead job.", _DEAD)},
        refuses=(NotFoundError,),
    )
    def show(path: JobPath) -> dict[str, Any]:
        """Show one dead job."""
        return _shown(services.dead.show(path.job_id))


def _add_deciding(routes: Routes, services: Services) -> None:
    @routes.add(
        "POST",
        "/<job_id>/retry",
        scope=Scope.ADMIN,
        answers={202: Answer(JobObject, "The new job.", {"queued": QUEUED_JOB}, LOCATION | RETRY_AFTER)},
        refuses=(NotFoundError, QueueFullError),
    )
    def retry(path: JobPath) -> tuple[Response, int, dict[str, str]]:
        """Submit the image of a dead job as a new job."""
        body = _shown(services.dead.retry(path.job_id))
        return jsonify(body), 202, {"Location": body["urls"]["self"], "Retry-After": "1"}

    @routes.add(
        "DELETE",
        "/<job_id>",
        scope=Scope.ADMIN,
        answers={200: Answer(JobObject, "The job that was dropped.", _DEAD)},
        refuses=(NotFoundError,),
    )
    def drop(path: JobPath) -> dict[str, Any]:
        """Take a dead job off the list and delete its image."""
        return _shown(services.dead.drop(path.job_id))


def _shown(job: Job) -> dict[str, Any]:
    return job.to_dict() | {"urls": {"self": f"/v1/jobs/{job.id}"}}
