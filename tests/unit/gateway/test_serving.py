"""TensorFlow Serving's REST API, with the requests that its documentation shows."""

import base64
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.job import JobResult, JobStatus, ModelRef, Prediction
from contract.ledger.models import VersionInfo
from gateway.routes.serving import ClassifyResponse, PredictResponse, ServingMetadata, ServingStatusList
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway
from tests.unit.gateway.test_inference import error, serve

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))
URL = "/v1/models/cats-dogs"


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    serve(gateway)
    return gateway


def b64(image: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(image).decode()}


def predict(gateway: Gateway, verb: str = "predict", path: str = "", **body: Any) -> TestResponse:
    return gateway.client.post(f"{URL}{path}:{verb}", json=body)


def job_sizes(gateway: Gateway, response: TestResponse) -> list[int]:
    assert response.status_code == 200, response.text
    return [gateway.job(job_id).size_bytes for job_id in response.get_json()["job_ids"]]


@pytest.mark.parametrize(
    "instances",
    [
        [b64(RED), b64(BLUE)],
        [{"image_bytes": b64(RED)}, {"image_bytes": b64(BLUE)}],
        [[b64(RED)], [b64(BLUE)]],
    ],
)
def test_rows_are_answered_with_predictions(gateway: Gateway, instances: list[Any]) -> None:
    response = predict(gateway, instances=instances, signature_name="serving_default")
    assert response.get_json()["predictions"] == [[0.75, 0.25], [0.75, 0.25]]
    assert "outputs" not in response.get_json()
    assert job_sizes(gateway, response) == [len(RED), len(BLUE)]
    for job_id in response.get_json()["job_ids"]:
        assert gateway.job(job_id).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("inputs", "sizes"),
    [
        (b64(RED), [len(RED)]),
        ([b64(RED), b64(BLUE)], [len(RED), len(BLUE)]),
        ({"image_bytes": b64(RED)}, [len(RED)]),
        ({"image_bytes": [b64(BLUE), b64(RED)]}, [len(BLUE), len(RED)]),
    ],
)
def test_columns_are_answered_with_outputs(gateway: Gateway, inputs: Any, sizes: list[int]) -> None:
    response = predict(gateway, inputs=inputs)
    assert response.get_json()["outputs"] == [[0.75, 0.25]] * len(sizes)
    assert "predictions" not in response.get_json()
    assert job_sizes(gateway, response) == sizes


def test_classify_returns_labels_with_probabilities_most_likely_first(gateway: Gateway) -> None:
    prediction = Prediction("dog", 0.75, {"cat": 0.25, "dog": 0.75})
    gateway.finish_new_jobs(JobResult(prediction, model=ModelRef("cats-dogs", "1")))
    response = predict(gateway, "classify", examples=[{"image": b64(RED)}, {"image": [b64(BLUE)]}])
    assert response.get_json()["results"] == [[["dog", 0.75], ["cat", 0.25]]] * 2
    assert job_sizes(gateway, response) == [len(RED), len(BLUE)]


@pytest.mark.parametrize("verb", ["predict", "classify"])
def test_the_version_of_the_path_is_pinned(gateway: Gateway, verb: str) -> None:
    row = {"image": b64(RED)}
    response = predict(gateway, verb, "/versions/1", **{"instances" if verb == "predict" else "examples": [row]})
    assert [gateway.job(job_id).model for job_id in response.get_json()["job_ids"]] == ["cats-dogs@1"]
    assert "no version 9" in error(predict(gateway, verb, "/versions/9", instances=[row]), 404)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "either `instances` (rows) or `inputs` (columns)"),
        ({"instances": [b64(RED)], "inputs": [b64(RED)]}, "either `instances`"),
        ({"instances": [[[[0.1, 0.2, 0.3]]]]}, 'takes no pixels. Send the image file (JPEG, PNG, ...) as {"b64"'),
        ({"instances": {"b64": "x"}}, "not a list"),
        ({"instances": ["/9j/4AAQ"]}, '{"b64"'),
        ({"instances": [{"a": b64(RED), "b": b64(RED)}]}, '{"b64"'),
        ({"inputs": 3}, '{"b64"'),
        ({"instances": []}, "contains no images"),
        ({"instances": [{"b64": "data:image/png;base64,AAAA"}]}, "not the base64"),
        (
            {"instances": [b64(RED)], "signature_name": "other"},
            "no signature 'other'. The only one is `serving_default`",
        ),
    ],
)
def test_a_wrong_request_is_rejected_with_advice(gateway: Gateway, body: dict[str, Any], problem: str) -> None:
    assert problem in error(predict(gateway, **body), 400)
    assert not gateway.new_jobs


def test_a_body_that_is_no_object_is_rejected(gateway: Gateway) -> None:
    assert "not a JSON object" in error(gateway.client.post(f"{URL}:predict", json=[]), 400)
    assert "not valid JSON" in error(gateway.client.post(f"{URL}:predict", data=RED), 400)


def test_a_whole_image_of_pixels_is_rejected_with_advice(gateway: Gateway) -> None:
    pixels = [[[0.5, 0.25, 0.125]] * 160] * 160
    assert "takes no pixels" in error(predict(gateway, instances=[pixels]), 413)


def test_one_wrong_image_keeps_all_from_being_accepted(gateway: Gateway) -> None:
    assert "Image 2 of 2: " in error(predict(gateway, instances=[b64(RED), b64(b"text")]), 415)
    assert "`context` is not supported" in error(predict(gateway, "classify", examples=[], context={"a": 1}), 400)
    assert not gateway.new_jobs


def test_an_unknown_model_gets_404(gateway: Gateway) -> None:
    for method, path in [
        *(("POST", f"{version}:{verb}") for version in ("", "/versions/1") for verb in ("predict", "classify")),
        *(("GET", path) for path in ("/versions/1", "/metadata", "/versions/1/metadata")),
    ]:
        assert "no model fish" in error(gateway.client.open(f"/v1/models/fish{path}", method=method), 404)
    assert "no version 9" in error(gateway.client.get(f"{URL}/versions/9"), 404)


def test_only_the_methods_of_a_verb_are_allowed(gateway: Gateway) -> None:
    for path in (":predict", ":classify", "/versions/1:predict", "/versions/1:classify"):
        response = gateway.client.open(f"{URL}{path}", method="OPTIONS")
        assert set(response.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}, path
        assert gateway.client.get(f"{URL}{path}").status_code == 405
    assert gateway.client.post(f"{URL}:regress", json={}).status_code == 404


def test_the_status_and_the_signature_of_a_version_have_the_documented_shape(gateway: Gateway) -> None:
    status = {"error_code": "OK", "error_message": ""}
    expected = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]}
    assert gateway.client.get(f"{URL}/versions/1").get_json() == expected
    metadata = gateway.client.get(f"{URL}/metadata").get_json()
    assert metadata == gateway.client.get(f"{URL}/versions/1/metadata").get_json()
    assert metadata["model_spec"] == {"name": "cats-dogs", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    (image,) = signature["inputs"].values()
    assert (image["dtype"], image["tensor_shape"]["dim"]) == ("DT_STRING", [{"size": "-1", "name": ""}])
    assert [size["size"] for size in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]] == ["-1", "2"]


def test_real_responses_match_the_documented_schema(gateway: Gateway) -> None:
    for kind, response in (
        (PredictResponse, predict(gateway, instances=[b64(RED)])),
        (PredictResponse, predict(gateway, inputs=[b64(RED)])),
        (ClassifyResponse, predict(gateway, "classify", examples=[{"image": b64(RED)}])),
        (ServingStatusList, gateway.client.get(f"{URL}/versions/1")),
        (ServingMetadata, gateway.client.get(f"{URL}/metadata")),
    ):
        kind.model_validate_json(response.data, strict=True)
        assert set(response.get_json()) <= set(kind.model_fields)


def test_models_with_many_labels_have_no_predict_but_classify(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo([str(n) for n in range(1000)], 160, 160), "w")
    gateway.serve_model()
    gateway.finish_new_jobs()
    assert "1,000 labels" in error(predict(gateway, instances=[b64(RED)]), 400)
    assert predict(gateway, "classify", examples=[{"image": b64(RED)}]).status_code == 200


def test_a_request_without_a_worker_is_refused(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    gateway.ledger.models.register("cats-dogs", "1", VersionInfo(["cat", "dog"], 160, 160), "w")
    assert "No worker serves this model" in error(predict(gateway, instances=[b64(RED)]), 503)
