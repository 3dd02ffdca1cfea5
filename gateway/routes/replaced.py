"""The endpoints of the system that this one replaces, unchanged for its clients: `/`, `/health`, `/predict`."""

from typing import Any, Literal

from flask import Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.exceptions import HTTPException

from contract.access import Scope
from contract.broker import INTERACTIVE
from contract.errors import (
    BusyError,
    ForbiddenError,
    JobFailedError,
    NoModelError,
    PawqueueError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
    UndecodableImageError,
    UploadTooLargeError,
    error_classes,
)
from contract.job import Job
from gateway import VERSION
from gateway.answers import RETRY_AFTER, Answer
from gateway.guard import caller
from gateway.problems import headers_of, known_error, log_surprise, surprise_text
from gateway.routing import Routes
from gateway.services import Services
from gateway.submit import Upload


class Endpoints(BaseModel):
    """Where what is."""

    health: str
    predict: str
    docs: str


class Index(BaseModel):
    """What stands at the root."""

    message: str
    version: str
    endpoints: Endpoints


class Health(BaseModel):
    """Whether a model is served."""

    status: Literal["healthy", "degraded"]
    model_loaded: bool
    version: str


class PredictionAnswer(BaseModel):
    """A prediction, with `<label>_probability` for each label of the model."""

    model_config = ConfigDict(extra="allow")

    label: str = Field(alias="class")
    confidence: float


class OldError(BaseModel):
    """A refusal, as the replaced system had it."""

    error: str
    detail: str


class MissingPart(BaseModel):
    """A part that is missing, as the replaced system had it."""

    type: str
    loc: list[str]
    msg: str
    input: None


class MissingParts(BaseModel):
    """The parts that are missing."""

    detail: list[MissingPart]


_INDEX = {
    "message": "Pawqueue: image classification",
    "version": VERSION,
    "endpoints": {"health": "/health", "predict": "/predict", "docs": "/docs"},
}
_HEALTHY = {"status": "healthy", "model_loaded": True, "version": VERSION}
_DEGRADED = {"status": "degraded", "model_loaded": False, "version": VERSION}
_PREDICTION = {"class": "cat", "confidence": 0.97, "dog_probability": 0.03, "cat_probability": 0.97}
_NO_FILE = {"detail": [{"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": None}]}
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            },
            "encoding": {"file": {"contentType": "image/*"}},
        }
    },
}


def _refusal(text: str, error: str, detail: str, **headers: Any) -> Answer:
    return Answer(OldError, text, {"refused": {"error": error, "detail": detail}}, headers)


_PREDICT_ANSWERS = {
    200: Answer(PredictionAnswer, "The prediction.", {"cat": _PREDICTION}),
    400: _refusal("The image cannot be used.", "Undecodable image", "The image is truncated. Send the whole file."),
    413: _refusal("The image is too large.", "Upload too large", "The upload is larger than the limit."),
    422: Answer(MissingParts, "There is no part `file`.", {"no_file": _NO_FILE}),
    500: _refusal("The model failed.", "Prediction failed", "The model failed on this image."),
    503: _refusal("No model serves, or too much waits.", "No model is being served", "Start a worker.", **RETRY_AFTER),
}
_ACCESS_ANSWERS = {
    kind.http_status: _refusal(kind.title, kind.title, (kind.__doc__ or "").split("\n")[0])
    for kind in (UnauthorizedError, ForbiddenError, RateLimitedError)
}


def replaced_routes(services: Services) -> Routes:
    """The routes, with error bodies of `{"error", "detail"}`."""
    routes = Routes("replaced", services, "Kept for clients of the synchronous pipeline that this service replaces.")

    @routes.add("GET", "/", scope=None, answers={200: Answer(Index, "Where what is.", {"index": _INDEX})})
    def index() -> dict[str, Any]:
        """Message, version, endpoints."""
        return _INDEX

    @routes.add(
        "GET",
        "/health",
        scope=None,
        answers={200: Answer(Health, "Always.", {"healthy": _HEALTHY, "degraded": _DEGRADED})},
    )
    def health() -> dict[str, Any]:
        """Whether a model is served; the status is always 200."""
        return _HEALTHY if _model_is_served(services) else _DEGRADED

    answers = _PREDICT_ANSWERS | (_ACCESS_ANSWERS if services.guard.access.required else {})

    @routes.add("POST", "/predict", scope=Scope.SUBMIT, answers=answers, requestBody=_FORM)
    def predict() -> Response | tuple[Response, int]:
        """Classify an image and wait for the answer.

        The part `file` must have a content type of `image/*`. New clients use `POST /v1/jobs` with `Prefer: wait=10`.
        """
        return _predict(services)

    @routes.blueprint.errorhandler(Exception)
    def refuse(error: Exception) -> tuple[Response, int]:
        known = known_error(error, services.settings.upload_max_bytes)
        if known:
            return _error(_status(known), known.title, known.detail, known)
        if isinstance(error, HTTPException) and (error.code or 500) < 500:
            return _error(error.code or 400, error.name, error.description or error.name)
        return _error(500, "Internal error", surprise_text(log_surprise(error)))

    return routes


def _predict(services: Services) -> Response | tuple[Response, int]:
    part = request.files.get("file")
    if part is None:
        return jsonify(_NO_FILE), 422
    if not (part.mimetype or "").startswith("image/"):
        return _error(400, "Invalid file type", "The part `file` must have an image/* content type.")
    if not _model_is_served(services):
        raise NoModelError("No worker serves a model. Start one, then try again.", retry_after_s=5)
    wait_s = services.settings.predict_wait_s
    upload = Upload(
        part.read(), INTERACTIVE, part.filename or "", deadline_s=wait_s, wait_s=wait_s, owner=caller().owner
    )
    job = services.submitter.submit(upload)
    return jsonify(_prediction(job))


def _model_is_served(services: Services) -> bool:
    try:
        return bool(services.ledger.workers())
    except UnavailableError:
        return False


def _prediction(job: Job) -> dict[str, Any]:
    result = job.result
    if result is None:
        raise UnavailableError("No worker answered in time; try again shortly.", retry_after_s=5)
    if result.error:
        kind = error_classes().get(result.error.code, JobFailedError)
        raise kind(result.error.detail)
    prediction = result.prediction
    assert prediction is not None  # noqa: S101 - a result is one of the two
    by_label = {f"{label}_probability": value for label, value in prediction.probabilities.items()}
    return {"class": prediction.label, "confidence": prediction.confidence, **by_label}


def _status(error: PawqueueError) -> int:
    """As the replaced system answered: 400 for whatever is wrong with the image, 413 for its size, 503 when busy."""
    if isinstance(error, RateLimitedError | UnauthorizedError | ForbiddenError | UploadTooLargeError):
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
