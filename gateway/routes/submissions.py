"""`/v1/submissions`: many images sent together, and their results."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from flask import Response, jsonify, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from contract.access import Scope
from contract.errors import (
    ConflictError,
    IdempotencyMismatchError,
    InvalidWebhookError,
    NotFoundError,
    TooManySubmissionsError,
    UnknownModelError,
    UploadError,
)
from contract.job import JobStatus, now_ms
from contract.result_row import CSV_COLUMNS
from contract.submission import Submission
from gateway.accept.acceptor import SubmissionClosedError
from gateway.accept.submissions import SubmissionOptions
from gateway.http.auth import caller
from gateway.http.job_schemas import NO_EVENTS, PURGED, EventsHeader, PurgeQuery, WaitHeader, event_stream
from gateway.http.problems import problem_of
from gateway.http.routing import LOCATION, PREFERENCE, JsonResponse, Routes, link
from gateway.http.submission_schemas import (
    ADDED,
    CANCELED_SUBMISSION,
    FINISHED_SUBMISSION,
    IMAGES_BODY,
    OPEN_SUBMISSION,
    RESULT_LINE,
    RUNNING_SUBMISSION,
    AcceptHeader,
    AddedObject,
    KeyHeader,
    ListQuery,
    ResultLine,
    ResultsQuery,
    SubmissionBody,
    SubmissionList,
    SubmissionObject,
    SubmissionPath,
)
from gateway.results.streams import (
    FINAL_STATUSES,
    in_order_of_acceptance,
    in_order_of_finishing,
    to_csv,
    to_ndjson,
)
from gateway.routes.bodies import chosen_webhook, clean_name, drain, granted_wait_s, hand_on_body, read_images
from gateway.routes.event_streams import event_response
from gateway.routes.jobs import IMAGE_ERRORS
from gateway.services import current_services

routes = Routes("submissions", "Many images, submitted and tracked together.", "/v1/submissions")

_NDJSON, _CSV = "application/x-ndjson", "text/csv"
_FORMATS = {"ndjson": _NDJSON, "csv": _CSV}
_OPENED = {
    200: JsonResponse(SubmissionObject, "The submission that already existed.", {"open": OPEN_SUBMISSION}, LOCATION),
    201: JsonResponse(SubmissionObject, "The new submission.", {"open": OPEN_SUBMISSION}, LOCATION),
}
_READ = {"open": OPEN_SUBMISSION, "running": RUNNING_SUBMISSION, "finished": FINISHED_SUBMISSION}
_RESULTS = {
    "description": "One line per job.",
    "content": {
        _NDJSON: {"schema": ResultLine, "example": RESULT_LINE},
        _CSV: {"schema": {"type": "string"}, "example": ",".join(CSV_COLUMNS) + "\n"},
    },
}


@routes.add(
    "POST",
    "",
    scope=Scope.SUBMIT,
    responses=_OPENED,
    errors=(IdempotencyMismatchError, InvalidWebhookError, TooManySubmissionsError, UnknownModelError),
)
def open_new(header: KeyHeader, body: SubmissionBody) -> Response:
    """Open a submission.

    Its images are processed even if the client disconnects, whether or not it is closed. To stop it, cancel it with
    `DELETE`. Without images, it expires after an hour.

    The `webhook` gets one event when the submission is finished, and none for each image.
    """
    return _open(body, key=header.idempotency_key.strip())


@routes.add(
    "PUT",
    "/<submission_id>",
    scope=Scope.SUBMIT,
    responses=_OPENED,
    errors=(NotFoundError, ConflictError, InvalidWebhookError, TooManySubmissionsError),
)
def open_as(path: SubmissionPath, body: SubmissionBody) -> Response:
    """Open a submission under an id of your choice.

    Repeating the request returns the same submission; a different body under the same id is a `conflict`.
    """
    return _open(body, submission_id=path.submission_id)


@routes.add(
    "POST",
    "/<submission_id>/close",
    scope=Scope.SUBMIT,
    responses={200: JsonResponse(SubmissionObject, "The closed submission.", {"running": RUNNING_SUBMISSION})},
    errors=(NotFoundError,),
)
def close(path: SubmissionPath) -> Response:
    """Close a submission: it accepts no more images and can finish. Closing it again has no effect."""
    return jsonify(_body(current_services().submissions.close(caller(), path.submission_id), path.submission_id))


@routes.add(
    "DELETE",
    "/<submission_id>",
    scope=Scope.SUBMIT,
    responses={
        200: JsonResponse(SubmissionObject, "The canceled submission.", {"canceled": CANCELED_SUBMISSION}),
        204: PURGED,
    },
    errors=(NotFoundError,),
)
def cancel(path: SubmissionPath, query: PurgeQuery) -> Response:
    """Cancel a submission: close it and cancel its unfinished jobs. With `purge=true`, remove it.

    A finished submission does not change when it is canceled. A submission keeps running when its client disconnects;
    only this request stops it.

    A purge removes the submission and all of its jobs, like a purge of each job. As soon as the purge begins, readers
    no longer find the submission. A large one takes a few seconds; if the request is interrupted, the service completes
    the purge. Until then, opening a submission with the same id is `unavailable`.
    """
    if query.purge:
        current_services().submissions.purge(caller(), path.submission_id)
        return Response(status=204)
    return jsonify(_body(current_services().submissions.cancel(caller(), path.submission_id), path.submission_id))


@routes.add(
    "GET",
    "",
    scope=Scope.READ,
    responses={
        200: JsonResponse(SubmissionList, "The latest submissions.", {"some": {"submissions": [RUNNING_SUBMISSION]}})
    },
)
def latest(query: ListQuery) -> Response:
    """List your latest submissions, newest first."""
    return jsonify(
        {"submissions": [_body(one, one.id) for one in current_services().submissions.latest(caller(), query.limit)]}
    )


@routes.add(
    "GET",
    "/<submission_id>",
    scope=Scope.READ,
    responses={200: JsonResponse(SubmissionObject, "The submission.", _READ, PREFERENCE)},
    errors=(NotFoundError,),
)
def read(path: SubmissionPath, header: WaitHeader) -> Response:
    """Read a submission, or wait for it to finish."""
    services = current_services()
    wait_s = granted_wait_s(header, services.settings.wait_max_s)
    response = jsonify(_body(services.submissions.wait(caller(), path.submission_id, wait_s), path.submission_id))
    if wait_s > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response


@routes.add(
    "POST",
    "/<submission_id>/jobs",
    scope=Scope.SUBMIT,
    responses={202: JsonResponse(AddedObject, "The accepted and rejected images.", {"added": ADDED})},
    errors=(NotFoundError, ConflictError, *IMAGE_ERRORS),
    requestBody=IMAGES_BODY,
)
def add(path: SubmissionPath) -> Response:
    """Add images: a form of up to 100 parts, a tar (plain or gzipped), a zip, or up to 1,000 addresses as JSON.

    The name of a part or member becomes its `custom_id`. An invalid image is listed in `rejected` and does not affect
    the others; of more than 100, the first are listed, and the results of the submission contain all. Resending an
    image is safe: the same bytes return the same job; different bytes are rejected as a `conflict`. If an error stops
    the request early, the error response also lists the images that were accepted.
    """
    services = current_services()
    submission = services.submissions.find(caller(), path.submission_id)
    if submission.closed_ms is not None:
        raise SubmissionClosedError
    images = read_images(services.settings, services.spool)
    added = services.submissions.add_images(submission, images, hand_on_body)
    for code, count in added.rejections.items():
        services.metrics.count_refused(code, count)
    if added.stopped is None:
        response = jsonify(added.to_dict())
        response.status_code = 202
        return response
    # A form has few images, so list all that were not accepted. For an archive, `left_from` is enough.
    if request.mimetype == "multipart/form-data":
        with suppress(UploadError):
            added.left += [image.custom_id for image in images]
    drain()
    return problem_of(added.stopped, added.to_dict())


@routes.add(
    "GET",
    "/<submission_id>/results",
    scope=Scope.READ,
    responses={200: _RESULTS},
    errors=(NotFoundError,),
)
def results(path: SubmissionPath, query: ResultsQuery, header: AcceptHeader) -> Response:
    """Read results as NDJSON or CSV, streamed.

    To follow a running submission, start with `cursor=0` and continue with the `cursor` of the last result: you get
    each result once, in order of finishing. In CSV the cursor is the last column.

    Without `cursor`, results are in order of acceptance and end before the first unfinished job, unless `status`
    selects unfinished jobs. Continue with `after`, the `n` of the last result. Jobs whose records have expired are
    omitted.
    """
    services = current_services()
    submission = services.submissions.find(caller(), path.submission_id)
    statuses = set(map(JobStatus, query.status or FINAL_STATUSES))
    with_cursor = "cursor" in query.model_fields_set
    if with_cursor:
        _check_cursor(query, statuses)
        pages = in_order_of_finishing(services.ledger, submission.id, query.cursor, statuses, query.limit)
    else:
        pages = in_order_of_acceptance(services.ledger, submission.id, query.after, statuses, query.limit)
    mimetype = _FORMATS[query.format] if query.format else _accepted_format(header.accept)
    lines = to_csv(pages, with_cursor=with_cursor) if mimetype == _CSV else to_ndjson(pages)
    return Response(lines, mimetype=mimetype)


@routes.add(
    "GET",
    "/<submission_id>/events",
    scope=Scope.READ,
    responses={200: event_stream(FINISHED_SUBMISSION), 204: NO_EVENTS},
    errors=(NotFoundError,),
)
def events(path: SubmissionPath, header: EventsHeader) -> Response:
    """Follow a submission with server-sent events.

    The first event is the submission in its current state. When its counts or its status change, another one follows,
    at most twice a second. The stream ends with the event `finished`. When it ends earlier, reconnect with
    `Last-Event-ID`, as for the events of a job. To get the results while it runs, read them with `cursor`.
    """
    services = current_services()
    submission = services.submissions.find(caller(), path.submission_id)
    url = _url(path.submission_id)

    def body(submission: Submission) -> dict[str, Any]:
        return _body(submission, path.submission_id, url)

    return event_response(submission, header.last_event_id, services.events.of_submission, body)


def _check_cursor(query: ResultsQuery, statuses: Collection[JobStatus]) -> None:
    if "after" in query.model_fields_set:
        raise UploadError("`cursor` and `after` select different orders. Send only one of them.")
    if unfinished := sorted(status for status in statuses if not status.is_final):
        raise UploadError(
            f"`cursor` reads finished jobs, not those with status `{unfinished[0]}`. Leave out one of the two."
        )


def _open(body: SubmissionBody, submission_id: str = "", key: str = "") -> Response:
    options = SubmissionOptions(
        clean_name(body.name),
        body.queue,
        body.deadline_s,
        model=body.model,
        top_k=body.top_k or 0,
        webhook=chosen_webhook(body.webhook),
    )
    submission, is_new = current_services().submissions.open(caller(), options, submission_id, key)
    shown_id = submission_id or submission.id
    response = jsonify(_body(submission, shown_id))
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = _url(shown_id)
    return response


def _accepted_format(accept: str) -> str:
    return parse_accept_header(accept, MIMEAccept).best_match([_NDJSON, _CSV]) or _NDJSON


def _body(submission: Submission, shown_id: str, url: str = "") -> dict[str, Any]:
    """The submission object of the API, under the id by which the client calls it; outside a request with its URL."""
    url = url or _url(shown_id)
    urls = {"self": url} | {name: f"{url}/{name}" for name in ("jobs", "results", "close")}
    return submission.to_dict(now_ms()) | {"id": shown_id, "urls": urls}


def _url(submission_id: str) -> str:
    return link(f"/v1/submissions/{submission_id}")
