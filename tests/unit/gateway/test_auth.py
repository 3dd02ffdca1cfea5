"""API keys over HTTP: authentication, scopes, owners and rate limits."""

import io

import pytest
from werkzeug.test import TestResponse

from contract.access import Scope, make_key
from contract.job import new_job_id
from contract.ledger.types import Sweep
from tests.support.images import draw
from tests.support.ledger import claim_jobs
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway that requires API keys."""
    return make_gateway(access="required")


def key(gateway: Gateway, *scopes: Scope, rate_limit: str = "") -> dict[str, str]:
    """Create an API key; returns the request headers that send it."""
    stored, text = make_key("tests", scopes or (Scope.SUBMIT, Scope.READ), rate_limit)
    gateway.keys.put(stored)
    return {"X-API-Key": text}


def submit(gateway: Gateway, headers: dict[str, str], path: str = "/v1/jobs", **more: str) -> TestResponse:
    method = gateway.client.put if path != "/v1/jobs" else gateway.client.post
    return method(path, data=draw(), content_type="image/png", headers=headers | more)


def test_job_endpoints_reject_requests_without_a_key(gateway: Gateway) -> None:
    for method, path in (
        ("POST", "/v1/jobs"),
        ("PUT", f"/v1/jobs/{new_job_id()}"),
        ("GET", f"/v1/jobs/{new_job_id()}"),
        ("DELETE", f"/v1/jobs/{new_job_id()}"),
        ("GET", "/v1/dead"),
        ("POST", f"/v1/dead/{new_job_id()}/retry"),
    ):
        response = gateway.client.open(path, method=method)
        assert_problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not gateway.image_count()


def test_health_and_documentation_are_open(guarded_gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz", "/v1/status", "/", "/health", "/openapi.json", "/docs", "/redoc"):
        assert guarded_gateway.client.get(path).status_code == 200, path


def test_the_status_requires_a_key_if_configured(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(access="required", metrics_access="key")
    assert gateway.client.get("/v1/status").status_code == 401
    assert gateway.client.get("/v1/status", headers=key(gateway, Scope.READ)).status_code == 200


def test_a_key_is_read_from_either_header(gateway: Gateway) -> None:
    text = key(gateway)["X-API-Key"]
    for headers in ({"X-API-Key": text}, {"Authorization": f"Bearer {text}"}, {"Authorization": f"bearer  {text} "}):
        assert submit(gateway, headers).status_code == 202
    assert_problem(submit(gateway, {"Authorization": f"Basic {text}"}), 401, "unauthorized")


def test_a_key_is_limited_to_its_scopes(gateway: Gateway) -> None:
    may_read, may_submit = key(gateway, Scope.READ), key(gateway, Scope.SUBMIT)
    assert_problem(submit(gateway, may_read), 403, "forbidden")
    url = submit(gateway, may_submit).headers["Location"]
    assert_problem(gateway.client.get(url, headers=may_submit), 403, "forbidden")
    assert_problem(gateway.client.get("/v1/dead", headers=may_read), 403, "forbidden")
    assert gateway.client.get("/v1/dead", headers=key(gateway, Scope.ADMIN)).status_code == 200


def test_the_job_of_another_owner_is_not_found(gateway: Gateway) -> None:
    ada, bob = key(gateway), key(gateway)
    job_id = submit(gateway, ada).get_json()["id"]
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{new_job_id()}"):
        problems = [gateway.client.open(path, method=method, headers=bob) for method in ("GET", "DELETE")]
        details = {assert_problem(problem, 404, "not_found")["detail"] for problem in problems}
        assert len(details) == 1
    waited = gateway.client.get(f"/v1/jobs/{job_id}", headers=bob | {"Prefer": "wait=30"})
    assert_problem(waited, 404, "not_found")  # without waiting
    assert gateway.client.get(f"/v1/jobs/{job_id}", headers=ada).get_json()["status"] == "queued"
    assert_problem(gateway.client.get(f"/v1/jobs/{job_id}", headers=key(gateway, *Scope)), 404, "not_found")


def test_owners_have_separate_idempotency_keys(gateway: Gateway) -> None:
    ada, bob = key(gateway), key(gateway)
    ids = [submit(gateway, who, **{"Idempotency-Key": "a"}).get_json()["id"] for who in (ada, bob, ada, bob)]
    assert ids[0] == ids[2] != ids[1] == ids[3]


def test_a_retried_dead_job_keeps_its_owner(gateway: Gateway) -> None:
    ada = key(gateway)
    job_id = submit(gateway, ada).get_json()["id"]
    for _ in range(2):
        claims = [claim for claim in claim_jobs(gateway.ledger, [job_id], 1, 60, 1) if claim]
        gateway.ledger.begin(claims)
        gateway.ledger.recover(Sweep("interactive", max_attempts=1, ttl_s=60), 10)
    retried = gateway.client.post(f"/v1/dead/{job_id}/retry", headers=key(gateway, Scope.ADMIN))
    assert retried.status_code == 202
    assert gateway.client.get(retried.headers["Location"], headers=ada).get_json()["status"] == "queued"


def test_a_key_can_fill_only_its_share_of_the_queue(gateway: Gateway) -> None:
    ada, bob = key(gateway), key(gateway)
    responses = [submit(gateway, ada) for _ in range(26)]
    assert [response.status_code for response in responses] == [202] * 25 + [429]
    problem = assert_problem(responses[-1], 429, "queue_full")
    assert "Your share of the queue is full" in problem["detail"]
    assert int(responses[-1].headers["Retry-After"]) >= 1
    assert gateway.image_count() == 25
    assert submit(gateway, bob).status_code == 202
    gateway.finish(gateway.new_jobs[0][1])
    assert submit(gateway, ada).status_code == 202


def test_a_key_over_its_rate_limit_is_refused_with_retry_after(gateway: Gateway) -> None:
    ada, bob = key(gateway, rate_limit="3 per minute"), key(gateway)
    url = submit(gateway, ada).headers["Location"]
    responses = [gateway.client.get(url, headers=ada) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert_problem(responses[-1], 429, "rate_limited")
    assert 1 <= int(responses[-1].headers["Retry-After"]) <= 60
    assert responses[0].headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert [response.headers["RateLimit"].split(";")[1] for response in responses] == ["r=1", "r=0", "r=0"]
    assert submit(gateway, bob).headers["RateLimit-Policy"] == '"default";q=60000;w=60'


def test_requests_without_a_key_have_no_rate_limit(gateway: Gateway) -> None:
    assert "RateLimit" not in gateway.client.get("/healthz").headers
    assert "RateLimit" not in gateway.client.get("/v1/dead").headers


def test_predict_requires_a_key_and_keeps_its_error_format(gateway: Gateway) -> None:
    gateway.serve_model()
    gateway.finish_new_jobs()

    def predict(headers: dict[str, str]) -> TestResponse:
        form = {"file": (io.BytesIO(draw()), "x.png", "image/png")}
        return gateway.client.post("/predict", data=form, headers=headers)

    response = predict({})
    assert response.status_code == 401
    assert response.get_json().keys() == {"error", "detail"}
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert predict(key(gateway, Scope.READ)).status_code == 403
    assert predict(key(gateway, Scope.SUBMIT)).get_json()["class"] == "cat"
    once = key(gateway, rate_limit="1 per minute")
    assert [predict(once).status_code for _ in range(2)] == [200, 429]
