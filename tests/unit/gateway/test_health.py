"""Health, readiness, status and metrics."""

import pytest

from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, unavailable, upload


@pytest.fixture
def without_ledger(gateway: Gateway) -> Gateway:
    """A gateway whose ledger is unavailable."""
    gateway.ledger.hooks = dict.fromkeys(("ping", "stats", "workers"), unavailable)
    return gateway


def test_a_gateway_with_a_ledger_is_alive_and_ready(gateway: Gateway) -> None:
    assert gateway.client.get("/healthz").status_code == 200
    assert gateway.client.get("/readyz").status_code == 200


def test_a_gateway_without_a_ledger_is_alive_but_not_ready(without_ledger: Gateway) -> None:
    assert without_ledger.client.get("/healthz").status_code == 200
    response = without_ledger.client.get("/readyz")
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_metrics_count_jobs_and_requests(gateway: Gateway) -> None:
    upload(gateway, draw())
    upload(gateway, b"no")
    gateway.client.get("/v1/jobs/nope")
    text = gateway.metrics()
    assert 'pawqueue_queue_jobs{model="",queue="interactive",state="queued"} 1.0' in text
    assert 'pawqueue_queue_jobs{model="",queue="bulk",state="running"} 0.0' in text
    assert 'pawqueue_http_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in text
    assert 'pawqueue_http_requests_total{method="GET",route="/v1/jobs/<job_id>",status="404"} 1.0' in text
    assert 'pawqueue_refused_total{reason="not_an_image"} 1.0' in text


def test_metrics_omit_queue_counts_without_the_ledger(without_ledger: Gateway) -> None:
    text = without_ledger.metrics()
    assert "pawqueue_ledger_up 0.0" in text
    assert "pawqueue_queue_jobs{" not in text


def test_without_the_ledger_health_is_degraded(without_ledger: Gateway) -> None:
    assert without_ledger.client.get("/health").get_json()["status"] == "degraded"


def test_the_status_shows_queues_workers_and_problems(gateway: Gateway) -> None:
    upload(gateway, draw())
    body = gateway.client.get("/v1/status").get_json()
    assert (body["ready"], [problem["code"] for problem in body["problems"]]) == (True, ["no_worker"])
    assert body["queues"]["interactive"]["queued"] == 1
    gateway.serve_model()
    body = gateway.client.get("/v1/status").get_json()
    assert (body["problems"], body["workers"][0]["model"]["name"]) == ([], "cats-dogs")


def test_without_the_ledger_the_status_is_not_ready(without_ledger: Gateway) -> None:
    response = without_ledger.client.get("/v1/status")
    assert response.status_code == 200
    body = response.get_json()
    assert (body["ready"], [problem["code"] for problem in body["problems"]]) == (False, ["ledger_unavailable"])
