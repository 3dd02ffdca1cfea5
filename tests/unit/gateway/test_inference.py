"""The Open Inference Protocol, spoken by hand. `tests/api/test_protocols.py` uses Triton's client."""

import base64
import json
import struct
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.access import Scope, make_key
from contract.job import Features, JobError, JobResult, JobStatus, ModelRef, Prediction, Timings
from contract.ledger.models import VersionInfo
from gateway import VERSION
from gateway.routes.inference import InferResponse, ModelMetadata, OutputTensor
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, unavailable

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))
HOOK = "https://hooks.example.org/pawqueue"
INFER = "/v2/models/cats-dogs/infer"


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    """A gateway whose model is served, and whose jobs are finished at once."""
    serve(gateway)
    return gateway


def serve(gateway: Gateway, labels: list[str] | None = None) -> None:
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(labels or ["cat", "dog"], 160, 160), "w", default=True)
    gateway.serve_model()
    gateway.finish_new_jobs()


def tensor(*images: bytes, **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(image).decode() for image in images]
    return {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": data} | changes


def infer(gateway: Gateway, *images: bytes, url: str = INFER, **members: Any) -> TestResponse:
    return gateway.client.post(url, json={"inputs": [tensor(*images)]} | members)


def key_with(gateway: Gateway, scope: Scope) -> str:
    stored, text = make_key("tests", (scope,), "")
    gateway.keys.put(replace(stored, webhook=HOOK))
    return text


def outputs(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.get_json()["outputs"]}


def error(response: TestResponse, status: int) -> str:
    assert (response.status_code, response.get_json().keys()) == (status, {"error"})
    return str(response.get_json()["error"])


def binary(*images: bytes, size: int | None = None, **members: Any) -> tuple[bytes, int]:
    """A body with one binary tensor, and the size of its JSON."""
    data = b"".join(struct.pack("<I", len(image)) + image for image in images)
    described = tensor(*images, parameters={"binary_data_size": len(data) if size is None else size})
    del described["data"]
    head = json.dumps({"inputs": [described]} | members).encode()
    return head + data, len(head)


def infer_binary(gateway: Gateway, *images: bytes, extra: bytes = b"", **options: Any) -> TestResponse:
    body, json_bytes = binary(*images, **options)
    headers = {"Inference-Header-Content-Length": str(json_bytes)}
    return gateway.client.post(INFER, data=body + extra, headers=headers, content_type="application/octet-stream")


def test_an_image_in_base64_becomes_a_job_and_gets_its_prediction(gateway: Gateway) -> None:
    response = infer(gateway, RED, id="request 7")
    assert response.get_json() == {
        "model_name": "cats-dogs",
        "model_version": "1",
        "id": "request 7",
        "parameters": {"job_id": gateway.new_jobs[0][1][0]},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["cat"]},
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.75, 0.25]},
            {"name": "labels", "datatype": "BYTES", "shape": [1, 2], "data": ["cat", "dog"]},
        ],
    }
    job = gateway.job(response.get_json()["parameters"]["job_id"])
    assert (job.status, job.model, job.size_bytes) == (JobStatus.SUCCEEDED, "cats-dogs", len(RED))


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_several_images_are_answered_in_their_order(gateway: Gateway, shape: list[int]) -> None:
    rows = {len(RED): "red", len(BLUE) + 1: "blue"}

    def finish(job_ids: list[str]) -> None:
        for job_id in reversed(job_ids):
            label = rows.get(gateway.job(job_id).size_bytes, "other")
            gateway.finish([job_id], result(label))

    gateway.ledger.on_new_jobs = finish
    data = tensor(RED, BLUE + b"\0", RED + b"\0\0", shape=shape)
    if len(shape) == 2:
        data["data"] = [[text] for text in data["data"]]
    response = gateway.client.post(INFER, json={"inputs": [data]})
    assert outputs(response)["label"] == ["red", "blue", "other"]
    ids = response.get_json()["parameters"]["job_ids"].split(",")
    assert [gateway.job(job_id).size_bytes for job_id in ids] == [len(RED), len(BLUE) + 1, len(RED) + 2]


def result(label: str, version: str = "1", **probabilities: float) -> JobResult:
    return JobResult(
        Prediction(label, 0.5, probabilities or {label: 0.5}),
        model=ModelRef("cats-dogs", version),
        batch_size=1,
        timings=Timings(),
        features=Features(1, 1, 0.5, 0.5),
    )


def test_binary_tensors_are_read_and_returned(gateway: Gateway) -> None:
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    response = infer_binary(gateway, RED, BLUE, outputs=wanted)
    size = int(response.headers["Inference-Header-Content-Length"])
    head = json.loads(response.data[:size])
    assert head["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["cat", "cat"]},
    ]
    assert struct.unpack("<4f", response.data[size:]) == (0.75, 0.25) * 2
    assert gateway.job(head["parameters"]["job_ids"].split(",")[1]).size_bytes == len(BLUE)


def test_all_outputs_are_binary_on_request(gateway: Gateway) -> None:
    response = infer_binary(gateway, RED, parameters={"binary_data_output": True})
    data = response.data[int(response.headers["Inference-Header-Content-Length"]) :]
    assert data == b"\3\0\0\0cat" + struct.pack("<2f", 0.75, 0.25) + b"\3\0\0\0cat\3\0\0\0dog"


def test_top_k_is_stored_with_the_job(gateway: Gateway) -> None:
    gateway.finish_new_jobs(result("dog", dog=0.5))
    response = infer(gateway, RED, parameters={"top_k": 1, "sequence_id": 3})
    assert outputs(response) == {"label": ["dog"], "probabilities": [0.5], "labels": ["dog"]}
    assert gateway.job(response.get_json()["parameters"]["job_id"]).top_k == 1


def test_the_version_of_the_path_is_pinned(gateway: Gateway) -> None:
    response = infer(gateway, RED, url="/v2/models/cats-dogs/versions/1/infer")
    assert gateway.job(response.get_json()["parameters"]["job_id"]).model == "cats-dogs@1"


def test_no_version_is_named_if_several_predicted(gateway: Gateway) -> None:
    versions = iter(["1", "2"])
    gateway.ledger.on_new_jobs = lambda ids: [gateway.finish([job], result("cat", next(versions))) for job in ids]
    assert "model_version" not in infer(gateway, RED, BLUE).get_json()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"datatype": "FP32", "shape": [1, 160, 160, 3]}, "takes no pixels. Send the image file"),
        ({"data": [[1, 2]]}, "takes no pixels"),
        ({"shape": [1, 2]}, r"must be [n] or [n, 1]"),
        ({"shape": [2]}, "for 2 images, but it has 1"),
        ({"shape": [0], "data": []}, "contains no images"),
        ({"data": ["/9j/"]}, "The JPEG is cut off"),
        ({"data": ["data:image/png;base64,AAAA"]}, "not the base64"),
        ({"data": None}, "no `data`"),
        ({"shape": "n"}, "shape="),
    ],
)
def test_a_wrong_input_is_rejected_with_advice(gateway: Gateway, changes: dict[str, Any], problem: str) -> None:
    response = gateway.client.post(INFER, json={"inputs": [tensor(RED, **changes)]})
    assert response.status_code in (400, 415)
    assert problem in error(response, response.status_code)
    assert not gateway.new_jobs


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"inputs": []}, "0 inputs"),
        ({"inputs": [tensor(RED), tensor(RED)]}, "2 inputs"),
        ({"outputs": [{"name": "logits"}]}, "no output 'logits'. The outputs are label, probabilities, labels"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]}, "Set `top_k`"),
        ({"parameters": {"top_k": 101}}, "from 1 to 100"),
        ({"parameters": {"top_k": True}}, "from 1 to 100"),
        ({"id": 7}, "id="),
    ],
)
def test_a_wrong_request_is_rejected_with_advice(gateway: Gateway, members: dict[str, Any], problem: str) -> None:
    assert problem in error(infer(gateway, RED, **members), 400)
    assert not gateway.new_jobs


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"extra": b"x"}, "continues after"),
        ({"size": 3}, "do not have `binary_data_size`"),
        ({"size": -1}, "neither `data` nor"),
        ({"size": 10_000}, "ends before the end of the tensor"),
    ],
)
def test_a_wrong_binary_tensor_is_rejected(gateway: Gateway, options: dict[str, Any], problem: str) -> None:
    assert problem in error(infer_binary(gateway, RED, **options), 400)
    assert not gateway.new_jobs


@pytest.mark.parametrize("size", ["x", "-1", "9" * 5000])
def test_a_wrong_size_of_the_json_is_rejected(gateway: Gateway, size: str) -> None:
    response = gateway.client.post(INFER, data=b"{}", headers={"Inference-Header-Content-Length": size})
    assert "not a number of bytes" in error(response, 400)


def test_one_wrong_image_keeps_all_from_being_accepted(gateway: Gateway) -> None:
    assert "Image 2 of 3: " in error(infer(gateway, RED, b"text, not an image", BLUE), 415)
    assert not gateway.new_jobs
    assert gateway.image_count() == 0


def test_an_image_that_cannot_be_decoded_is_an_error_that_names_it(gateway: Gateway) -> None:
    gateway.finish_new_jobs(JobResult(error=JobError("undecodable_image", "The image is truncated.")))
    assert error(infer(gateway, RED), 422) == "The image is truncated."
    assert error(infer(gateway, RED, BLUE), 422) == "Image 1 of 2: The image is truncated."


def test_images_that_do_not_all_fit_into_the_queue_are_not_accepted(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(queue_max_jobs="2")
    serve(gateway)
    gateway.ledger.on_new_jobs = lambda _: None
    response = infer(gateway, RED, BLUE, RED)
    assert "The queue is full" in error(response, 429)
    assert response.headers["Retry-After"]
    assert all(gateway.job(job_id).status is JobStatus.CANCELED for _, ids in gateway.new_jobs for job_id in ids)
    serve(gateway)
    assert infer(gateway, RED, BLUE).status_code == 200


def test_more_images_than_the_limit_are_rejected(gateway: Gateway) -> None:
    assert "may contain 32 images" in error(infer(gateway, *[RED] * 33), 413)
    assert not gateway.new_jobs
    assert infer(gateway, *[RED] * 32).status_code == 200


def test_limits_in_bytes_apply_to_each_image(gateway: Gateway) -> None:
    large = RED + bytes(100_000)
    for response in (infer(gateway, large), infer_binary(gateway, large)):
        assert "larger than the limit of 100,000 bytes" in error(response, 413)


def test_a_request_without_a_worker_is_refused(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 160, 160), "w")
    response = infer(gateway, RED)
    assert "No worker serves this model" in error(response, 503)
    assert response.headers["Retry-After"]
    assert "No worker" in error(gateway.client.get("/v2/models/cats-dogs/ready"), 503)
    assert "No worker" in error(gateway.client.get("/v2/health/ready"), 503)


def test_a_request_whose_job_is_not_processed_in_time_gets_503(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(predict_wait_s="0.2")
    serve(gateway)
    gateway.ledger.on_new_jobs = lambda _: None
    assert "in time" in error(infer(gateway, RED, BLUE), 503)


@pytest.mark.parametrize("path", ["", "/ready", "/versions/1", "/versions/1/ready", "/infer", "/versions/1/infer"])
def test_an_unknown_model_gets_404(gateway: Gateway, path: str) -> None:
    method = "POST" if path.endswith("infer") else "GET"
    assert "no model fish" in error(gateway.client.open(f"/v2/models/fish{path}", method=method), 404)


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
def test_an_unknown_version_gets_404(gateway: Gateway, path: str) -> None:
    url = f"/v2/models/cats-dogs/versions/9{path}"
    method = "POST" if path == "/infer" else "GET"
    assert "no version 9. Its versions: 1." in error(gateway.client.open(url, method=method), 404)


def test_the_server_and_its_models_describe_themselves(gateway: Gateway) -> None:
    client = gateway.client
    assert client.get("/v2").get_json() == {
        "name": "pawqueue",
        "version": VERSION,
        "extensions": ["binary_tensor_data"],
    }
    assert client.get("/v2/health/live").get_json() == {"live": True}
    assert client.get("/v2/health/ready").get_json() == {"ready": True}
    assert client.get("/v2/models/cats-dogs/ready").get_json() == {"name": "cats-dogs", "ready": True}
    model = client.get("/v2/models/cats-dogs").get_json()
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {output["name"]: output["shape"] for output in model["outputs"]} == {
        "label": [-1],
        "probabilities": [-1, 2],
        "labels": [-1, 2],
    }
    assert client.get("/v2/models/cats-dogs/versions/1").get_json() == model
    gateway.ledger.hooks["ping"] = unavailable
    assert error(client.get("/v2/health/ready"), 503)


def test_a_model_with_many_labels_has_no_fixed_number_of_probabilities(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    serve(gateway, [f"label {number}" for number in range(1000)])
    model = gateway.client.get("/v2/models/cats-dogs").get_json()
    assert [output["shape"] for output in model["outputs"]] == [[-1], [-1, -1], [-1, -1]]


def test_real_responses_match_the_documented_schema(gateway: Gateway) -> None:
    for response in (infer(gateway, RED), infer(gateway, RED, BLUE, outputs=[{"name": "label"}])):
        body = response.get_json()
        InferResponse.model_validate(body, strict=True)
        assert set(body) <= set(InferResponse.model_fields)
        assert all(set(output) <= set(OutputTensor.model_fields) for output in body["outputs"])
    ModelMetadata.model_validate(gateway.client.get("/v2/models/cats-dogs").get_json(), strict=True)


def test_keys_and_scopes_are_required_as_for_jobs(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(access="required")
    serve(gateway)
    key, reader = key_with(gateway, Scope.SUBMIT), key_with(gateway, Scope.READ)
    assert error(infer(gateway, RED), 401)
    body = {"inputs": [tensor(RED)]}
    assert error(gateway.client.post(INFER, json=body, headers={"X-API-Key": reader}), 403)
    response = gateway.client.post(INFER, json=body, headers={"X-API-Key": key})
    job = gateway.job(response.get_json()["parameters"]["job_id"])
    assert (bool(job.owner), job.webhook) == (True, HOOK)
    assert error(gateway.client.get("/v2/models/cats-dogs", headers={"X-API-Key": key}), 403)
    assert gateway.client.get("/v2/models/cats-dogs", headers={"X-API-Key": reader}).status_code == 200
    assert gateway.client.get("/v2/health/ready").status_code == 200
