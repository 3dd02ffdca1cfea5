"""Feedback: users report the right labels of images, from which the accuracy of each version is measured."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import ConflictError, NotFoundError, UnknownModelError, UploadError
from contract.job import ModelRef
from contract.ledger.feedback import Count, VersionFeedback
from contract.ledger.models import VersionInfo
from gateway.accept.model_names import unknown_model
from gateway.http.auth import caller, manageable
from gateway.http.job_schemas import JOB_ID, JobPath, ModelObject, optional
from gateway.http.routing import JsonResponse, Routes
from gateway.routes.jobs import find_job
from gateway.routes.models import MODEL_NAME_MAX, ModelPath
from gateway.services import current_services

routes = Routes("feedback", "The right labels of images, and the accuracy that they show.")

LABEL_MAX = 200
_LABELS_SHOWN = 20
_DAYS_MAX = 400
_DAY_0 = datetime(1970, 1, 1, tzinfo=UTC).date()


class FeedbackBody(BaseModel):
    """The right label of an image."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(
        min_length=1, max_length=LABEL_MAX, description="What the image shows: one of the model's labels."
    )


class FeedbackObject(BaseModel):
    """The feedback on a job."""

    job_id: str
    label: str = Field(description="The right label.")
    predicted: str
    correct: bool
    model: ModelObject


class AccuracyObject(BaseModel):
    """An accuracy with its 95 % interval (Wilson)."""

    right: int
    total: int = Field(description="Number of jobs with feedback.")
    accuracy: float | None = Field(description="null without feedback.")
    low: float
    high: float


class DayObject(AccuracyObject):
    """The accuracy of the jobs that finished on a day (UTC)."""

    date: str


class VersionAccuracy(AccuracyObject):
    """The accuracy of a version."""

    version: str
    live: bool
    days: list[DayObject]


class ModelFeedback(BaseModel):
    """The accuracy of the versions of a model."""

    name: str
    versions: list[VersionAccuracy]


class DaysQuery(BaseModel):
    """The time that a report covers."""

    days: int = optional("Number of days, including today.", 30, default=30, ge=1, le=_DAYS_MAX)


def accuracy_of(count: Count) -> dict[str, Any]:
    """The accuracy by a number of right and wrong predictions."""
    low, high = count.interval
    share = count.right / count.total if count.total else None
    return {"right": count.right, "total": count.total, "accuracy": share, "low": low, "high": high}


def _version(found: VersionFeedback, live: str) -> dict[str, Any]:
    days = [
        {"date": (_DAY_0 + timedelta(day)).isoformat(), **accuracy_of(count)}
        for day, count in sorted(found.days.items())
    ]
    return {"version": found.version, "live": found.version == live, **accuracy_of(found.count), "days": days}


_FEEDBACK = {
    "job_id": JOB_ID,
    "label": "dog",
    "predicted": "cat",
    "correct": False,
    "model": {"name": "cats-dogs", "version": "1"},
}
_REPORT = {
    "name": "cats-dogs",
    "versions": [_version(VersionFeedback("1", {20_513: Count(94, 97), 20_514: Count(49, 50)}), "1")],
}


@routes.add(
    "POST",
    "/v1/jobs/<job_id>/feedback",
    scope=Scope.SUBMIT,
    responses={200: JsonResponse(FeedbackObject, "The feedback was recorded.", {"wrong": _FEEDBACK})},
    errors=(NotFoundError, ConflictError),
)
def give(path: JobPath, body: FeedbackBody) -> dict[str, Any]:
    """Report the right label of a job's image. If you report several labels for a job, the last one counts.

    With a key that has the scopes `submit` and `admin`, you can report labels of the jobs of other keys.
    """
    job = manageable(find_job(path.job_id))
    result = job.result
    if not result or not result.prediction or not result.model:
        raise ConflictError(f"The job has no prediction, because it is {job.status}.")
    check_label(body.label, result.model)
    if not current_services().ledger.feedback.add(job, body.label, by=caller().owner):
        raise NotFoundError("No such job: it has expired or was purged.")
    return {
        "job_id": path.job_id,
        "label": body.label,
        "predicted": result.prediction.label,
        "correct": body.label == result.prediction.label,
        "model": {"name": result.model.name, "version": result.model.version},
    }


def labels_of(name: str, version: str) -> list[str]:
    """The labels of a version; none if it is no longer registered."""
    info = _version_info(name, version)
    return list(info.labels) if info else []


def check_label(label: str, model: ModelRef) -> None:
    """Reject a label that the version does not have; versions that are no longer registered are not checked.

    Raises:
        UploadError: the version does not have it.
        ConflictError: the version gives images several labels.
    """
    info = _version_info(model.name, model.version)
    if info is None:
        return
    if info.output == "multi_label":
        raise ConflictError(f"{model.name}@{model.version} gives images several labels, but feedback has only one.")
    if label not in info.labels:
        shown = ", ".join(info.labels[:_LABELS_SHOWN]) + (", ..." if len(info.labels) > _LABELS_SHOWN else "")
        raise UploadError(f"{label[:40]!r} is not a label of {model.name}@{model.version}. Its labels: {shown}.")


def _version_info(name: str, version: str) -> VersionInfo | None:
    model = current_services().ledger.models.model(name)
    return model.versions.get(version) if model else None


@routes.add(
    "GET",
    "/v1/models/<name>/feedback",
    scope=Scope.READ,
    responses={200: JsonResponse(ModelFeedback, "The accuracy of each version with feedback.", {"cats-dogs": _REPORT})},
    errors=(UnknownModelError,),
)
def report(path: ModelPath, query: DaysQuery) -> dict[str, Any]:
    """Read the accuracy of a model's versions, according to the feedback on the jobs that finished in the last days."""
    ledger, name = current_services().ledger, path.name[:MODEL_NAME_MAX]
    model = ledger.models.model(name)
    if model is None:
        raise unknown_model(name.partition("@")[0], ledger.models.versions())
    versions = [_version(found, model.live) for found in ledger.feedback.of_model(name, query.days)]
    return {"name": name, "versions": versions}
