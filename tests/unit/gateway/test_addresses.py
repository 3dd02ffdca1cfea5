"""Images whose address is sent: they are jobs at once, and a worker fetches them."""

from collections.abc import Callable

import pytest

from contract.job import new_job_id
from tests.unit.gateway.conftest import Gateway, assert_problem

URL = "https://images.example.com/pets/cat.jpg?signature=secret"


@pytest.fixture
def fetching(make_gateway: Callable[..., Gateway]) -> Gateway:
    return make_gateway(fetch_allow="images.example.com")


def test_an_address_is_accepted_as_a_job(fetching: Gateway) -> None:
    response = fetching.client.post("/v1/jobs?queue=bulk", json={"url": URL})
    job = response.get_json()
    assert (response.status_code, job["status"], job["queue"], job["file"]) == (202, "queued", "bulk", "cat.jpg")
    assert fetching.job(job["id"]).image == URL
    assert "secret" not in response.text
    assert fetching.image_count() == 0


def test_resending_an_address_returns_the_same_job(fetching: Gateway) -> None:
    path = f"/v1/jobs/{new_job_id()}"
    first, second = (fetching.client.put(path, json={"url": URL}) for _ in range(2))
    assert first.get_json()["id"] == second.get_json()["id"]
    assert_problem(fetching.client.put(path, json={"url": f"{URL}2"}), 409, "conflict")


def test_an_address_that_is_not_allowed_is_rejected(gateway: Gateway, fetching: Gateway) -> None:
    response = fetching.client.post("/v1/jobs", json={"url": "https://other.example.com/cat.jpg"})
    assert "other.example.com" in assert_problem(response, 403, "fetch_not_allowed")["detail"]
    problem = assert_problem(gateway.client.post("/v1/jobs", json={"url": URL}), 403, "fetch_not_allowed")
    assert "PAWQUEUE_FETCH_ALLOW" in problem["detail"]
    assert not gateway.new_jobs


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"url": 1}', '{"url": "https://images.example.com", "more": 1}'])
def test_a_wrong_body_is_rejected_with_the_reason(fetching: Gateway, body: str) -> None:
    response = fetching.client.post("/v1/jobs", data=body, content_type="application/json")
    assert "JSON body" in assert_problem(response, 400, "bad_request")["detail"]


def test_a_canceled_job_deletes_nothing_at_its_address(fetching: Gateway) -> None:
    job = fetching.client.post("/v1/jobs", json={"url": URL}).get_json()
    assert fetching.client.delete(f"/v1/jobs/{job['id']}").get_json()["status"] == "canceled"
    fetching.images.delete(fetching.ledger.discarded(10))
    other = fetching.client.post("/v1/jobs", json={"url": URL}).get_json()
    assert fetching.client.delete(f"/v1/jobs/{other['id']}?purge=true").status_code == 204


def test_a_submission_takes_addresses(fetching: Gateway) -> None:
    submission = fetching.client.post("/v1/submissions", json={}).get_json()
    images = [
        {"url": URL},
        {"url": "https://images.example.com/dog.jpg", "custom_id": "dog"},
        {"url": "https://other.example.com/bird.jpg", "custom_id": "bird"},
    ]
    for repeated in (False, True):
        response = fetching.client.post(f"/v1/submissions/{submission['id']}/jobs", json={"images": images})
        added = response.get_json()
        assert response.status_code == 202
        accepted = {row["custom_id"]: row["repeated"] for row in added["accepted"]}
        assert accepted == {"https://images.example.com/pets/cat.jpg": repeated, "dog": repeated}
        assert [(row["custom_id"], row["code"]) for row in added["rejected"]] == [("bird", "fetch_not_allowed")]


def test_a_submission_rejects_more_than_a_thousand_addresses_at_once(fetching: Gateway) -> None:
    submission = fetching.client.post("/v1/submissions", json={}).get_json()
    images = [{"url": f"https://images.example.com/{number}.jpg"} for number in range(1001)]
    response = fetching.client.post(f"/v1/submissions/{submission['id']}/jobs", json={"images": images})
    assert "1000" in assert_problem(response, 400, "bad_request")["detail"]
