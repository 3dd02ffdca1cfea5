"""What every answer carries: request ids, and what browsers are to refuse."""

import json
import logging

import pytest

from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, make_gateway


def test_a_request_keeps_the_id_that_it_brings(gateway: Gateway) -> None:
    for path, given in (("/healthz", "trace-1"), ("/v1/jobs/nope", "0192f3a4-5b6c:7/8+9=")):
        assert gateway.client.get(path, headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "new\tline", "käse", '"><script>'])
def test_a_request_gets_an_id_where_it_brings_none_that_is_fit(refusing: Gateway, given: str) -> None:
    told = [refusing.client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)]
    assert given not in told
    assert told[0] != told[1]


def test_what_is_logged_of_a_request_carries_its_id(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.images, "put", None)  # what it raises nobody expects
    with caplog.at_level(logging.ERROR):
        gateway.client.post("/v1/jobs", data=draw(), content_type="image/png", headers={"X-Request-ID": "trace-2"})
    assert any("trace-2" in str(record.msg) for record in caplog.records)


def test_browsers_are_told_to_be_strict(gateway: Gateway) -> None:
    for path in ("/v1/jobs/nope", "/healthz", "/nowhere"):
        headers = gateway.client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert gateway.client.get("/v1/jobs/nope").headers["Cache-Control"] == "no-store"


def test_pages_of_other_origins_are_not_let_in_unless_named(gateway: Gateway) -> None:
    origin = {"Origin": "https://example.org"}
    assert "Access-Control-Allow-Origin" not in gateway.client.get("/healthz", headers=origin).headers
    named = make_gateway(cors_origins="https://example.org, https://example.net")
    assert named.client.get("/healthz", headers=origin).headers["Access-Control-Allow-Origin"] == origin["Origin"]
    other = named.client.get("/healthz", headers={"Origin": "https://example.com"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_browser_may_ask_before_it_sends_a_key() -> None:
    gateway = make_gateway(cors_origins="https://example.org", access="required")
    asked = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-API-Key, Prefer",
    }
    response = gateway.client.options("/v1/jobs", headers=asked)
    assert response.status_code == 200
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert "x-api-key" in allowed
    assert "prefer" in allowed
    assert json.dumps(dict(response.headers)).count("example.org") == 1
