"""Requests that web pages make a browser send to the gateway."""

import io

import pytest
from werkzeug.test import TestResponse

from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem

FOREIGN = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
REBOUND = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("headers", [FOREIGN, REBOUND])
def test_a_foreign_page_can_neither_submit_nor_read(gateway: Gateway, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/v1/jobs"),
        ("POST", "/v1/submissions"),
        ("GET", "/v1/submissions"),
        ("GET", "/v1/status"),
        ("GET", "/v1/dead"),
        ("GET", "/openapi.json"),
    ):
        problem = assert_problem(gateway.client.open(path, method=method, headers=headers), 403, "forbidden_origin")
        assert "PAWQUEUE_" in problem["detail"]
    assert not gateway.image_count()
    for path in ("/healthz", "/readyz"):
        assert gateway.client.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [FOREIGN, REBOUND])
def test_the_old_endpoints_reject_it_in_their_format(gateway: Gateway, headers: dict[str, str]) -> None:
    gateway.serve_model()
    gateway.finish_new_jobs()

    def predict(headers: dict[str, str]) -> TestResponse:
        form = {"file": (io.BytesIO(draw()), "x.png", "image/png")}
        return gateway.client.post("/predict", data=form, headers=headers)

    assert predict({}).status_code == 200
    for response in (predict(headers), gateway.client.get("/", headers=headers)):
        assert response.status_code == 403
        assert response.get_json().keys() == {"error", "detail"}
    assert len(gateway.new_jobs) == 1


def test_pages_of_configured_origins_may_submit(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(cors_origins=FOREIGN["Origin"])
    response = gateway.client.post("/v1/jobs", data=draw(), content_type="image/png", headers=FOREIGN)
    assert response.status_code == 202
    assert response.headers["Access-Control-Allow-Origin"] == FOREIGN["Origin"]


def test_with_api_keys_the_key_decides(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(access="required")
    for headers in (FOREIGN, REBOUND):
        assert gateway.client.get("/v1/status", headers=headers).status_code == 200
        assert_problem(gateway.client.get("/v1/dead", headers=headers), 401, "unauthorized")
