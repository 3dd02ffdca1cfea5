"""Shadows: how often they agree with the live version of their model, and on which jobs they do not."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from contract.access import Scope
from contract.errors import UnknownModelError
from contract.job import time_text
from contract.ledger import keys
from contract.ledger.shadows import Agreement, Disagreement
from gateway.accept.model_names import unknown_model
from gateway.http.job_schemas import JOB_ID, optional
from gateway.http.routing import JsonResponse, Routes
from gateway.routes.feedback import DaysQuery
from gateway.routes.models import MODEL_NAME_MAX, ModelPath
from gateway.services import current_services

routes = Routes("shadows", "Versions that are compared with the live one, unseen by clients.", "/v1/models")

_DISAGREEMENTS_SHOWN = 100


class RightObject(BaseModel):
    """The compared jobs whose right label was reported, by which version was right."""

    total: int
    both: int
    only_live: int
    only_shadow: int
    neither: int
    p_value: float = Field(
        description="Of McNemar's exact test. If it is below 0.05, one of the versions is more often right."
    )


class AgreementObject(BaseModel):
    """How a shadow and a live version compare."""

    live: str = Field(description="The version that processed the jobs.")
    shadow: str
    compared: int = Field(description="Number of jobs that both predicted.")
    agreed: int
    agreement: float | None = Field(description="The share on which they agree; null without jobs.")
    low: float = Field(description="Low end of its 95 % interval (Wilson).")
    high: float
    feedback: RightObject


class ShadowReport(BaseModel):
    """What the shadows of a model predicted."""

    name: str
    pairs: list[AgreementObject] = Field(description="Each pair of versions, sorted.")


class DisagreementObject(BaseModel):
    """A job for which the versions predicted different labels."""

    job_id: str = Field(description="The job; it may have expired.")
    at: str = Field(description="When it was compared.")
    live: str
    shadow: str
    label: str
    shadow_label: str
    confidence: float
    shadow_confidence: float


class DisagreementList(BaseModel):
    """The latest disagreements, newest first."""

    name: str
    disagreements: list[DisagreementObject]


class CountQuery(BaseModel):
    """How many disagreements are listed."""

    limit: int = optional(
        "Maximum number.", _DISAGREEMENTS_SHOWN, default=_DISAGREEMENTS_SHOWN, ge=1, le=keys.DISAGREEMENTS_KEPT
    )


def _report(name: str, pairs: Sequence[Agreement]) -> dict[str, Any]:
    return {"name": name, "pairs": [_pair(found) for found in pairs]}


def _pair(found: Agreement) -> dict[str, Any]:
    low, high = found.interval
    return {
        "live": found.live,
        "shadow": found.shadow,
        "compared": found.compared,
        "agreed": found.agreed,
        "agreement": found.agreed / found.compared if found.compared else None,
        "low": low,
        "high": high,
        "feedback": {
            "total": found.with_feedback,
            "both": found.both_right,
            "only_live": found.only_live,
            "only_shadow": found.only_shadow,
            "neither": found.both_wrong,
            "p_value": found.p_value,
        },
    }


def _disagreement(found: Disagreement) -> dict[str, Any]:
    return {
        "job_id": found.job_id,
        "at": time_text(found.at_ms),
        "live": found.live,
        "shadow": found.shadow,
        "label": found.label,
        "shadow_label": found.shadow_label,
        "confidence": found.confidence,
        "shadow_confidence": found.shadow_confidence,
    }


_PAIR = Agreement("1", "2", 1_931, 69, 112, 9, 23, 4)
_DISAGREEMENT = Disagreement(JOB_ID, 1_772_366_400_000, "1", "2", "cat", "dog", 0.64, 0.91)


@routes.add(
    "GET",
    "/<name>/shadow",
    scope=Scope.READ,
    responses={200: JsonResponse(ShadowReport, "The counts.", {"cats-dogs": _report("cats-dogs", [_PAIR])})},
    errors=(UnknownModelError,),
)
def report(path: ModelPath, query: DaysQuery) -> dict[str, Any]:
    """Read how often the shadows of a model agreed with its live versions in the last days."""
    name = _known(path)
    return _report(name, current_services().ledger.shadows.agreement(name, query.days))


@routes.add(
    "GET",
    "/<name>/disagreements",
    scope=Scope.ADMIN,
    responses={
        200: JsonResponse(
            DisagreementList,
            f"At most {keys.DISAGREEMENTS_KEPT:,} are kept, for {keys.DISAGREEMENTS_DAYS} days.",
            {"one": {"name": "cats-dogs", "disagreements": [_disagreement(_DISAGREEMENT)]}},
        )
    },
    errors=(UnknownModelError,),
)
def disagreements(path: ModelPath, query: CountQuery) -> dict[str, Any]:
    """List the latest jobs for which a shadow and the live version predicted different labels."""
    name = _known(path)
    found = current_services().ledger.shadows.disagreements(name, query.limit)
    return {"name": name, "disagreements": [_disagreement(item) for item in found]}


def _known(path: ModelPath) -> str:
    registry, name = current_services().ledger.models, path.name[:MODEL_NAME_MAX]
    versions = registry.versions()
    if name not in versions:
        raise unknown_model(name.partition("@")[0], versions)
    return name
