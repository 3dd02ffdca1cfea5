"""The Open Inference Protocol v2 of KServe and Triton, over HTTP, with Triton's binary tensor data extension."""

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from contract.access import Scope
from contract.errors import NoModelError, UnavailableError, UploadError
from contract.job import Job
from gateway import VERSION
from gateway.accept.inline import PIXELS_TEXT, ImageBudget, JsonWithImages, first, read_json, read_tensor
from gateway.accept.model_names import unknown_model
from gateway.http.job_schemas import BINARY, JOB_ID, TOP_K_MAX
from gateway.http.plain_errors import KEY_RESPONSES, plain_responses, return_plain_errors
from gateway.http.routing import JsonResponse, Routes, validated
from gateway.routes.bodies import read_piece
from gateway.routes.health import problem_of_service
from gateway.routes.models import MODEL_NAME_MAX, ModelPath, VersionPath, find_model
from gateway.routes.waiting import (
    ALL_LABELS_MAX,
    MODEL_ERRORS,
    WAITING_ERRORS,
    begin_body,
    check_model,
    check_served,
    classify,
    prediction_of,
)

#: Response header, and request header, of the binary extension: the size of the JSON in front of the tensors.
_JSON_SIZE = "Inference-Header-Content-Length"
_INPUT = "image"
_OUTPUTS = {"label": "BYTES", "probabilities": "FP32", "labels": "BYTES"}
#: How much of a wrong value is shown.
_SHOWN = 40

routes = Routes(
    "inference",
    "The Open Inference Protocol v2, which clients of KServe and Triton use. Each image becomes a job, as with "
    "`POST /v1/jobs`.",
    "/v2",
    title="Open Inference Protocol",
    key_responses=KEY_RESPONSES,
)
return_plain_errors(routes)


class _Protocol(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ServerMetadata(BaseModel):
    """The name of the server, and the extensions of the protocol that it supports."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server responds."""

    live: bool


class Ready(BaseModel):
    """Whether the server can classify images."""

    ready: bool


class ModelReady(Ready):
    """Whether a worker takes the jobs of a model."""

    name: str


class TensorMetadata(BaseModel):
    """A tensor; -1 in `shape` is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model: its versions, its input and its outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InputTensor(BaseModel):
    """The images."""

    name: str = Field(description="Any name.")
    shape: list[int] = Field(description="`[n]` or `[n, 1]`.")
    datatype: str = Field(description="`BYTES`.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="`binary_data_size`: the size of the binary tensor that follows the JSON."
    )
    data: list[Any] | None = Field(None, description="The images in base64; missing if the tensor is binary.")


class RequestedOutput(BaseModel):
    """An output to return."""

    name: str = Field(description="`label`, `probabilities` or `labels`.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="`binary_data`: return it as a binary tensor.")


class InferRequest(BaseModel):
    """Images to classify."""

    id: str = Field("", description="Returned as it is.")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="`top_k`: return the probabilities of this many labels, most likely first. `binary_data_output`: "
        "return all outputs as binary tensors. Others are ignored.",
    )
    inputs: list[InputTensor] = Field(description="One input.")
    outputs: list[RequestedOutput] = Field(default_factory=list, description="The outputs to return; default: all.")


class OutputTensor(BaseModel):
    """An output."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] = Field([], description="The values, row by row; missing if the tensor is binary.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="`binary_data_size` of a binary tensor.")


class InferResponse(_Protocol):
    """The predictions."""

    model_name: str
    model_version: str = Field("", description="Missing if several versions predicted the images.")
    id: str = ""
    parameters: dict[str, str] = Field(
        description="`job_id`: the job of the image; of several images `job_ids`, separated by commas."
    )
    outputs: list[OutputTensor]


_METADATA = {"name": "pawqueue", "version": VERSION, "extensions": ["binary_tensor_data"]}
_EXAMPLE_REQUEST = {
    "inputs": [{"name": _INPUT, "shape": [1], "datatype": "BYTES", "data": ["/9j/4AAQSkZJRgABAQ..."]}],
}
_EXAMPLE_RESPONSE = {
    "model_name": "cats-dogs",
    "model_version": "1",
    "parameters": {"job_id": JOB_ID},
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["cat"]},
        {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.97, 0.03]},
        {"name": "labels", "datatype": "BYTES", "shape": [1, 2], "data": ["cat", "dog"]},
    ],
}
_INFER_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": InferRequest, "example": _EXAMPLE_REQUEST},
        "application/octet-stream": {"schema": BINARY},
    },
}
_INFER_RESPONSES: dict[int, JsonResponse | dict[str, Any]] = {
    200: {
        "description": "The predictions; if binary outputs were requested, the JSON and after it the binary tensors.",
        "headers": {
            _JSON_SIZE: {"description": "Size of the JSON before binary tensors.", "schema": {"type": "integer"}}
        },
        "content": {
            "application/json": {"schema": InferResponse, "examples": {"cat": {"value": _EXAMPLE_RESPONSE}}},
            "application/octet-stream": {"schema": BINARY, "example": "The JSON and the binary tensors."},
        },
    },
    **plain_responses(WAITING_ERRORS),
}


def _metadata_of(name: str, versions: Sequence[str], label_count: int) -> dict[str, Any]:
    columns = label_count if label_count <= ALL_LABELS_MAX else -1
    shapes = {"label": [-1], "probabilities": [-1, columns], "labels": [-1, columns]}
    return {
        "name": name,
        "versions": list(versions),
        "platform": "pawqueue",
        "inputs": [{"name": _INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": kind, "shape": shapes[name]} for name, kind in _OUTPUTS.items()],
    }


_METADATA_RESPONSES = {
    200: JsonResponse(ModelMetadata, "The model.", {"cats-dogs": _metadata_of("cats-dogs", ["1"], 2)}),
    **plain_responses(MODEL_ERRORS),
}
_READY_RESPONSES = {
    200: JsonResponse(ModelReady, "The model is served.", {"cats-dogs": {"name": "cats-dogs", "ready": True}}),
    **plain_responses((*MODEL_ERRORS, NoModelError)),
}


@routes.add(
    "GET", "", scope=None, responses={200: JsonResponse(ServerMetadata, "The server.", {"pawqueue": _METADATA})}
)
def server() -> dict[str, Any]:
    """Read the version of the server, and the extensions of the protocol that it supports."""
    return _METADATA


@routes.add(
    "GET",
    "/health/live",
    scope=None,
    responses={200: JsonResponse(Live, "The process is alive.", {"live": {"live": True}})},
)
def server_live() -> dict[str, bool]:
    """Check whether the process is alive."""
    return {"live": True}


@routes.add(
    "GET",
    "/health/ready",
    scope=None,
    responses={
        200: JsonResponse(Ready, "Images can be classified.", {"ready": {"ready": True}}),
        **plain_responses((NoModelError, UnavailableError)),
    },
)
def server_ready() -> dict[str, bool]:
    """Check whether images can be classified: jobs can be accepted, and a worker serves the default model."""
    if problem := problem_of_service():
        raise UnavailableError(problem)
    check_served("")
    return {"ready": True}


@routes.add("GET", "/models/<name>", scope=Scope.READ, responses=_METADATA_RESPONSES)
def model(path: ModelPath) -> dict[str, Any]:
    """Read the versions, the input and the outputs of a model."""
    return _metadata(path.name)


@routes.add("GET", "/models/<name>/versions/<version>", scope=Scope.READ, responses=_METADATA_RESPONSES)
def version(path: VersionPath) -> dict[str, Any]:
    """Read the input and the outputs of a version of a model."""
    return _metadata(path.name, path.version)


@routes.add("GET", "/models/<name>/ready", scope=Scope.READ, responses=_READY_RESPONSES)
def model_ready(path: ModelPath) -> dict[str, Any]:
    """Check whether a worker takes the jobs of a model."""
    return _ready(path.name)


@routes.add("GET", "/models/<name>/versions/<version>/ready", scope=Scope.READ, responses=_READY_RESPONSES)
def version_ready(path: VersionPath) -> dict[str, Any]:
    """Check whether a worker takes the jobs of a version of a model, which it may have to load first."""
    return _ready(path.name, path.version)


@routes.add("POST", "/models/<name>/infer", scope=Scope.SUBMIT, responses=_INFER_RESPONSES, requestBody=_INFER_BODY)
def infer(path: ModelPath) -> Response:
    """Classify images, and wait for the results.

    The input is a `BYTES` tensor of image files, not of pixels. In JSON, each element is the base64 of a file, because
    JSON strings cannot hold arbitrary bytes. A binary tensor follows the JSON, whose size is in the header
    `Inference-Header-Content-Length`; its elements are the files as they are, each after its length in 4 bytes,
    little-endian. The outputs are `label`, `probabilities`, and `labels`, the label of each probability.

    All images are accepted, or none.
    """
    return _infer(path.name)


@routes.add(
    "POST",
    "/models/<name>/versions/<version>/infer",
    scope=Scope.SUBMIT,
    responses=_INFER_RESPONSES,
    requestBody=_INFER_BODY,
)
def infer_with(path: VersionPath) -> Response:
    """Classify images with a version of a model, and wait for the results."""
    return _infer(path.name, path.version)


def _metadata(name: str, version: str = "") -> dict[str, Any]:
    found = find_model(name[:MODEL_NAME_MAX])
    if version and version not in found.versions:
        raise unknown_model(f"{found.name}@{version}", {found.name: list(found.versions)})
    info = found.versions.get(version or found.live)
    return _metadata_of(found.name, [version] if version else list(found.versions), len(info.labels) if info else 0)


def _ready(name: str, version: str = "") -> dict[str, Any]:
    check_model(_model_of(name, version))
    return {"name": name, "ready": True}


def _model_of(name: str, version: str) -> str:
    name = name[:MODEL_NAME_MAX]
    return f"{name}@{version}" if version else name


def _infer(name: str, version: str = "") -> Response:
    wanted = _model_of(name, version)
    check_model(wanted)
    budget = begin_body()
    json_bytes = _json_bytes()
    body = read_json(read_piece if json_bytes is None else first(read_piece, json_bytes), budget)
    sent = validated(InferRequest, "body", body.value)
    outputs, top_k = _wanted_outputs(sent), _top_k(sent)
    tensor, count = _image_tensor(sent)
    if tensor.data is not None:
        images = _from_json(tensor.data, body)
    elif json_bytes is not None:
        images = _from_binary(tensor.parameters, budget)
    else:
        raise UploadError(f"The input has no `data`. If binary tensors follow the JSON, set the header `{_JSON_SIZE}`.")
    return _response(sent, outputs, classify(_checked(images, count), wanted, top_k))


def _json_bytes() -> int | None:
    """The size of the JSON in front of binary tensors; None if the whole body is JSON."""
    text = request.headers.get(_JSON_SIZE)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,12}", text):
        raise UploadError(f"{_JSON_SIZE} is not a number of bytes. Let a client library write it.")
    return int(text)


def _image_tensor(sent: InferRequest) -> tuple[InputTensor, int]:
    """The input, and the number of its elements."""
    if len(sent.inputs) != 1:
        raise UploadError(f"The request has {len(sent.inputs)} inputs. Send one, with all images.")
    (tensor,) = sent.inputs
    if tensor.datatype != "BYTES":
        raise UploadError(
            f"The input has the datatype {tensor.datatype[:_SHOWN]!r} instead of BYTES. {PIXELS_TEXT}as BYTES."
        )
    if not (len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1)):
        raise UploadError("The shape of the input must be [n] or [n, 1], for n images.")
    return tensor, tensor.shape[0]


def _from_json(data: Sequence[Any], body: JsonWithImages) -> Iterator[bytes]:
    for row in data:
        for element in row if isinstance(row, list) else [row]:
            if not isinstance(element, str):
                raise UploadError(f"An element of `data` is not text. {PIXELS_TEXT}in base64.")
            yield body.take(element)


def _from_binary(parameters: Mapping[str, Any], budget: ImageBudget) -> Iterator[bytes]:
    size = parameters.get("binary_data_size")
    if type(size) is not int or size < 0:
        raise UploadError("The input has neither `data` nor a `binary_data_size` in its parameters. Send one of them.")
    yield from read_tensor(read_piece, size, budget)
    if read_piece(1):
        raise UploadError("The body continues after the binary tensor. Check `binary_data_size`.")


def _checked(images: Iterator[bytes], count: int) -> Iterator[tuple[str, bytes]]:
    """The images, which must be `count`, with their file names: there are none."""
    found = 0
    for image in images:
        found += 1
        yield "", image
    if found != count:
        raise UploadError(f"The shape of the input is for {count} images, but it has {found}.")


def _top_k(sent: InferRequest) -> int:
    value = sent.parameters.get("top_k", 0)
    if type(value) is not int or not 0 <= value <= TOP_K_MAX:
        raise UploadError(f"top_k={str(value)[:_SHOWN]}: must be a number from 1 to {TOP_K_MAX}.")
    return value


def _wanted_outputs(sent: InferRequest) -> dict[str, bool]:
    """The outputs to return: whether each is binary."""
    binary = sent.parameters.get("binary_data_output") is True
    if not sent.outputs:
        return dict.fromkeys(_OUTPUTS, binary)
    for output in sent.outputs:
        if output.name not in _OUTPUTS:
            raise UploadError(f"There is no output {output.name[:_SHOWN]!r}. The outputs are {', '.join(_OUTPUTS)}.")
        if "classification" in output.parameters:
            raise UploadError(
                "The parameter `classification` is not supported. Set `top_k` in the parameters of the request, which "
                "applies to the outputs `probabilities` and `labels`."
            )
    return {output.name: output.parameters.get("binary_data", binary) is True for output in sent.outputs}


def _response(sent: InferRequest, outputs: Mapping[str, bool], jobs: Sequence[Job]) -> Response:
    predictions = [prediction_of(job) for job in jobs]
    columns = len(predictions[0].probabilities)
    if any(len(prediction.probabilities) != columns for prediction in predictions):
        raise UnavailableError("The labels of the model changed during the request. Send it again.")
    values: dict[str, list[Any]] = {
        "label": [prediction.label for prediction in predictions],
        "probabilities": [value for prediction in predictions for value in prediction.probabilities.values()],
        "labels": [label for prediction in predictions for label in prediction.probabilities],
    }
    tensors, described = [], []
    for name, is_binary in outputs.items():
        shape = [len(jobs)] if name == "label" else [len(jobs), columns]
        output: dict[str, Any] = {"name": name, "datatype": _OUTPUTS[name], "shape": shape}
        if is_binary:
            tensors.append(_binary(_OUTPUTS[name], values[name]))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = values[name]
        described.append(output)
    result = _described(sent, jobs) | {"outputs": described}
    if not tensors:
        return jsonify(result)
    head = json.dumps(result).encode()
    response = Response(b"".join([head, *tensors]), mimetype="application/octet-stream")
    response.headers[_JSON_SIZE] = str(len(head))
    return response


def _described(sent: InferRequest, jobs: Sequence[Job]) -> dict[str, Any]:
    """The model and the jobs of a response."""
    models = [job.result.model for job in jobs if job.result and job.result.model]
    versions = {model.version for model in models}
    ids = [job.id for job in jobs]
    result: dict[str, Any] = {"model_name": models[0].name}
    if len(versions) == 1:  # else a canary, or a new live version, predicted some of the images
        result |= {"model_version": versions.pop()}
    if sent.id:
        result |= {"id": sent.id}
    return result | {"parameters": {"job_id": ids[0]} if len(ids) == 1 else {"job_ids": ",".join(ids)}}


def _binary(datatype: str, values: Sequence[Any]) -> bytes:
    if datatype == "FP32":
        return struct.pack(f"<{len(values)}f", *values)
    elements = [str(value).encode() for value in values]
    return b"".join(part for element in elements for part in (len(element).to_bytes(4, "little"), element))
