"""The old pipeline's endpoints: `GET /`, `GET /health`, `POST /predict`, with their old responses and errors."""

from typing import Any, Literal

from flask import Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import HTTPException

from contract.access import Scope
from contract.errors import (
    BusyError,
    ForbiddenError,
    ForbiddenOriginError,
    JobFailedError,
    NoFileError,
    PawqueueError,
    RateLimitedError,
    UnauthorizedError,
    UndecodableImageError,
    UnknownModelError,
    UnsupportedEncodingError,
    UploadTooLargeError,
)
from gateway import VERSION
from gateway.accept.forms import Part
from gateway.http.job_schemas import BINARY, ModelQuery, form_schema
from gateway.http.problems import expected_error, headers_of, log_unexpected
from gateway.http.routing import RETRY_AFTER, JsonResponse, Routes, link
from gateway.routes.bodies import FORM, form_parts
from gateway.routes.waiting import check_served, classify, is_served, prediction_of
from gateway.services import current_services


class Endpoints(BaseModel):
    """The paths of the main endpoints."""

    health: str
    predict: str
    docs: str


class Index(BaseModel):
    """The response of `/`."""

    message: str
    version: str
    endpoints: Endpoints


class Health(BaseModel):
    """Whether a worker is serving a model."""

    status: Literal["healthy", "degraded"]
    model_loaded: bool
    version: str


class PredictionAnswer(BaseModel):
    """A prediction, with `<label>_probability` for each label of the model."""

    model_config = ConfigDict(extra="allow")

    label: str = Field(alias="class")
    confidence: float


class OldError(BaseModel):
    """An error in the format of the old pipeline."""

    error: str
    detail: str


class MissingPart(BaseModel):
    """A missing part of a form."""

    type: str
    loc: list[str]
    msg: str
    input: None


class MissingParts(BaseModel):
    """The missing parts of a form."""

    detail: list[MissingPart]


_ENDPOINTS = {"health": "/health", "predict": "/predict", "docs": "/docs"}
_INDEX = {"message": "Pawqueue: image classification", "version": VERSION, "endpoints": _ENDPOINTS}
_HEALTHY = {"status": "healthy", "model_loaded": True, "version": VERSION}
_DEGRADED = {"status": "degraded", "model_loaded": False, "version": VERSION}
_PREDICTION = {"class": "cat", "confidence": 0.97, "dog_probability": 0.03, "cat_probability": 0.97}
_NO_FILE = {"detail": [{"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": None}]}
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": form_schema(BINARY), "encoding": {"file": {"contentType": "image/*"}}}
    },
}


def _old_error(text: str, error: str, detail: str, **headers: Any) -> JsonResponse:
    return JsonResponse(OldError, text, {"refused": {"error": error, "detail": detail}}, headers)


_PREDICT_RESPONSES = {
    200: JsonResponse(PredictionAnswer, "The prediction.", {"cat": _PREDICTION}),
    400: _old_error("The image is invalid.", "Undecodable image", "The image is truncated. Send the whole file."),
    403: _old_error(
        "The API key lacks the scope `submit`, or a web page of another origin sent the request.",
        "Forbidden origin",
        "A web page of another site sent this request.",
    ),
    404: _old_error("There is no such model.", "Unknown model", "There is no model with this name."),
    413: _old_error("The image is too large.", "Upload too large", "The upload is larger than the limit."),
    415: _old_error("The body has an unsupported Content-Encoding.", "Unsupported encoding", "Send the body in gzip."),
    422: JsonResponse(MissingParts, "The form has no part `file`.", {"no_file": _NO_FILE}),
    500: _old_error("The model failed.", "Prediction failed", "The model failed on this image."),
    503: _old_error(
        "No worker is running, or the queue is full.", "No model is being served", "Start a worker.", **RETRY_AFTER
    ),
}

#: The name is part of the operation ids, which generated clients use.
routes = Routes(
    "replaced",
    "For clients of the synchronous pipeline that this service replaces.",
    title="The old pipeline",
    key_responses={
        kind.http_status: _old_error(kind.title, kind.title, (kind.__doc__ or "").split("\n")[0])
        for kind in (UnauthorizedError, RateLimitedError)
    },
)


@routes.add("GET", "/", scope=None, responses={200: JsonResponse(Index, "The main endpoints.", {"index": _INDEX})})
def index() -> dict[str, Any]:
    """Show the version and the main endpoints."""
    return _INDEX | {"endpoints": {name: link(path) for name, path in _ENDPOINTS.items()}}


@routes.add(
    "GET",
    "/health",
    scope=None,
    responses={200: JsonResponse(Health, "The health of the service.", {"healthy": _HEALTHY, "degraded": _DEGRADED})},
)
def health() -> dict[str, Any]:
    """Check whether a worker is serving a model; the status code is always 200."""
    return _HEALTHY if is_served() else _DEGRADED


@routes.add("POST", "/predict", scope=Scope.SUBMIT, responses=_PREDICT_RESPONSES, requestBody=_FORM)
def predict(query: ModelQuery) -> Response | tuple[Response, int]:
    """Classify an image and wait for the result.

    The part `file` must have a content type of `image/*`. New clients should use `POST /v1/jobs` with
    `Prefer: wait=10`.
    """
    services = current_services()
    services.models.check(query.model)
    part = _file_part(services.settings.upload_max_bytes)
    if part is None:
        return jsonify(_NO_FILE), 422
    if not part.content_type.startswith("image/"):
        return _error(400, "Invalid file type", "The part `file` must have an image/* content type.")
    if part.error:
        raise part.error
    check_served(query.model)
    image = iter([(part.name, part.data)])
    del part  # or it would keep the image in memory
    (job,) = classify(image, query.model)
    prediction = prediction_of(job)
    by_label = {f"{label}_probability": value for label, value in prediction.probabilities.items()}
    return jsonify({"class": prediction.label, "confidence": prediction.confidence, **by_label})


@routes.blueprint.errorhandler(Exception)
def _handle(error: Exception) -> tuple[Response, int]:
    expected = expected_error(error)
    if expected:
        return _error(_status(expected), expected.title, expected.detail, expected)
    if isinstance(error, HTTPException) and (error.code or 500) < 500:
        return _error(error.code or 400, error.name, error.description or error.name)
    return _error(500, "Internal error", log_unexpected(error))


def _file_part(max_bytes: int) -> Part | None:
    """The first part `file` of the form; None if there is none, or the body is not a form."""
    if request.mimetype != FORM:
        return None
    try:
        part, *_ = form_parts(max_bytes)
    except NoFileError:
        return None
    return None if isinstance(part.error, NoFileError) else part


def _status(error: PawqueueError) -> int:
    """The old pipeline's status: 413 for a large image, 400 for another invalid image, 503 if the service is busy."""
    if isinstance(
        error,
        RateLimitedError
        | UnauthorizedError
        | ForbiddenError
        | ForbiddenOriginError
        | UnknownModelError
        | UploadTooLargeError
        | UnsupportedEncodingError,
    ):
        return error.http_status
    if isinstance(error, BusyError):
        return 503
    if isinstance(error, UndecodableImageError):
        return 400
    return 500 if isinstance(error, JobFailedError) else 400


def _error(status: int, error: str, detail: str, cause: PawqueueError | None = None) -> tuple[Response, int]:
    response = jsonify({"error": error, "detail": detail})
    response.headers.extend(headers_of(cause) if cause else {})
    return response, status
