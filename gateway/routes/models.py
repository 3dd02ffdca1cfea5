"""`/v1/models`: the models that can be named in an upload, and their versions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import UnknownModelError
from contract.ledger.models import Model, VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from gateway.accept.model_names import unknown_model
from gateway.http.routing import JsonResponse, Routes
from gateway.services import current_services

routes = Routes("models", "The models that jobs can name with `?model=`.", "/v1/models")

_NAME_MAX = 64


class ModelPath(BaseModel):
    """The name of a model in a path."""

    name: str = Field(description="A model's name.", json_schema_extra={"example": "cats-dogs"})


class ModelSummary(BaseModel):
    """A model."""

    name: str
    default: bool = Field(description="Whether it processes jobs that name no model.")
    live: str = Field(description="The version that processes jobs without a pinned version.")
    versions: list[str]
    label_count: int = Field(description="Number of labels of the live version.")
    workers: int = Field(description="Number of workers that take its jobs.")


class ModelList(BaseModel):
    """All models, sorted by name."""

    models: list[ModelSummary]


class InputObject(BaseModel):
    """The size to which images are resized, in pixels."""

    height: int
    width: int


class IntervalObject(BaseModel):
    """A measured value with its 95 % interval."""

    value: float
    low: float | None
    high: float | None


class VersionObject(BaseModel):
    """A version of a model."""

    version: str
    live: bool
    state: Literal["waiting", "loading", "ready", "failed"] = Field(
        description="`ready`: a worker holds it. `waiting`: a worker loads it when a job needs it. `failed`: no worker "
        "can load it."
    )
    problem: str = Field(description="Why a worker cannot load it; empty if none reported a problem.")
    workers: int = Field(description="Number of workers that hold it.")
    label_count: int
    input: InputObject
    output: str
    architecture: str
    metrics: dict[str, IntervalObject]
    created_at: str | None
    checksum: str = Field(description="SHA-256 of its manifest.")


class ServingStatus(BaseModel):
    """The error of a version, as in TensorFlow Serving."""

    error_code: str
    error_message: str


class ServingVersion(BaseModel):
    """The state of a version, as in TensorFlow Serving."""

    version: str
    state: Literal["START", "LOADING", "AVAILABLE", "END"]
    status: ServingStatus


class ModelDetail(ModelSummary):
    """A model with its versions."""

    # `model_version_status` is TensorFlow Serving's name.
    model_config = ConfigDict(protected_namespaces=())

    revision: int = Field(description="Grows with every change of the model.")
    labels: list[str] = Field(description="The labels of the live version, in the order of the model.")
    details: list[VersionObject] = Field(description="All versions.")
    model_version_status: list[ServingVersion] = Field(description="The same states as TensorFlow Serving returns.")


_INFO = VersionInfo(
    ["cat", "dog"],
    *(160, 160, "sigmoid", "efficientnet"),
    {"accuracy": {"value": 0.984, "low": 0.981, "high": 0.987}},
    *("2026-03-01T12:00:00Z", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
)
_MODEL = Model("cats-dogs", "1", 2, {"1": _INFO}, is_default=True)
_BEAT = Heartbeat(
    *("", "", "cats-dogs", "1", ["cat", "dog"], "tensorflow", "float32", 0.6, "", 1_772_366_400_000, 1_772_366_460_000),
    serves=["cats-dogs"],
    models=[HeldModel("cats-dogs", "1", "ready")],
)


def _summary(model: Model, workers: Sequence[Heartbeat]) -> dict[str, Any]:
    live = model.versions.get(model.live)
    return {
        "name": model.name,
        "default": model.is_default,
        "live": model.live,
        "versions": list(model.versions),
        "label_count": len(live.labels) if live else 0,
        "workers": sum(beat.takes_jobs_of(model.name) for beat in workers),
    }


def _detail(model: Model, workers: Sequence[Heartbeat]) -> dict[str, Any]:
    live = model.versions.get(model.live)
    details = [_version(model, version, info, workers) for version, info in model.versions.items()]
    return _summary(model, workers) | {
        "revision": model.revision,
        "labels": list(live.labels) if live else [],
        "details": details,
        "model_version_status": [_serving(detail) for detail in details],
    }


def _version(model: Model, version: str, info: VersionInfo, workers: Sequence[Heartbeat]) -> dict[str, Any]:
    held = [found for beat in workers for found in _held(beat) if (found.name, found.version) == (model.name, version)]
    states = {found.state for found in held}
    state = next((state for state in ("ready", "loading", "failed") if state in states), "waiting")
    return {
        "version": version,
        "live": version == model.live,
        "state": state,
        "problem": next((found.problem for found in held if found.problem), ""),
        "workers": sum(found.state == "ready" for found in held),
        "label_count": len(info.labels),
        "input": {"height": info.height, "width": info.width},
        "output": info.output,
        "architecture": info.architecture,
        "metrics": {name: dict(value) for name, value in info.metrics.items()},
        "created_at": info.created_at or None,
        "checksum": info.checksum,
    }


def _held(beat: Heartbeat) -> Sequence[HeldModel]:
    """The versions that a worker holds; a worker of an earlier version holds one."""
    return beat.models or (HeldModel(beat.model_name, beat.model_version, "ready"),)


#: TensorFlow Serving's names of the states.
_SERVING = {"waiting": "START", "loading": "LOADING", "ready": "AVAILABLE", "failed": "END"}


def _serving(detail: Mapping[str, Any]) -> dict[str, Any]:
    failed = detail["state"] == "failed"
    status = {"error_code": "INTERNAL" if failed else "OK", "error_message": detail["problem"] if failed else ""}
    return {"version": detail["version"], "state": _SERVING[detail["state"]], "status": status}


@routes.add(
    "GET",
    "",
    scope=Scope.READ,
    responses={200: JsonResponse(ModelList, "All models.", {"models": {"models": [_summary(_MODEL, [_BEAT])]}})},
)
def list_models() -> dict[str, Any]:
    """List the models. Name one in `?model=` of an upload or in `model` of a submission."""
    ledger = current_services().ledger
    workers = ledger.workers()
    return {"models": [_summary(model, workers) for model in ledger.models.models()]}


@routes.add(
    "GET",
    "/<name>",
    scope=Scope.READ,
    responses={200: JsonResponse(ModelDetail, "The model.", {"cats-dogs": _detail(_MODEL, [_BEAT])})},
    errors=(UnknownModelError,),
)
def read(path: ModelPath) -> dict[str, Any]:
    """Read a model: its versions, which of them is live, labels, input and metrics."""
    ledger = current_services().ledger
    model = ledger.models.model(path.name[:_NAME_MAX])
    if model is None:
        raise unknown_model(path.name[:_NAME_MAX].partition("@")[0], ledger.models.versions())
    return _detail(model, ledger.workers())
