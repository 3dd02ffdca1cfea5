"""`/v1/jobs`: submit an image, read a job, cancel it."""

from typing import Any

from flask import Response, jsonify, request

from contract.access import Scope
from contract.errors import (
    ConflictError,
    EmptyUploadError,
    IdempotencyMismatchError,
    NoFileError,
    NotAnImageError,
    NotFoundError,
    QueueFullError,
    TooManyPixelsError,
    UnsupportedFormatError,
    UploadError,
    UploadTooLargeError,
)
from contract.job import Job, JobStatus
from gateway.answers import LOCATION, PREFERENCE, RETRY_AFTER, Answer
from gateway.guard import caller, own
from gateway.routes.requests import granted_wait_s, read_upload
from gateway.routing import Routes
from gateway.schemas import (
    CANCELED_JOB,
    FAILED_JOB,
    IMAGE_BODY,
    QUEUED_JOB,
    SUCCEEDED_JOB,
    WAITING_JOB,
    JobObject,
    JobPath,
    SubmitHeaders,
    SubmitQuery,
    WaitHeader,
)
from gateway.services import Services

_ENDED = {"succeeded": SUCCEEDED_JOB, "failed": FAILED_JOB}
#: Why an image may be refused.
IMAGE_REFUSALS = (
    UploadError,
    NoFileError,
    EmptyUploadError,
    NotAnImageError,
    UnsupportedFormatError,
    UploadTooLargeError,
    TooManyPixelsError,
    QueueFullError,
)
_SUBMIT_ANSWERS = {
    200: Answer(JobObject, "The job has ended in time.", _ENDED, LOCATION | PREFERENCE),
    202: Answer(JobObject, "The job is accepted.", {"queued": QUEUED_JOB}, LOCATION | PREFERENCE | RETRY_AFTER),
}
_SUBMIT_REFUSALS = (*IMAGE_REFUSALS, ConflictError, IdempotencyMismatchError)


def jobs_routes(services: Services) -> Routes:
    """The routes of single jobs."""
    routes = Routes("jobs", services, "One image, one job.", "/v1/jobs")
    _add_submitting(routes, services)
    _add_reading(routes, services)
    return routes


def _add_submitting(routes: Routes, services: Services) -> None:
    max_wait_s = services.settings.wait_max_s

    @routes.add(
        "POST",
        "",
        scope=Scope.SUBMIT,
        answers=_SUBMIT_ANSWERS,
        refuses=_SUBMIT_REFUSALS,
        requestBody=IMAGE_BODY,
    )
    def submit(query: SubmitQuery, header: SubmitHeaders) -> Response:
        """Submit an image.

        The image is the part `file` of a form, or the body itself. Checked here are its header, size and number of
        pixels; one whose pixels turn out to be broken is accepted, and its job ends `failed`.
        """
        wait_s = granted_wait_s(header, max_wait_s)
        return _accepted(services, services.submitter.submit(read_upload(query, header, wait_s)), wait_s)

    @routes.add(
        "PUT",
        "/<job_id>",
        scope=Scope.SUBMIT,
        answers=_SUBMIT_ANSWERS,
        refuses=(*_SUBMIT_REFUSALS, NotFoundError),
        requestBody=IMAGE_BODY,
    )
    def submit_as(path: JobPath, query: SubmitQuery, header: SubmitHeaders) -> Response:
        """Submit an image under an id of your choice.

        Sending it again gives the same job; other bytes under the same id are a `conflict`.
        """
        wait_s = granted_wait_s(header, max_wait_s)
        upload = read_upload(query, header, wait_s, path.job_id)
        return _accepted(services, services.submitter.submit(upload), wait_s)


def _add_reading(routes: Routes, services: Services) -> None:
    @routes.add(
        "GET",
        "/<job_id>",
        scope=Scope.READ,
        answers={200: Answer(JobObject, "The job.", {"queued": WAITING_JOB} | _ENDED, PREFERENCE | RETRY_AFTER)},
        refuses=(NotFoundError,),
    )
    def read(path: JobPath, header: WaitHeader) -> Response:
        """Read a job, or wait for its result."""
        wait_s = granted_wait_s(header, services.settings.wait_max_s)
        return _answer(services, own(services.waiters.wait(path.job_id, wait_s, caller())), wait_s)

    @routes.add(
        "DELETE",
        "/<job_id>",
        scope=Scope.SUBMIT,
        answers={200: Answer(JobObject, "The job as it ended.", {"canceled": CANCELED_JOB})},
        refuses=(NotFoundError,),
    )
    def cancel(path: JobPath) -> Response:
        """Cancel a job that is queued or running; an ended one stays as it is."""
        own(services.ledger.get([path.job_id])[0])
        services.ledger.cancel([path.job_id], services.settings.result_ttl_s)
        return _answer(services, own(services.ledger.get([path.job_id])[0]))


def _accepted(services: Services, job: Job, wait_s: float) -> Response:
    response = _answer(services, job, wait_s)
    response.status_code = 200 if job.status.is_final else 202
    response.headers["Location"] = _address(job)
    return response


def _answer(services: Services, job: Job, wait_s: float = 0.0) -> Response:
    body: dict[str, Any] = job.to_dict() | {"urls": {"self": _address(job)}}
    retry_after_s = 1
    if job.status is JobStatus.QUEUED and request.method == "GET":
        place = services.ledger.places([job])[0] or 0
        body |= {"queue_position": place, "estimated_wait_s": services.load.wait_s(place)}
        retry_after_s = services.load.advice_s(place)
    response = jsonify(body)
    if not job.status.is_final:
        response.headers["Retry-After"] = str(retry_after_s)
    if wait_s > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response


def _address(job: Job) -> str:
    return f"/v1/jobs/{job.id}"
