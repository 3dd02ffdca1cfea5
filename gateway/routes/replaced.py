"""The endpoints of the system that this one replaces, unchanged for its clients: `/`, `/health`, `/predict`."""

from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from contract.broker import INTERACTIVE
from contract.errors import (
    BusyError,
    JobFailedError,
    NoModelError,
    PawqueueError,
    UnavailableError,
    UndecodableImageError,
    UploadTooLargeError,
    error_classes,
)
from contract.job import Job
from gateway import VERSION
from gateway.problems import known_error, log_surprise, surprise_text
from gateway.services import Services
from gateway.submit import Upload


def replaced_routes(services: Services) -> Blueprint:
    """The routes, with error bodies of `{"error", "detail"}`."""
    routes = Blueprint("replaced", __name__)

    @routes.get("/")
    def index() -> dict[str, Any]:
        endpoints = {"health": "/health", "predict": "/predict", "docs": "/docs"}
        return {"message": "Pawqueue: image classification", "version": VERSION, "endpoints": endpoints}

    @routes.get("/health")
    def health() -> dict[str, Any]:
        loaded = _model_is_served(services)
        return {"status": "healthy" if loaded else "degraded", "model_loaded": loaded, "version": VERSION}

    @routes.post("/predict")
    def predict() -> Response | tuple[Response, int]:
        part = request.files.get("file")
        if part is None:
            missing = {"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": None}
            return jsonify({"detail": [missing]}), 422
        if not (part.mimetype or "").startswith("image/"):
            return _error(400, "Invalid file type", "The part `file` must have an image/* content type.")
        if not _model_is_served(services):
            raise NoModelError("No worker serves a model. Start one, then try again.", retry_after_s=5)
        wait_s = services.settings.predict_wait_s
        upload = Upload(part.read(), INTERACTIVE, part.filename or "", deadline_s=wait_s, wait_s=wait_s)
        job = services.submitter.submit(upload)
        return jsonify(_prediction(job))

    @routes.errorhandler(Exception)
    def answer(error: Exception) -> tuple[Response, int]:
        known = known_error(error, services.settings.upload_max_bytes)
        if known:
            return _error(_status(known), known.title, known.detail, known)
        if isinstance(error, HTTPException) and (error.code or 500) < 500:
            return _error(error.code or 400, error.name, error.description or error.name)
        return _error(500, "Internal error", surprise_text(log_surprise(error)))

    return routes


def _model_is_served(services: Services) -> bool:
    try:
        return bool(services.ledger.workers())
    except UnavailableError:
        return False


def _prediction(job: Job) -> dict[str, Any]:
    outcome = job.outcome
    if outcome is None:
        raise UnavailableError("No worker answered in time; try again shortly.", retry_after_s=5)
    if outcome.error:
        kind = error_classes().get(outcome.error.code, JobFailedError)
        raise kind(outcome.error.detail)
    prediction = outcome.prediction
    assert prediction is not None  # noqa: S101 - an outcome is one of the two
    by_label = {f"{label}_probability": value for label, value in prediction.probabilities.items()}
    return {"class": prediction.label, "confidence": prediction.confidence, **by_label}


def _status(error: PawqueueError) -> int:
    """As the replaced system answered: 400 for whatever is wrong with the picture, 413 for its size, 503 when busy."""
    if isinstance(error, BusyError):
        return 503
    if isinstance(error, UploadTooLargeError):
        return 413
    if isinstance(error, UndecodableImageError):
        return 400
    return 500 if isinstance(error, JobFailedError) else 400


def _error(status: int, error: str, detail: str, cause: PawqueueError | None = None) -> tuple[Response, int]:
    response = jsonify({"error": error, "detail": detail})
    if cause is not None and cause.retryable:
        response.headers["Retry-After"] = str(cause.retry_after_s or 1)
    return response, status
