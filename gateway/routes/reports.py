"""`/v1/models/{name}/report`: what each version of a model did, side by side."""

from typing import Any

from pydantic import BaseModel, Field

from contract.access import Scope
from contract.errors import UnknownModelError
from contract.ledger.counts import VersionCounts
from contract.ledger.feedback import Count
from gateway.accept.model_names import unknown_model
from gateway.http.routing import JsonResponse, Routes
from gateway.routes.feedback import AccuracyObject, DaysQuery, accuracy_of
from gateway.routes.models import MODEL_NAME_MAX, ModelPath
from gateway.services import current_services

routes = Routes("reports", "What the versions of a model did.", "/v1/models")


class ErrorsObject(BaseModel):
    """The jobs on which a version raised an exception, and their share with its 95 % interval (Wilson)."""

    count: int
    share: float | None = Field(description="null without jobs.")
    low: float
    high: float


class PredictTimeObject(BaseModel):
    """The time of the model call for the batch of a job, in milliseconds, at most 5 % too high or low.

    Versions that process fewer jobs have smaller batches, which take less time.
    """

    p50: float | None = Field(description="null without jobs.")
    p95: float | None


class VersionReport(BaseModel):
    """What a version did."""

    version: str
    live: bool
    canary: bool
    jobs: int = Field(description="Number of jobs that it processed; of a canary, with those that were retried.")
    errors: ErrorsObject
    predict_ms: PredictTimeObject
    labels: dict[str, int] = Field(description="Number of its predictions by label, most frequent first.")
    confidence: float | None = Field(description="The mean confidence of its predictions; null without any.")
    accuracy: AccuracyObject = Field(description="Of the predictions with feedback.")


class ModelReport(BaseModel):
    """What the versions of a model did."""

    name: str
    versions: list[VersionReport]


def _version(found: VersionCounts, feedback: Count, live: str, canary: str) -> dict[str, Any]:
    low, high = found.error_interval
    times = {"p50": found.predict_ms(0.5), "p95": found.predict_ms(0.95)}
    return {
        "version": found.version,
        "live": found.version == live,
        "canary": found.version == canary,
        "jobs": found.jobs,
        "errors": {
            "count": found.errors,
            "share": found.errors / found.jobs if found.jobs else None,
            "low": low,
            "high": high,
        },
        "predict_ms": {name: None if value is None else round(value, 2) for name, value in times.items()},
        "labels": dict(sorted(found.labels.items(), key=lambda item: (-item[1], item[0]))),
        "confidence": found.mean_confidence,
        "accuracy": accuracy_of(feedback),
    }


_COUNTS = VersionCounts("1", 940, 2, 872.3, {58: 900, 70: 38}, {"cat": 520, "dog": 418})
_REPORT = {"name": "cats-dogs", "versions": [_version(_COUNTS, Count(143, 147), "1", "")]}


@routes.add(
    "GET",
    "/<name>/report",
    scope=Scope.READ,
    responses={200: JsonResponse(ModelReport, "The versions that processed jobs.", {"cats-dogs": _REPORT})},
    errors=(UnknownModelError,),
)
def report(path: ModelPath, query: DaysQuery) -> dict[str, Any]:
    """Compare the versions of a model: jobs, errors, predict time, labels, confidence and accuracy of the last days.

    Except for the accuracy, the counts are kept for 90 days.
    """
    ledger, name = current_services().ledger, path.name[:MODEL_NAME_MAX]
    model = ledger.models.model(name)
    if model is None:
        raise unknown_model(name.partition("@")[0], ledger.models.versions())
    counts = {found.version: found for found in ledger.counts.of_model(name, query.days)}
    feedback = {found.version: found.count for found in ledger.feedback.of_model(name, query.days)}
    canary = model.canary.version if model.canary else ""
    versions = [
        _version(counts.get(version, VersionCounts(version)), feedback.get(version, Count()), model.live, canary)
        for version in sorted({*counts, *feedback})
    ]
    return {"name": name, "versions": versions}
