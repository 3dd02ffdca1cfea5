"""Headers of every response: request id, security and CORS."""

import json
import logging

import pytest

from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway


def test_a_valid_request_id_is_kept(gateway: Gateway) -> None:
    for path, given in (("/healthz", "trace-1"), ("/v1/jobs/nope", "0192f3a4-5b6c:7/8+9=")):
        assert gateway.client.get(path, headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "new\tline", "käse", '"><script>'])
def test_a_missing_or_invalid_request_id_is_replaced(shared_gateway: Gateway, given: str) -> None:
    ids = [
        shared_gateway.client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)
    ]
    assert given not in ids
    assert ids[0] != ids[1]


def test_log_lines_of_a_request_contain_its_id(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    def surprise() -> None:
        raise RuntimeError("unexpected")

    gateway.ledger.hooks["submit"] = surprise
    with caplog.at_level(logging.ERROR):
        gateway.client.post("/v1/jobs", data=draw(), content_type="image/png", headers={"X-Request-ID": "trace-2"})
    assert any("trace-2" in str(record.msg) for record in caplog.records)


def test_responses_have_security_headers(gateway: Gateway) -> None:
    for path in ("/v1/jobs/nope", "/healthz", "/nowhere"):
        headers = gateway.client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert gateway.client.get("/v1/jobs/nope").headers["Cache-Control"] == "no-store"


def test_other_origins_are_allowed_only_if_configured(gateway: Gateway, make_gateway: MakeGateway) -> None:
    origin = {"Origin": "https://example.org"}
    assert "Access-Control-Allow-Origin" not in gateway.client.get("/healthz", headers=origin).headers
    named = make_gateway(cors_origins="https://example.org, https://example.net")
    assert named.client.get("/healthz", headers=origin).headers["Access-Control-Allow-Origin"] == origin["Origin"]
    other = named.client.get("/healthz", headers={"Origin": "https://example.com"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_preflight_requests_need_no_key(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(cors_origins="https://example.org", access="required")
    preflight = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-API-Key, Prefer",
    }
    response = gateway.client.options("/v1/jobs", headers=preflight)
    assert response.status_code == 200
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert "x-api-key" in allowed
    assert "prefer" in allowed
    assert json.dumps(dict(response.headers)).count("example.org") == 1
