"""`/v1/dead`: the dead-letter list."""

from typing import Any

from flask import Response, jsonify

from contract.access import Scope
from contract.errors import NotFoundError, QueueFullError
from contract.job import JobStatus
from gateway.accept.dead_letters import LISTED_MAX
from gateway.http.job_schemas import QUEUED_JOB, JobList, JobObject, JobPath, example_job
from gateway.http.routing import LOCATION, RETRY_AFTER, JsonResponse, Routes
from gateway.routes.jobs import job_body
from gateway.services import current_services

routes = Routes(
    "dead",
    "Jobs that failed because their image repeatedly killed workers. An operator retries or drops them.",
    "/v1/dead",
    title="Dead letters",
)

_DEAD_JOB = example_job(
    JobStatus.FAILED,
    attempts=3,
    finished_at="2026-03-01T12:00:40.000Z",
    error={"code": "worker_lost", "detail": "Every attempt to process this image killed its worker."},
)
_DEAD = {"dead": _DEAD_JOB}


@routes.add(
    "GET",
    "",
    scope=Scope.ADMIN,
    responses={
        200: JsonResponse(JobList, f"The latest dead jobs, at most {LISTED_MAX}.", {"one": {"jobs": [_DEAD_JOB]}})
    },
)
def listed() -> dict[str, Any]:
    """List dead jobs."""
    return {"jobs": [job_body(job) for job in current_services().dead_letters.latest()]}


@routes.add(
    "GET",
    "/<job_id>",
    scope=Scope.ADMIN,
    responses={200: JsonResponse(JobObject, "The dead job.", _DEAD)},
    errors=(NotFoundError,),
)
def show(path: JobPath) -> dict[str, Any]:
    """Read one dead job."""
    return job_body(current_services().dead_letters.find(path.job_id))


@routes.add(
    "POST",
    "/<job_id>/retry",
    scope=Scope.ADMIN,
    responses={202: JsonResponse(JobObject, "The new job.", {"queued": QUEUED_JOB}, LOCATION | RETRY_AFTER)},
    errors=(NotFoundError, QueueFullError),
)
def retry(path: JobPath) -> tuple[Response, int, dict[str, str]]:
    """Submit the image of a dead job as a new job."""
    body = job_body(current_services().dead_letters.retry(path.job_id))
    return jsonify(body), 202, {"Location": body["urls"]["self"], "Retry-After": "1"}


@routes.add(
    "DELETE",
    "/<job_id>",
    scope=Scope.ADMIN,
    responses={200: JsonResponse(JobObject, "The dropped job.", _DEAD)},
    errors=(NotFoundError,),
)
def drop(path: JobPath) -> dict[str, Any]:
    """Remove a job from the dead-letter list and delete its image."""
    return job_body(current_services().dead_letters.drop(path.job_id))
