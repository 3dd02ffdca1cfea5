"""The old pipeline's endpoints still return the same responses."""

import io

import pytest
from werkzeug.test import TestResponse

from contract.job import JobError, JobResult
from gateway import VERSION
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway


def predict(gateway: Gateway, data: bytes, name: str = "cat.jpg", kind: str = "image/jpeg") -> TestResponse:
    return gateway.client.post("/predict", data={"file": (io.BytesIO(data), name, kind)})


def test_the_index_lists_the_endpoints(gateway: Gateway) -> None:
    body = gateway.client.get("/").get_json()
    assert body.keys() == {"message", "version", "endpoints"}
    assert body["version"] == VERSION
    assert body["endpoints"] == {"health": "/health", "predict": "/predict", "docs": "/docs"}


def test_health_always_returns_200(gateway: Gateway) -> None:
    response = gateway.client.get("/health")
    assert response.status_code == 200
    assert response.get_json() == {"status": "degraded", "model_loaded": False, "version": VERSION}
    gateway.serve_model()
    assert gateway.client.get("/health").get_json() == {"status": "healthy", "model_loaded": True, "version": VERSION}


def test_predict_returns_the_prediction(gateway: Gateway) -> None:
    gateway.serve_model()
    gateway.finish_new_jobs()
    response = predict(gateway, draw(form="JPEG"))
    assert response.status_code == 200
    assert response.get_json() == {
        "class": "cat",
        "confidence": 0.75,
        "cat_probability": 0.75,
        "dog_probability": 0.25,
    }


def test_predict_without_a_worker_returns_503(gateway: Gateway) -> None:
    response = predict(gateway, draw())
    assert response.status_code == 503
    assert response.get_json().keys() == {"error", "detail"}
    assert response.headers["Retry-After"]


def test_predict_without_a_file_returns_422(gateway: Gateway) -> None:
    response = gateway.client.post("/predict")
    assert response.status_code == 422
    assert response.get_json()["detail"][0]["loc"] == ["body", "file"]
    for data in ({"file": "text"}, {"other": (io.BytesIO(draw()), "x.png", "image/png")}):
        assert gateway.client.post("/predict", data=data, content_type="multipart/form-data").status_code == 422


def test_predict_rejects_a_malformed_form_with_the_reason(gateway: Gateway) -> None:
    response = gateway.client.post("/predict", data=b"x", content_type="multipart/form-data; boundary=b")
    assert (response.status_code, response.get_json().keys()) == (400, {"error", "detail"})
    assert "boundary" in response.get_json()["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", ""])
def test_predict_rejects_a_part_with_another_content_type(gateway: Gateway, kind: str) -> None:
    gateway.serve_model()
    response = predict(gateway, b"hello", "x.txt", kind)
    assert response.status_code == 400
    assert response.get_json().keys() == {"error", "detail"}


def test_predict_rejects_corrupt_images_with_400(gateway: Gateway) -> None:
    gateway.serve_model()
    assert predict(gateway, b"not an image").status_code == 400
    gateway.finish_new_jobs(JobResult(error=JobError("undecodable_image", "truncated")))
    response = predict(gateway, draw())
    assert response.status_code == 400
    assert response.get_json()["detail"] == "truncated"


def test_predict_rejects_large_uploads_with_413(gateway: Gateway) -> None:
    gateway.serve_model()
    assert predict(gateway, b"\0" * 500_000).status_code == 413


def test_predict_supports_only_post(gateway: Gateway) -> None:
    assert gateway.client.get("/predict").status_code == 405
