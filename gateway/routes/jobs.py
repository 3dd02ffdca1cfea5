"""`/v1/jobs`: submit a picture, read a job, cancel it."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from contract.errors import NotFoundError
from contract.job import Job, JobStatus, is_job_id
from gateway.routes.requests import read_upload, read_wait_s
from gateway.services import Services


def jobs_routes(services: Services) -> Blueprint:
    """The routes of single jobs."""
    routes = Blueprint("jobs", __name__, url_prefix="/v1/jobs")
    max_wait_s = services.settings.wait_max_s

    @routes.post("")
    def submit() -> Response:
        return _accepted(services, services.submitter.submit(read_upload(max_wait_s)))

    @routes.put("/<job_id>")
    def submit_as(job_id: str) -> Response:
        _check_id(job_id)
        return _accepted(services, services.submitter.submit(read_upload(max_wait_s, job_id)))

    @routes.get("/<job_id>")
    def read(job_id: str) -> Response:
        _check_id(job_id)
        return _answer(services, _found(services.waiters.wait(job_id, read_wait_s(max_wait_s))))

    @routes.delete("/<job_id>")
    def cancel(job_id: str) -> Response:
        _check_id(job_id)
        services.ledger.cancel([job_id], services.settings.result_ttl_s)
        return _answer(services, _found(services.ledger.get([job_id])[0]))

    return routes


def _check_id(job_id: str) -> None:
    if not is_job_id(job_id):
        raise NotFoundError("This is no job id. A job id is a UUID in lower case, as `POST /v1/jobs` answers it.")


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFoundError("There is no such job: the id is wrong, or its time to live has ended.")
    return job


def _accepted(services: Services, job: Job) -> Response:
    response = _answer(services, job)
    response.status_code = 200 if job.status.is_final else 202
    response.headers["Location"] = _address(job)
    return response


def _answer(services: Services, job: Job) -> Response:
    body: dict[str, Any] = job.to_dict() | {"urls": {"self": _address(job)}}
    retry_after_s = 1
    if job.status is JobStatus.QUEUED and request.method == "GET":
        place = services.ledger.places([job])[0] or 0
        body |= {"queue_position": place, "estimated_wait_s": services.load.wait_s(place)}
        retry_after_s = services.load.advice_s(place)
    response = jsonify(body)
    if not job.status.is_final:
        response.headers["Retry-After"] = str(retry_after_s)
    wait_s = read_wait_s(services.settings.wait_max_s)
    if wait_s > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response


def _address(job: Job) -> str:
    return f"/v1/jobs/{job.id}"
