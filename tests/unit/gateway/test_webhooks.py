"""Webhooks in requests, and the routes for secrets and deliveries."""

import io
from dataclasses import replace

import pytest
from werkzeug.test import TestResponse

from contract.access import Scope, make_key
from contract.ledger.types import Sweep
from contract.ledger.webhooks import Delivery
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem, upload

URL = "https://hooks.example/a?b=c"
#: In a query.
QUOTED = "https%3A%2F%2Fhooks.example%2Fa%3Fb%3Dc"


def due(gateway: Gateway) -> list[Delivery]:
    return gateway.ledger.webhooks.claim(100, 1000, 100, 10**9, {})


def submit(gateway: Gateway, query: str = f"?webhook={QUOTED}", **headers: str) -> str:
    response = upload(gateway, draw(), query=query, **headers)
    assert response.status_code == 202, response.json
    return str(response.json["id"])


@pytest.fixture
def keyed(make_gateway: MakeGateway) -> Gateway:
    return make_gateway(access="required")


def key_of(gateway: Gateway, *scopes: Scope, webhook: str = "") -> dict[str, str]:
    key, text = make_key("tests", scopes or (Scope.SUBMIT, Scope.READ))
    gateway.keys.put(replace(key, webhook=webhook))
    return {"X-API-Key": text}


def get(gateway: Gateway, path: str, key: dict[str, str] | None = None) -> TestResponse:
    return gateway.client.get(f"/v1/webhooks/{path}", headers=key or {})


def kill(gateway: Gateway) -> Delivery:
    """Let the only delivery that is due die."""
    (delivery,) = due(gateway)
    assert gateway.ledger.webhooks.settle(delivery, "failed", None, "The endpoint responded with 500.")
    return delivery


@pytest.mark.parametrize("method", ["post", "put"])
def test_an_upload_with_a_webhook_leaves_an_event_at_its_end(gateway: Gateway, method: str) -> None:
    job_id = "0192f3a4-5b6c-7d8e-9f01-23456789abcd"
    path = "/v1/jobs" if method == "post" else f"/v1/jobs/{job_id}"
    response = getattr(gateway.client, method)(f"{path}?webhook={QUOTED}", data=draw())
    assert response.status_code == 202
    assert due(gateway) == []
    gateway.finish([response.json["id"]])
    (delivery,) = due(gateway)
    assert (delivery.type, delivery.url) == ("job.succeeded", URL)
    read = gateway.client.get(f"/v1/jobs/{response.json['id']}").json
    assert delivery.payload("")["data"] == read


def test_a_submission_with_a_webhook_leaves_one_event(gateway: Gateway) -> None:
    opened = gateway.client.post("/v1/submissions", json={"webhook": URL}).json
    tar = {"file": (io.BytesIO(draw()), "a.png")}
    added = gateway.client.post(f"/v1/submissions/{opened['id']}/jobs", data=tar).json
    gateway.client.post(f"/v1/submissions/{opened['id']}/close")
    gateway.finish([item["job_id"] for item in added["accepted"]])
    (delivery,) = due(gateway)
    read = gateway.client.get(f"/v1/submissions/{opened['id']}").json
    assert delivery.payload("") == {
        "type": "submission.finished",
        "timestamp": read["finished_at"],
        "data": read | {"rate_per_s": delivery.payload("")["data"]["rate_per_s"]},
    }


def test_a_canceled_submission_leaves_an_event(gateway: Gateway) -> None:
    opened = gateway.client.post("/v1/submissions", json={"webhook": URL}).json
    gateway.client.delete(f"/v1/submissions/{opened['id']}")
    (delivery,) = due(gateway)
    assert (delivery.type, delivery.payload("")["data"]["status"]) == ("submission.finished", "canceled")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/",
        "http://127.0.0.1:9000/",
        "https://[::1]/",
        "http://169.254.169.254/latest",
        "hooks.example",
    ],
)
def test_a_webhook_to_which_nothing_can_be_delivered_is_rejected_at_once(gateway: Gateway, url: str) -> None:
    body = assert_problem(upload(gateway, draw(), query=f"?webhook={url}"), 422, "invalid_webhook")
    assert body["detail"].startswith("webhook: ")
    assert_problem(gateway.client.post("/v1/submissions", json={"webhook": url}), 422, "invalid_webhook")
    assert gateway.new_jobs == []


def test_an_operator_can_allow_a_private_webhook(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(webhook_allow="10.0.0.0/8")
    submit(gateway, "?webhook=http://10.1.2.3/")


def test_the_webhook_of_an_api_key_gets_the_events_of_jobs_that_name_none(keyed: Gateway) -> None:
    key = key_of(keyed, webhook="https://default.example/")
    job_ids = [submit(keyed, "", **key), submit(keyed, **key), submit(keyed, "", **key_of(keyed))]
    opened = keyed.client.post("/v1/submissions", json={}, headers=key).json["id"]
    keyed.client.delete(f"/v1/submissions/{opened}", headers=key)
    keyed.finish(job_ids)
    found = {delivery.subject: delivery.url for delivery in due(keyed)}
    default = "https://default.example/"
    assert found == {job_ids[0]: default, job_ids[1]: URL, opened: default}


def test_a_retried_dead_letter_keeps_its_webhook(gateway: Gateway) -> None:
    job_id = submit(gateway)
    gateway.ledger.begin(gateway.ledger.claim({"interactive": 1}, 1, 60))
    gateway.ledger.recover(Sweep("interactive", max_attempts=1, ttl_s=60), 10**14)
    retried = gateway.client.post(f"/v1/dead/{job_id}/retry").json["id"]
    gateway.finish([retried])
    assert {delivery.subject: delivery.type for delivery in due_at(gateway, 2 * 10**14)} == {
        job_id: "job.failed",
        retried: "job.succeeded",
    }


def due_at(gateway: Gateway, now_ms: int) -> list[Delivery]:
    return gateway.ledger.webhooks.claim(100, 1000, 100, 10**15, {}, now_ms)


def test_a_secret_is_created_when_it_is_read_and_can_be_rotated(gateway: Gateway) -> None:
    response = get(gateway, "secret")
    first = response.json
    assert response.headers["Cache-Control"] == "no-store"
    assert first["secret"].startswith("whsec_")
    assert first["previous_secret"] is None
    assert get(gateway, "secret").json == first
    second = gateway.client.post("/v1/webhooks/secret/rotate", json={"keep_s": 60}).json
    assert second["previous_secret"] == first["secret"] != second["secret"]
    assert second["previous_valid_until"] > second["created_at"]
    third = gateway.client.post("/v1/webhooks/secret/rotate", json={"keep_s": 0}).json
    assert (third["previous_secret"], third["previous_valid_until"]) == (None, None)
    assert gateway.client.post("/v1/webhooks/secret/rotate", json={"keep_s": -1}).status_code == 400


def test_dead_deliveries_are_listed_shown_and_redelivered(gateway: Gateway) -> None:
    job_id = submit(gateway)
    gateway.finish([job_id])
    delivery = kill(gateway)
    (listed,) = get(gateway, "deliveries?status=dead").json["deliveries"]
    assert listed == get(gateway, f"deliveries/{delivery.id}").json
    assert (listed["subject"], listed["status"], listed["tries"]) == (job_id, "dead", 1)
    assert listed["problem"] == "The endpoint responded with 500."
    assert "pawqueue_dead_deliveries 1.0" in gateway.metrics()
    assert 'pawqueue_deliveries_total{result="dead"} 1.0' in gateway.metrics()
    response = gateway.client.post(f"/v1/webhooks/deliveries/{delivery.id}/redeliver")
    assert (response.status_code, response.json["status"]) == (202, "waiting")
    assert get(gateway, "deliveries?status=dead").json == {"deliveries": []}
    assert len(get(gateway, "deliveries").json["deliveries"]) == 1
    assert [item.id for item in due(gateway)] == [delivery.id]
    assert_problem(get(gateway, f"deliveries/{job_id}"), 404, "not_found")
    assert_problem(get(gateway, "deliveries/x"), 404, "not_found")


def test_each_api_key_has_its_own_secret_and_sees_only_its_own_deliveries(keyed: Gateway) -> None:
    ada, bob = key_of(keyed), key_of(keyed)
    assert get(keyed, "secret", ada).json["secret"] != get(keyed, "secret", bob).json["secret"]
    keyed.finish([submit(keyed, **ada)])
    delivery = kill(keyed)
    path = f"deliveries/{delivery.id}"
    assert get(keyed, "deliveries", bob).json == {"deliveries": []}
    assert_problem(get(keyed, path, bob), 404, "not_found")
    assert_problem(keyed.client.post(f"/v1/webhooks/{path}/redeliver", headers=bob), 404, "not_found")
    assert keyed.client.post(f"/v1/webhooks/{path}/redeliver", headers=ada).status_code == 202


def test_a_key_that_can_only_read_gets_no_secret_and_redelivers_nothing(keyed: Gateway) -> None:
    reader = key_of(keyed, Scope.READ)
    assert get(keyed, "deliveries", reader).status_code == 200
    assert_problem(get(keyed, "secret", reader), 403, "forbidden")
    for path in ("secret/rotate", "deliveries/0192f3a4-5b6c-7d8e-9f01-23456789abcd/redeliver"):
        assert_problem(keyed.client.post(f"/v1/webhooks/{path}", json={}, headers=reader), 403, "forbidden")
