"""`/v1/models`: the models that can be named in an upload, and their versions."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from flask import jsonify
from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import (
    ConflictError,
    ModelChangedError,
    ModelChangingError,
    NotFoundError,
    NotPromotedError,
    UnknownModelError,
    UploadError,
)
from contract.job import time_text
from contract.ledger.models import Begun, CanaryTerms, Change, ChangeKind, Model, Shadow, VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from gateway.accept.model_names import unknown_model
from gateway.http.auth import caller
from gateway.http.job_schemas import WaitHeader
from gateway.http.routing import PREFERENCE, JsonResponse, Routes
from gateway.routes.bodies import clean_name, granted_wait_s
from gateway.services import current_services

routes = Routes("models", "The models that jobs can name with `?model=`.", "/v1/models")

MODEL_NAME_MAX = 64
_VERSION_MAX = 64
#: A canary's share of the jobs in percent. Beyond this, promote it.
_PERCENT_MAX = 50
#: Pause between two looks at a change that is in progress.
_POLL_S = 0.2


class ModelPath(BaseModel):
    """The name of a model in a path."""

    name: str = Field(description="A model's name.", json_schema_extra={"example": "cats-dogs"})


class VersionPath(ModelPath):
    """The name and a version of a model in a path."""

    version: str = Field(description="A version of the model.", json_schema_extra={"example": "1"})


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


class ChangeObject(BaseModel):
    """A change of a model."""

    kind: Literal["live", "canary", "canary_end"] = Field(
        description="`live`: makes the version live. `canary`: lets it process a share of the jobs. `canary_end`: ends "
        "the canary."
    )
    version: str = Field(description="The version that is to become live or the canary, or that was the canary.")
    by: str = Field(description="Id of the API key that asked for it; empty if no key is required.")
    why: str
    revision: int = Field(description="The revision of the model at which the change began; identifies the change.")
    started_at: str
    settled_at: str | None = Field(description="When it took effect or was taken back; null while in progress.")
    problem: str = Field(description="Why it, or the canary, was taken back; empty if nothing went wrong.")


class CanaryObject(BaseModel):
    """A version that processes a share of the jobs."""

    version: str
    percent: float = Field(description="Its share of the jobs that name no version.")
    auto_rollback: bool = Field(description="Whether it ends by itself if it is worse than the live version.")
    by: str = Field(description="Id of the API key that asked for it; empty if no key is required.")
    why: str
    started_at: str


class ShadowObject(BaseModel):
    """A version that predicts a share of the images after the live version has; clients never get its results."""

    version: str
    sample: float = Field(description="The share of the jobs that it predicts.")
    by: str = Field(description="Id of the API key that set it; empty if no key is required.")
    why: str
    revision: int = Field(description="The revision of the model at which it was set.")
    started_at: str
    workers: int = Field(description="Number of workers that predict with it.")
    problem: str = Field(description="Why it was stopped, or why a worker does not run it; empty if all do.")


class ModelDetail(ModelSummary):
    """A model with its versions."""

    # `model_version_status` is TensorFlow Serving's name.
    model_config = ConfigDict(protected_namespaces=())

    revision: int = Field(description="Grows with every change of the model.")
    labels: list[str] = Field(description="The labels of the live version, in the order of the model.")
    previous: str | None = Field(description="The version that was live before.")
    canary: CanaryObject | None = Field(description="The version that processes a share of the jobs.")
    change: ChangeObject | None = Field(description="The change that is in progress.")
    last_change: ChangeObject | None = Field(description="The last change that ended.")
    shadow: ShadowObject | None = Field(description="The version that is compared with the live one.")
    details: list[VersionObject] = Field(description="All versions.")
    model_version_status: list[ServingVersion] = Field(description="The same states as TensorFlow Serving returns.")


#: Values for the examples of the API's documentation.
_INFO = VersionInfo(
    ["cat", "dog"],
    *(160, 160, "sigmoid", "efficientnet"),
    {"accuracy": {"value": 0.984, "low": 0.981, "high": 0.987}},
    *("2026-03-01T12:00:00Z", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
)
_MODEL = Model("cats-dogs", "1", 2, {"1": _INFO}, is_default=True)
_CHANGE = Change("2", "", "better on grey images", 3, 1_772_366_400_000, 1_772_366_520_000)
_CANARY = replace(
    _MODEL,
    versions={"1": _INFO, "2": _INFO},
    canary=Change(*("2", "", "is it faster?", 3, 1_772_366_400_000, 1_772_366_520_000, 1_772_366_410_000), percent=5),
)
_SHADOW = replace(
    _MODEL,
    versions={"1": _INFO, "2": _INFO},
    shadow=Shadow("2", 0.2, "", "trained on night images", 3, 1_772_366_400_000),
)
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
        "previous": model.previous or None,
        "canary": _canary(model.canary),
        "change": _change(model.change),
        "last_change": _change(model.last_change),
        "shadow": _shadow(model, workers),
        "details": details,
        "model_version_status": _serving(details),
    }


def _change(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "kind": change.kind,
        "version": change.version,
        "by": change.by,
        "why": change.why,
        "revision": change.revision,
        "started_at": time_text(change.started_ms),
        "settled_at": time_text(change.settled_ms),
        "problem": change.problem,
    }


def _canary(canary: Change | None) -> dict[str, Any] | None:
    if canary is None:
        return None
    return {
        "version": canary.version,
        "percent": canary.percent,
        "auto_rollback": canary.auto_rollback,
        "by": canary.by,
        "why": canary.why,
        "started_at": time_text(canary.settled_ms),
    }


def _shadow(model: Model, workers: Sequence[Heartbeat]) -> dict[str, Any] | None:
    shadow = model.shadow
    if shadow is None:
        return None
    held = [found for beat in workers if (found := beat.shadow_of(model.name, shadow.version))]
    problem = shadow.problem or next((found.problem for found in held if found.problem), "")
    return {
        "version": shadow.version,
        "sample": shadow.sample,
        "by": shadow.by,
        "why": shadow.why,
        "revision": shadow.revision,
        "started_at": time_text(shadow.started_ms),
        "workers": 0 if shadow.problem else sum(found.state == "ready" for found in held),
        "problem": problem,
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


def serving_states(model: Model, workers: Sequence[Heartbeat]) -> list[dict[str, Any]]:
    """The states of the versions of a model, as TensorFlow Serving returns them."""
    return _serving([_version(model, version, info, workers) for version, info in model.versions.items()])


def _serving(details: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    states = []
    for detail in details:
        failed = detail["state"] == "failed"
        status = {"error_code": "INTERNAL" if failed else "OK", "error_message": detail["problem"] if failed else ""}
        states.append({"version": detail["version"], "state": _SERVING[detail["state"]], "status": status})
    return states


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
    name = path.name[:MODEL_NAME_MAX]
    return _detail(find_model(name), current_services().ledger.workers())


class CanaryPatch(BaseModel):
    """A version that is to process a share of the jobs."""

    model_config = ConfigDict(extra="forbid")

    version: str = Field(min_length=1, max_length=_VERSION_MAX)
    percent: float = Field(gt=0, le=_PERCENT_MAX, description="Its share of the jobs that name no version.")
    auto_rollback: bool = Field(
        default=False,
        description="End it if its errors, its predict time or its accuracy are worse than the live one's.",
    )


class ShadowPatch(BaseModel):
    """A version that is to be compared with the live one."""

    model_config = ConfigDict(extra="forbid")

    version: str = Field(min_length=1, max_length=_VERSION_MAX)
    sample: float = Field(0.2, gt=0, le=1, description="The share of the jobs that it predicts.")


class ModelPatch(BaseModel):
    """A change of a model: exactly one of `live`, `rollback`, `canary` and `shadow`."""

    model_config = ConfigDict(extra="forbid")

    live: str | None = Field(
        None,
        min_length=1,
        max_length=_VERSION_MAX,
        description="The version that is to process jobs without a pinned version.",
    )
    rollback: bool = Field(default=False, description="Return to the version that was live before.")
    canary: CanaryPatch | None = Field(
        None, description="Let another version process a share of the jobs; null ends the canary at once."
    )
    shadow: ShadowPatch | None = Field(
        None, description="The version that predicts a share of the images after the live one has; null removes it."
    )
    why: str = Field("", max_length=500, description="The reason, which is recorded with the change.")
    revision: int | None = Field(
        None, description="Change the model only if it still has this revision, as read before."
    )


@routes.add(
    "PATCH",
    "/<name>",
    scope=Scope.ADMIN,
    responses={
        200: JsonResponse(
            ModelDetail,
            "The change is done.",
            {
                "live": _detail(_MODEL, [_BEAT]),
                "canary": _detail(_CANARY, [_BEAT]),
                "shadow": _detail(_SHADOW, [_BEAT]),
            },
            PREFERENCE,
        ),
        202: JsonResponse(
            ModelDetail,
            "Workers are loading the version. `change` disappears when they have.",
            {"cats-dogs": _detail(replace(_MODEL, change=_CHANGE), [_BEAT])},
            PREFERENCE,
        ),
    },
    errors=(
        *(UnknownModelError, NotFoundError, ConflictError),
        *(ModelChangedError, ModelChangingError, NotPromotedError),
    ),
)
def change(path: ModelPath, body: ModelPatch, header: WaitHeader) -> Any:
    """Promote a version, roll back, or begin or end a canary or a shadow.

    Workers load the version beside the live one. It becomes live, or the canary, when every worker of the model has
    loaded it; if one cannot, or the time limit passes, nothing changes. Jobs are processed by the version that is live
    when a worker claims them; a canary processes its share of the jobs. A canary ends when the live version changes.

    A shadow is set at once. Workers load it when they have enough memory; `shadow` in the model shows how many have.
    """
    services, name = current_services(), path.name[:MODEL_NAME_MAX]
    sent = body.model_fields_set
    if [body.live is not None, body.rollback, "canary" in sent, "shadow" in sent].count(True) != 1:
        raise UploadError("Send one of `live` with a version, `rollback` with true, `canary` and `shadow`.")
    if "shadow" in sent:
        return _set_shadow(name, body)
    begun, revision = _begin(name, body)
    if begun not in (Begun.BEGUN, Begun.LIVE):
        raise _refusal(begun, name, body)
    wait_s = granted_wait_s(header, services.settings.wait_max_s)
    end_s = time.monotonic() + wait_s
    while (model := _settled(name)).change and time.monotonic() < end_s:
        time.sleep(_POLL_S)
    last = model.last_change
    if begun is Begun.BEGUN and last and last.revision == revision and last.problem:
        wanted = "the canary" if last.kind == ChangeKind.CANARY else "live"
        raise NotPromotedError(
            f"{name}@{last.version} did not become {wanted}, and nothing has changed. {last.problem}"
        )
    headers = {"Preference-Applied": f"wait={wait_s:g}"} if wait_s else {}
    return jsonify(_detail(model, services.ledger.workers())), 202 if model.change else 200, headers


def _begin(name: str, body: ModelPatch) -> tuple[Begun, int]:
    """Begin a change of the live version or of the canary."""
    services = current_services()
    registry, limit_s = services.ledger.models, services.settings.promote_limit_s
    by, why, revision = caller().owner, clean_name(body.why), body.revision
    if body.canary:
        version, terms = body.canary.version, CanaryTerms(body.canary.percent, body.canary.auto_rollback)
        return registry.change(name, version, canary=terms, by=by, why=why, limit_s=limit_s, revision=revision)
    if "canary" in body.model_fields_set:
        return registry.end_canary(name, by=by, why=why, revision=revision)
    return registry.change(name, body.live, by=by, why=why, limit_s=limit_s, revision=revision)


def _set_shadow(name: str, body: ModelPatch) -> dict[str, Any]:
    wanted, services = body.shadow, current_services()
    begun, _ = services.ledger.models.set_shadow(
        name,
        wanted.version if wanted else None,
        sample=wanted.sample if wanted else 1.0,
        by=caller().owner,
        why=clean_name(body.why),
        revision=body.revision,
    )
    if begun is Begun.LIVE and wanted:
        raise ConflictError(f"{name}@{wanted.version} is live. A shadow is another version than the live one.")
    if begun is not Begun.BEGUN:
        raise _refusal(begun, name, body)
    return _detail(find_model(name), services.ledger.workers())


def _settled(name: str) -> Model:
    current_services().ledger.models.settle(name)
    return find_model(name)


def find_model(name: str) -> Model:
    """The model with this name.

    Raises:
        UnknownModelError: there is none.
    """
    registry = current_services().ledger.models
    model = registry.model(name)
    if model is None:
        raise unknown_model(name.partition("@")[0], registry.versions())
    return model


def _refusal(begun: Begun, name: str, body: ModelPatch) -> Exception:
    """Why a change did not begin."""
    if begun in (Begun.UNKNOWN_MODEL, Begun.UNKNOWN_VERSION):
        beside = body.canary or body.shadow
        version = beside.version if beside else body.live
        wanted = name if begun is Begun.UNKNOWN_MODEL else f"{name}@{version}"
        return unknown_model(wanted, current_services().ledger.models.versions())
    model = find_model(name)
    if begun is Begun.NO_PREVIOUS:
        return NotFoundError(
            f"The model {name} has had no live version but {model.live}. Promote the version that you want."
        )
    if begun is Begun.IS_LIVE:
        return ConflictError(f"The version {model.live} is live. A canary is another version.")
    if begun is Begun.CHANGING and (other := model.change):
        wanted = "the canary" if other.kind == ChangeKind.CANARY else "live"
        return ModelChangingError(
            f"The version {other.version} is being made {wanted}{_by(other)}. Wait until that has ended."
        )
    last = model.last_change
    done = f" Last change: version {last.version}{_by(last)}." if last else ""
    return ModelChangedError(
        f"The model {name} has revision {model.revision}, not {body.revision}: {model.live} is live.{done}"
    )


def _by(change: Change) -> str:
    """Who asked for a change, when and why."""
    who = f" by {change.by}" if change.by else ""
    why = f" ({change.why})" if change.why else ""
    return f"{who} since {time_text(change.started_ms)}{why}"
