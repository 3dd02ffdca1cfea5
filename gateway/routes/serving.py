"""TensorFlow Serving's REST API: its `:predict`, `:classify`, status and metadata of a model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import UploadError
from contract.job import Job
from contract.ledger.models import Model
from gateway.accept.inline import PIXELS_TEXT, JsonWithImages, read_json
from gateway.accept.model_names import unknown_model
from gateway.http.job_schemas import JOB_ID
from gateway.http.plain_errors import KEY_RESPONSES, plain_responses, return_plain_errors
from gateway.http.routing import JsonResponse, Routes
from gateway.routes.bodies import read_piece
from gateway.routes.models import (
    MODEL_NAME_MAX,
    ModelPath,
    ServingVersion,
    VersionPath,
    find_model,
    serving_states,
)
from gateway.routes.waiting import (
    ALL_LABELS_MAX,
    MODEL_ERRORS,
    WAITING_ERRORS,
    begin_body,
    check_served,
    classify,
    prediction_of,
)
from gateway.services import current_services

_SIGNATURE = "serving_default"
#: How much of a wrong value is shown.
_SHOWN = 40
_BASE64_TEXT = f'{PIXELS_TEXT}as {{"b64": "<base64 of the file>"}}.'

routes = Routes(
    "serving",
    "Requests of TensorFlow Serving's clients. Each image becomes a job, as with `POST /v1/jobs`. The state of all "
    "versions is in `GET /v1/models/{name}`, as `model_version_status`.",
    "/v1/models",
    title="TensorFlow Serving",
    key_responses=KEY_RESPONSES,
)
return_plain_errors(routes)


class Base64Object(BaseModel):
    """An image."""

    b64: str = Field(description="The base64 of an image file.")


class PredictRequest(BaseModel):
    """Images to classify: either `instances` or `inputs`."""

    signature_name: str = Field(_SIGNATURE, description=f"Only `{_SIGNATURE}`.")
    instances: list[Base64Object | dict[str, Base64Object]] = Field([], description="The images, one in each row.")
    inputs: Base64Object | list[Base64Object] | dict[str, Base64Object | list[Base64Object]] = Field(
        [], description="The images, in one column."
    )


class PredictResponse(BaseModel):
    """The probabilities of each image, in the order of the model's labels."""

    predictions: list[list[float]] = Field([], description="For `instances`.")
    outputs: list[list[float]] = Field([], description="For `inputs`.")
    job_ids: list[str] = Field(description="The job of each image.")


class ClassifyRequest(BaseModel):
    """Images to classify."""

    signature_name: str = Field(_SIGNATURE, description=f"Only `{_SIGNATURE}`.")
    examples: list[dict[str, Base64Object | list[Base64Object]]] = Field(
        description="The images, each as the only feature of an example."
    )


class ClassifyResponse(BaseModel):
    """The labels of each image with their probabilities, most likely first."""

    results: list[list[tuple[str, float]]]
    job_ids: list[str] = Field(description="The job of each image.")


class ServingStatusList(BaseModel):
    """The state of a version."""

    model_config = ConfigDict(protected_namespaces=())

    model_version_status: list[ServingVersion]


class ServingMetadata(BaseModel):
    """The signature of a version."""

    model_config = ConfigDict(protected_namespaces=())

    model_spec: dict[str, str]
    metadata: dict[str, Any]


def _metadata_of(name: str, version: str, label_count: int) -> dict[str, Any]:
    signature = {
        "inputs": {"image": _tensor("image", "DT_STRING", -1)},
        "outputs": {"probabilities": _tensor("probabilities", "DT_FLOAT", -1, label_count)},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {_SIGNATURE: signature}}},
    }


def _tensor(name: str, dtype: str, *sizes: int) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}


_B64 = {"b64": "/9j/4AAQSkZJRgABAQ..."}
_PREDICT_BODY = {
    "required": True,
    "content": {"application/json": {"schema": PredictRequest, "example": {"instances": [_B64]}}},
}
_PREDICT_RESPONSES = {
    200: JsonResponse(
        PredictResponse, "The predictions.", {"cat": {"predictions": [[0.97, 0.03]], "job_ids": [JOB_ID]}}
    ),
    **plain_responses(WAITING_ERRORS),
}
_CLASSIFY_BODY = {
    "required": True,
    "content": {"application/json": {"schema": ClassifyRequest, "example": {"examples": [{"image": _B64}]}}},
}
_CLASSIFY_RESPONSES = {
    200: JsonResponse(
        ClassifyResponse,
        "The predictions.",
        {"cat": {"results": [[["cat", 0.97], ["dog", 0.03]]], "job_ids": [JOB_ID]}},
    ),
    **plain_responses(WAITING_ERRORS),
}
_STATUS = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
_STATUS_RESPONSES = {
    200: JsonResponse(ServingStatusList, "The state.", {"available": {"model_version_status": [_STATUS]}}),
    **plain_responses(MODEL_ERRORS),
}
_METADATA_RESPONSES = {
    200: JsonResponse(ServingMetadata, "The signature.", {"cats-dogs": _metadata_of("cats-dogs", "1", 2)}),
    **plain_responses(MODEL_ERRORS),
}


@routes.add("GET", "/<name>/versions/<version>", scope=Scope.READ, responses=_STATUS_RESPONSES)
def version(path: VersionPath) -> dict[str, Any]:
    """Read the state of a version of a model."""
    model = _model_with(path.name, path.version)
    states = serving_states(model, current_services().ledger.workers())
    return {"model_version_status": [state for state in states if state["version"] == path.version]}


@routes.add("GET", "/<name>/metadata", scope=Scope.READ, responses=_METADATA_RESPONSES)
def metadata(path: ModelPath) -> dict[str, Any]:
    """Read the signature of a model's live version."""
    return _metadata(_model_with(path.name))


@routes.add("GET", "/<name>/versions/<version>/metadata", scope=Scope.READ, responses=_METADATA_RESPONSES)
def version_metadata(path: VersionPath) -> dict[str, Any]:
    """Read the signature of a version of a model."""
    return _metadata(_model_with(path.name, path.version), path.version)


@routes.add("POST", "/<name>:predict", scope=Scope.SUBMIT, responses=_PREDICT_RESPONSES, requestBody=_PREDICT_BODY)
def predict(path: ModelPath) -> Response:
    """Classify images, and wait for the results.

    `instances` has the images in rows, `{"b64": "..."}` or `{"NAME": {"b64": "..."}}`, and is answered with
    `predictions`; `inputs` has them in a column, and is answered with `outputs`. Images are sent as files, not as
    pixels. All images are accepted, or none. For models with more than 100 labels, use `:classify`.
    """
    return _predict(path.name)


@routes.add(
    "POST",
    "/<name>/versions/<version>:predict",
    scope=Scope.SUBMIT,
    responses=_PREDICT_RESPONSES,
    requestBody=_PREDICT_BODY,
)
def predict_with(path: VersionPath) -> Response:
    """Classify images with a version of a model, and wait for the results."""
    return _predict(path.name, path.version)


@routes.add("POST", "/<name>:classify", scope=Scope.SUBMIT, responses=_CLASSIFY_RESPONSES, requestBody=_CLASSIFY_BODY)
def classify_examples(path: ModelPath) -> Response:
    """Classify images, and wait for the labels with their probabilities, most likely first."""
    return _classify(path.name)


@routes.add(
    "POST",
    "/<name>/versions/<version>:classify",
    scope=Scope.SUBMIT,
    responses=_CLASSIFY_RESPONSES,
    requestBody=_CLASSIFY_BODY,
)
def classify_examples_with(path: VersionPath) -> Response:
    """Classify images with a version of a model, and wait for the labels with their probabilities."""
    return _classify(path.name, path.version)


def _model_with(name: str, version: str = "") -> Model:
    """A model that has this version."""
    model = find_model(name[:MODEL_NAME_MAX])
    if version and version not in model.versions:
        raise unknown_model(f"{model.name}@{version}", {model.name: list(model.versions)})
    return model


def _label_count(model: Model, version: str = "") -> int:
    info = model.versions.get(version or model.live)
    return len(info.labels) if info else 0


def _metadata(model: Model, version: str = "") -> dict[str, Any]:
    return _metadata_of(model.name, version or model.live, _label_count(model, version))


def _predict(name: str, version: str = "") -> Response:
    model = _model_with(name, version)
    labels = _label_count(model, version)
    if labels > ALL_LABELS_MAX:
        raise UploadError(
            f"The model has {labels:,} labels, of which only the most likely ones are kept. Use `:classify`, which "
            "returns them with their probabilities."
        )
    body = _read(model)
    rows, columns = body.value.get("instances"), body.value.get("inputs")
    if (rows is None) == (columns is None):
        raise UploadError("Send either `instances` (rows) or `inputs` (columns).")
    texts = _rows(rows) if columns is None else _column(columns)
    jobs = _jobs(texts, body, model, version)
    # In the order of the model, because it has few labels.
    probabilities = [list(prediction_of(job).probabilities.values()) for job in jobs]
    return _answer("predictions" if columns is None else "outputs", probabilities, jobs)


def _classify(name: str, version: str = "") -> Response:
    model = _model_with(name, version)
    body = _read(model)
    if body.value.get("context"):
        raise UploadError("`context` is not supported. Send each image as the only feature of an example.")
    jobs = _jobs(_rows(body.value.get("examples")), body, model, version)
    results = [sorted(prediction_of(job).probabilities.items(), key=lambda pair: pair[1], reverse=True) for job in jobs]
    return _answer("results", results, jobs)


def _read(model: Model) -> JsonWithImages:
    check_served(model.name)
    body = read_json(read_piece, begin_body())
    if not isinstance(body.value, dict):
        raise UploadError("The body is not a JSON object.")
    signature = body.value.get("signature_name", _SIGNATURE)
    if signature not in ("", _SIGNATURE):
        raise UploadError(f"There is no signature {str(signature)[:_SHOWN]!r}. The only one is `{_SIGNATURE}`.")
    return body


def _jobs(texts: Iterator[str], body: JsonWithImages, model: Model, version: str) -> list[Job]:
    images = (("", body.take(text)) for text in texts)
    return classify(images, f"{model.name}@{version}" if version else model.name)


def _answer(name: str, values: Sequence[Any], jobs: Sequence[Job]) -> Response:
    return jsonify({name: values, "job_ids": [job.id for job in jobs]})


def _rows(rows: Any) -> Iterator[str]:
    """The base64 of the image in each row."""
    if not isinstance(rows, list):
        raise UploadError(f"The images are not a list. {_BASE64_TEXT}")
    for row in rows:
        yield _base64(_only_member(row))


def _column(column: Any) -> Iterator[str]:
    """The base64 of the images in a column, which may have a name."""
    values = _only_member(column)
    for value in values if isinstance(values, list) else [values]:
        yield _base64(value)


def _only_member(value: Any) -> Any:
    """The value of the only member of an object, if that is a named tensor."""
    if isinstance(value, Mapping) and len(value) == 1 and "b64" not in value:
        (value,) = value.values()
    return value


def _base64(value: Any) -> str:
    """The text in `{"b64": text}`, which may be in a list of one."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    text = value.get("b64") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(text, str):
        raise UploadError(f"A value is not an image. {_BASE64_TEXT}")
    return text
