"""`/v1/jobs`: submit a picture, read a job."""

from flask import Blueprint, Response, jsonify

from contract.errors import NotFoundError
from contract.job import Job, is_job_id
from gateway.routes.requests import read_picture, read_queue, read_wait_s
from gateway.services import Services

#: Advice for the next look at a job that has not ended, in seconds.
_POLL_AFTER_S = 1


def jobs_routes(services: Services) -> Blueprint:
    """The routes of single jobs."""
    routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

    @routes.post("")
    def submit() -> Response:
        data, file = read_picture()
        wait_s = read_wait_s(services.settings.wait_max_s)
        job = services.submitter.submit(data, file, read_queue(), wait_s)
        response = _answer(job, wait_s)
        response.status_code = 200 if job.status.is_final else 202
        response.headers["Location"] = _address(job)
        return response

    @routes.get("/<job_id>")
    def read(job_id: str) -> Response:
        wait_s = read_wait_s(services.settings.wait_max_s)
        job = services.waiters.wait(job_id, wait_s) if is_job_id(job_id) else None
        if job is None:
            raise NotFoundError("There is no such job: the id is wrong, or its time to live has ended.")
        return _answer(job, wait_s)

    return routes


def _answer(job: Job, wait_s: float) -> Response:
    response = jsonify(job.to_dict() | {"urls": {"self": _address(job)}})
    if not job.status.is_final:
        response.headers["Retry-After"] = str(_POLL_AFTER_S)
    if wait_s > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response


def _address(job: Job) -> str:
    return f"/v1/jobs/{job.id}"
