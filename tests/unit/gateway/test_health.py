"""Health, readiness and metrics."""

import io

import pytest

from contract.errors import UnavailableError
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway


def lose_ledger(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("The ledger does not answer; try again.")

    for method in ("ping", "stats", "workers"):
        monkeypatch.setattr(gateway.ledger, method, fail)


def test_alive_and_ready_are_two_questions(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway.client.get("/healthz").status_code == 200
    assert gateway.client.get("/readyz").status_code == 200
    lose_ledger(gateway, monkeypatch)
    assert gateway.client.get("/healthz").status_code == 200
    response = gateway.client.get("/readyz")
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_metrics_count_jobs_and_requests(gateway: Gateway) -> None:
    gateway.client.post("/v1/jobs", data={"file": (io.BytesIO(draw()), "x.png")})
    gateway.client.post("/v1/jobs", data={"file": (io.BytesIO(b"no"), "x.png")})
    gateway.client.get("/v1/jobs/nope")
    text = gateway.client.get("/metrics").text
    assert 'pawqueue_queue_jobs{queue="interactive",state="queued"} 1.0' in text
    assert 'pawqueue_queue_jobs{queue="bulk",state="running"} 0.0' in text
    assert 'pawqueue_http_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in text
    assert 'pawqueue_http_requests_total{method="GET",route="/v1/jobs/<job_id>",status="404"} 1.0' in text
    assert 'pawqueue_refused_total{reason="not_an_image"} 1.0' in text


def test_without_the_ledger_there_are_no_false_zeros(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_ledger(gateway, monkeypatch)
    text = gateway.client.get("/metrics").text
    assert "pawqueue_ledger_up 0.0" in text
    assert "pawqueue_queue_jobs{" not in text


def test_without_the_ledger_health_is_degraded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_ledger(gateway, monkeypatch)
    assert gateway.client.get("/health").get_json()["status"] == "degraded"
