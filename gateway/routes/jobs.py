"""`/v1/jobs`: submit an image, read a job, cancel it."""

from dataclasses import replace
from typing import Any

from flask import Response, jsonify, request

from contract.access import Scope
from contract.errors import (
    ConflictError,
    EmptyUploadError,
    FetchNotAllowedError,
    IdempotencyMismatchError,
    InvalidWebhookError,
    NoFileError,
    NotAnImageError,
    NotFoundError,
    QueueFullError,
    TooManyPixelsError,
    UnknownModelError,
    UnsupportedEncodingError,
    UnsupportedFormatError,
    UploadError,
    UploadTooLargeError,
)
from contract.job import Job, JobStatus
from gateway.http.auth import caller, manageable, visible
from gateway.http.job_schemas import (
    CANCELED_JOB,
    FAILED_JOB,
    IMAGE_BODY,
    NO_EVENTS,
    PURGED,
    QUEUED_JOB,
    SUCCEEDED_JOB,
    WAITING_JOB,
    EventsHeader,
    JobObject,
    JobPath,
    PurgeQuery,
    SubmitHeaders,
    SubmitQuery,
    WaitHeader,
    event_stream,
)
from gateway.http.routing import LOCATION, PREFERENCE, RETRY_AFTER, JsonResponse, Routes, link
from gateway.routes.bodies import granted_wait_s, read_upload, release_body
from gateway.routes.event_streams import event_response
from gateway.services import current_services

routes = Routes("jobs", "Each job classifies one image.", "/v1/jobs")

#: The errors of an upload.
IMAGE_ERRORS = (
    UploadError,
    NoFileError,
    EmptyUploadError,
    NotAnImageError,
    UnsupportedFormatError,
    UnsupportedEncodingError,
    UploadTooLargeError,
    TooManyPixelsError,
    FetchNotAllowedError,
    QueueFullError,
)
_SUBMIT_ERRORS = (*IMAGE_ERRORS, UnknownModelError, ConflictError, IdempotencyMismatchError, InvalidWebhookError)
_FINISHED = {"succeeded": SUCCEEDED_JOB, "failed": FAILED_JOB}
_SUBMIT_RESPONSES = {
    200: JsonResponse(JobObject, "The job finished within the wait.", _FINISHED, LOCATION | PREFERENCE),
    202: JsonResponse(JobObject, "The job was accepted.", {"queued": QUEUED_JOB}, LOCATION | PREFERENCE | RETRY_AFTER),
}


@routes.add("POST", "", scope=Scope.SUBMIT, responses=_SUBMIT_RESPONSES, errors=_SUBMIT_ERRORS, requestBody=IMAGE_BODY)
def submit(query: SubmitQuery, header: SubmitHeaders) -> Response:
    """Submit an image.

    The image is the part `file` of a form, the request body itself, or at the `url` in a JSON body: JPEG, PNG, WebP,
    HEIC, AVIF, BMP, GIF or TIFF, recognized by its first bytes. Anything else is rejected with an error that names what
    was sent. The image's header, size and pixel count are checked immediately; an image whose pixel data is corrupt is
    accepted, and its job fails.

    Once accepted, the job is processed even if the client disconnects, also while it waits for the result. To stop it,
    cancel it with `DELETE`.

    With `webhook`, that URL gets an event when the job is finished, whatever its status: see `docs/webhooks.md`.
    """
    return _submit(query, header)


@routes.add(
    "PUT",
    "/<job_id>",
    scope=Scope.SUBMIT,
    responses=_SUBMIT_RESPONSES,
    errors=(*_SUBMIT_ERRORS, NotFoundError),
    requestBody=IMAGE_BODY,
)
def submit_as(path: JobPath, query: SubmitQuery, header: SubmitHeaders) -> Response:
    """Submit an image under an id of your choice.

    Repeating the request returns the same job; a different image under the same id is a `conflict`.
    """
    return _submit(query, header, path.job_id)


@routes.add(
    "GET",
    "/<job_id>",
    scope=Scope.READ,
    responses={200: JsonResponse(JobObject, "The job.", {"queued": WAITING_JOB} | _FINISHED, PREFERENCE | RETRY_AFTER)},
    errors=(NotFoundError,),
)
def read(path: JobPath, header: WaitHeader) -> Response:
    """Read a job, or wait for its result."""
    services = current_services()
    wait_s = granted_wait_s(header, services.settings.wait_max_s)
    job = visible(find_job(path.job_id))
    if wait_s > 0 and not job.status.is_final:
        job = visible(services.waiters.wait(job.id, wait_s))
    return _response(job, path.job_id, wait_s)


@routes.add(
    "GET",
    "/<job_id>/events",
    scope=Scope.READ,
    responses={200: event_stream(SUCCEEDED_JOB), 204: NO_EVENTS},
    errors=(NotFoundError,),
)
def events(path: JobPath, header: EventsHeader) -> Response:
    """Follow a job with server-sent events.

    The first event is the job in its current state, and each further one the job after a change; intermediate states
    may be missing. The stream ends with the event `finished`. It also ends when the job is purged, when the gateway
    stops, and after `PAWQUEUE_EVENTS_MAX_S`: reconnect with the `id` of the last event as `Last-Event-ID`, as browsers
    do, and you miss nothing. Every 15 s without an event there is a comment.
    """
    job = visible(find_job(path.job_id))
    url = _url(path.job_id)

    def body(job: Job) -> dict[str, Any]:
        return replace(job, id=path.job_id).to_dict() | {"urls": {"self": url}}

    return event_response(job, header.last_event_id, current_services().events.of_job, body)


@routes.add(
    "DELETE",
    "/<job_id>",
    scope=Scope.SUBMIT,
    responses={
        200: JsonResponse(JobObject, "The job with its final status.", {"canceled": CANCELED_JOB}),
        204: PURGED,
    },
    errors=(NotFoundError,),
)
def cancel(path: JobPath, query: PurgeQuery) -> Response:
    """Cancel a queued or running job; a finished job does not change. With `purge=true`, remove the job.

    A job keeps running when the client that sent it disconnects; only this request stops it.

    A purge removes the job's record with its result, the file name, the image, also one that is kept for review, the
    thumbnail, and an event that was not delivered yet. If only the image that is kept for review is left, it removes
    that. An unfinished job is canceled first, without an event, and whatever a worker still computes for it is dropped.
    Afterwards the id is unknown, so a second purge is `not_found`. A key with the scopes `submit` and `admin` can purge
    the jobs of other keys.
    """
    services = current_services()
    if query.purge:
        services.purger.purge_job(manageable(find_job(path.job_id) or _kept_job(path.job_id)), by=caller().owner)
        return Response(status=204)
    job = visible(find_job(path.job_id))
    services.ledger.cancel([job.id], services.settings.result_ttl_s)
    return _response(visible(services.ledger.get([job.id])[0]), path.job_id)


def job_body(job: Job) -> dict[str, Any]:
    """The job object of the API."""
    return job.to_dict() | {"urls": {"self": _url(job.id)}}


def _submit(query: SubmitQuery, header: SubmitHeaders, job_id: str = "") -> Response:
    services = current_services()
    wait_s = granted_wait_s(header, services.settings.wait_max_s)
    services.models.check(query.model)
    own_id = services.own_ids.replacement(caller().owner, job_id) if job_id else ""
    upload = read_upload(services.settings, query, header, job_id, own_id)
    job = services.acceptor.submit(upload, wait_s, release_body)
    response = _response(job, job_id or job.id, wait_s)
    response.status_code = 200 if job.status.is_final else 202
    response.headers["Location"] = _url(job_id or job.id)
    return response


def find_job(job_id: str) -> Job | None:
    """The caller's own job with this id, else any."""
    services = current_services()
    own, found = services.ledger.get([services.own_ids.replacement(caller().owner, job_id), job_id])
    return own or found


def _kept_job(job_id: str) -> Job | None:
    """The job of an image that is kept for review, although the job's record has expired."""
    services = current_services()
    own_id = services.own_ids.replacement(caller().owner, job_id)
    kept = services.ledger.reviews.get(own_id) or services.ledger.reviews.get(job_id)
    return kept.job if kept else None


def _url(job_id: str) -> str:
    return link(f"/v1/jobs/{job_id}")


def _response(job: Job, job_id: str, wait_s: float = 0.0) -> Response:
    """The response for a job, under the id by which the client calls it."""
    body = job_body(replace(job, id=job_id))
    retry_after_s = 1
    if job.status is JobStatus.QUEUED and request.method == "GET":
        services = current_services()
        ahead = services.ledger.positions([job])[0] or 0
        body |= {"queue_position": ahead, "estimated_wait_s": services.admission.wait_s(ahead)}
        retry_after_s = services.admission.retry_after_s(ahead)
    response = jsonify(body)
    if not job.status.is_final:
        response.headers["Retry-After"] = str(retry_after_s)
    if wait_s > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response
