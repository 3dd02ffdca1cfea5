"""`/v1/submissions`: many images sent together, followed and read as one."""

from contextlib import suppress
from typing import Any

from flask import Response, jsonify, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from contract.access import Scope
from contract.errors import ConflictError, IdempotencyMismatchError, NotFoundError, UploadError
from contract.job import JobStatus, now_ms
from contract.submission import Submission
from gateway.answers import LOCATION, PREFERENCE, Answer
from gateway.guard import caller
from gateway.intake import closed_error
from gateway.problems import problem_of
from gateway.results import ENDED, as_csv, ndjson, rows
from gateway.routes.bodies import drain, read_images
from gateway.routes.jobs import IMAGE_REFUSALS
from gateway.routes.requests import granted_wait_s
from gateway.routing import Routes
from gateway.services import Services
from gateway.submission_examples import (
    CANCELED_SUBMISSION,
    FINISHED_SUBMISSION,
    IMAGES_BODY,
    OPEN_SUBMISSION,
    RESULT_LINE,
    RUNNING_SUBMISSION,
    TAKEN,
)
from gateway.submission_schemas import (
    AcceptHeader,
    FinishWaitHeader,
    KeyHeader,
    ListQuery,
    ResultLine,
    ResultsQuery,
    SubmissionList,
    SubmissionObject,
    SubmissionPath,
    SubmissionWish,
    TakenObject,
)
from gateway.submissions import Wish
from gateway.submit import clean_name

_NDJSON, _CSV = "application/x-ndjson", "text/csv"
_FORMS = {"ndjson": _NDJSON, "csv": _CSV}
_CSV_EXAMPLE = "file,label,confidence,status,error_code,error,job_id,latency_ms,model\n"
_OPENED = {
    200: Answer(SubmissionObject, "It was opened before.", {"open": OPEN_SUBMISSION}, LOCATION),
    201: Answer(SubmissionObject, "It is open.", {"open": OPEN_SUBMISSION}, LOCATION),
}
_READ = {"open": OPEN_SUBMISSION, "running": RUNNING_SUBMISSION, "finished": FINISHED_SUBMISSION}
_RESULTS = {
    "description": "One line a job, in order of acceptance.",
    "content": {
        _NDJSON: {"schema": ResultLine, "example": RESULT_LINE},
        _CSV: {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
    },
}


def submissions_routes(services: Services) -> Routes:
    """The routes of submissions, of their images and of their results."""
    routes = Routes("submissions", services, "Many images, followed as one.", "/v1/submissions")
    _add_opening(routes, services)
    _add_following(routes, services)
    _add_images(routes, services)
    return routes


def _add_opening(routes: Routes, services: Services) -> None:
    use = services.submissions

    @routes.add("POST", "", scope=Scope.SUBMIT, answers=_OPENED, refuses=(IdempotencyMismatchError,))
    def open_new(header: KeyHeader, body: SubmissionWish) -> Response:
        """Open a submission."""
        return _opened(*use.open(caller(), _wish(body), key=header.idempotency_key.strip()))

    @routes.add("PUT", "/<submission_id>", scope=Scope.SUBMIT, answers=_OPENED, refuses=(NotFoundError, ConflictError))
    def open_as(path: SubmissionPath, body: SubmissionWish) -> Response:
        """Open a submission under an id of your choice.

        Sending it again gives the same submission; another body under the same id is a `conflict`.
        """
        return _opened(*use.open(caller(), _wish(body), path.submission_id))

    @routes.add(
        "POST",
        "/<submission_id>/close",
        scope=Scope.SUBMIT,
        answers={200: Answer(SubmissionObject, "It takes no more.", {"running": RUNNING_SUBMISSION})},
        refuses=(NotFoundError,),
    )
    def close(path: SubmissionPath) -> Response:
        """Let a submission take no more images, so that it can finish; closing twice is fine."""
        return jsonify(_shown(use.close(caller(), path.submission_id)))

    @routes.add(
        "DELETE",
        "/<submission_id>",
        scope=Scope.SUBMIT,
        answers={200: Answer(SubmissionObject, "It is canceled.", {"canceled": CANCELED_SUBMISSION})},
        refuses=(NotFoundError,),
    )
    def cancel(path: SubmissionPath) -> Response:
        """Cancel a submission: close it and end what is queued or running; one that has finished stays as it is."""
        return jsonify(_shown(use.cancel(caller(), path.submission_id)))


def _add_following(routes: Routes, services: Services) -> None:
    use = services.submissions

    @routes.add(
        "GET",
        "",
        scope=Scope.READ,
        answers={200: Answer(SubmissionList, "The latest.", {"some": {"submissions": [RUNNING_SUBMISSION]}})},
    )
    def latest(query: ListQuery) -> Response:
        """List your latest submissions, the newest first."""
        return jsonify({"submissions": [_shown(one) for one in use.latest(caller(), query.limit)]})

    @routes.add(
        "GET",
        "/<submission_id>",
        scope=Scope.READ,
        answers={200: Answer(SubmissionObject, "The submission.", _READ, PREFERENCE)},
        refuses=(NotFoundError,),
    )
    def read(path: SubmissionPath, header: FinishWaitHeader) -> Response:
        """Read a submission, or wait until it has finished."""
        wait_s = granted_wait_s(header, services.settings.wait_max_s)
        response = jsonify(_shown(use.wait(caller(), path.submission_id, wait_s)))
        if wait_s > 0:
            response.headers["Preference-Applied"] = f"wait={wait_s:g}"
        return response


def _add_images(routes: Routes, services: Services) -> None:
    @routes.add(
        "POST",
        "/<submission_id>/jobs",
        scope=Scope.SUBMIT,
        answers={202: Answer(TakenObject, "What was taken.", {"taken": TAKEN})},
        refuses=(NotFoundError, ConflictError, *IMAGE_REFUSALS),
        requestBody=IMAGES_BODY,
    )
    def add(path: SubmissionPath) -> Response:
        """Add images: up to 100 parts of a form, a tar (plain or gzipped), or a zip.

        The name of a part or member is its `custom_id`. An image that cannot be used is told under `rejected` and
        keeps no other from being taken. Sending an image again is safe: the same bytes give the same job, others are
        rejected as a `conflict`. When something stops the rest, the problem says what was taken, too.
        """
        return _add(services, path.submission_id)

    @routes.add(
        "GET",
        "/<submission_id>/results",
        scope=Scope.READ,
        answers={200: _RESULTS},
        refuses=(NotFoundError,),
    )
    def results(path: SubmissionPath, query: ResultsQuery, header: AcceptHeader) -> Response:
        """Read results as NDJSON or CSV, streamed in order of acceptance, also while it runs.

        `after` goes on where an earlier answer ended. A row whose job's time to live has ended is left out.
        """
        services.submissions.find(caller(), path.submission_id)
        statuses = set(map(JobStatus, query.status or ENDED))
        found = rows(services.ledger, path.submission_id, query.after, statuses, query.limit)
        if (_FORMS[query.format] if query.format else _wanted(header.accept)) == _CSV:
            return Response(as_csv(found), mimetype=_CSV)
        return Response(ndjson(found), mimetype=_NDJSON)


def _add(services: Services, submission_id: str) -> Response:
    submission = services.submissions.find(caller(), submission_id)
    if submission.closed_ms is not None:
        raise closed_error()
    images = read_images(services.settings)
    taken = services.intake.add(submission, images)
    for rejected in taken.rejected:
        services.metrics.refused.labels(rejected.code).inc()
    if taken.stopped is None:
        return _with_status(jsonify(taken.to_dict()), 202)
    if request.mimetype == "multipart/form-data":
        with suppress(UploadError):
            taken.left += [image.custom_id for image in images]
    drain()
    return problem_of(taken.stopped, taken.to_dict())


def _wish(body: SubmissionWish) -> Wish:
    return Wish(clean_name(body.name), body.queue, body.deadline_s)


def _wanted(accept: str) -> str:
    return parse_accept_header(accept, MIMEAccept).best_match([_NDJSON, _CSV]) or _NDJSON


def _opened(submission: Submission, is_new: bool) -> Response:  # noqa: FBT001 - the second half of what `open` returns
    response = _with_status(jsonify(_shown(submission)), 201 if is_new else 200)
    response.headers["Location"] = _address(submission)
    return response


def _with_status(response: Response, status: int) -> Response:
    response.status_code = status
    return response


def _shown(submission: Submission) -> dict[str, Any]:
    address = _address(submission)
    urls = {"self": address} | {name: f"{address}/{name}" for name in ("jobs", "results", "close")}
    return submission.to_dict(now_ms()) | {"urls": urls}


def _address(submission: Submission) -> str:
    return f"/v1/submissions/{submission.id}"
