"""Ids that several owners use: nobody can take an id that another owner needs, or learn of it."""

import io
import uuid
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.access import Scope
from contract.job import new_job_id
from contract.ledger.types import Sweep
from contract.submission import image_job_id, named_submission_id
from tests.support.images import draw
from tests.support.ledger import claim_jobs
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem
from tests.unit.gateway.test_auth import key

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))
Key = dict[str, str]


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    return make_gateway(access="required")


def owner_of(who: Key) -> str:
    return who["X-API-Key"].split("_")[1]


def put(gateway: Gateway, who: Key, job_id: str, image: bytes, **headers: str) -> TestResponse:
    return gateway.client.put(f"/v1/jobs/{job_id}", data=image, content_type="image/png", headers=who | headers)


def add(gateway: Gateway, who: Key, submission_id: str, images: dict[str, bytes]) -> Any:
    form = {"file": [(io.BytesIO(data), name) for name, data in images.items()]}
    return gateway.client.post(f"/v1/submissions/{submission_id}/jobs", data=form, headers=who).get_json()


def test_two_owners_can_use_the_same_job_id_without_learning_of_each_other(gateway: Gateway) -> None:
    ada, bob, job_id = key(gateway), key(gateway), new_job_id()
    url = f"/v1/jobs/{job_id}"
    first, second = put(gateway, ada, job_id, RED), put(gateway, bob, job_id, BLUE)
    for response in (first, second, put(gateway, bob, job_id, BLUE)):
        assert (response.status_code, response.get_json()["id"]) == (202, job_id)
        assert (response.headers["Location"], response.get_json()["urls"]["self"]) == (url, url)
    assert len(gateway.new_jobs) == 2
    assert_problem(put(gateway, bob, job_id, RED), 409, "conflict")
    sizes = [gateway.client.get(url, headers=who).get_json()["size_bytes"] for who in (ada, bob)]
    assert sizes == [len(RED), len(BLUE)]
    assert gateway.client.delete(url, headers=bob).get_json()["status"] == "canceled"
    assert gateway.client.delete(f"{url}?purge=true", headers=bob).status_code == 204
    assert_problem(gateway.client.get(url, headers=bob), 404, "not_found")
    assert gateway.client.get(url, headers=ada).get_json()["status"] == "queued"


def test_an_upload_under_an_id_of_another_owner_can_wait_for_its_result(gateway: Gateway) -> None:
    ada, bob, job_id = key(gateway), key(gateway), new_job_id()
    put(gateway, ada, job_id, RED)
    gateway.finish_new_jobs()
    done = put(gateway, bob, job_id, BLUE, Prefer="wait=30")
    assert (done.status_code, done.get_json()["id"], done.get_json()["status"]) == (200, job_id, "succeeded")
    read = gateway.client.get(f"/v1/jobs/{job_id}", headers=bob | {"Prefer": "wait=30"})
    assert read.get_json()["status"] == "succeeded"


def test_two_gateways_find_the_same_job(gateway: Gateway, make_gateway: MakeGateway) -> None:
    ada, bob, job_id = key(gateway), key(gateway), new_job_id()
    put(gateway, ada, job_id, RED)
    other = make_gateway(access="required")
    put(gateway, bob, job_id, BLUE)
    put(other, bob, job_id, BLUE)
    assert other.client.get(f"/v1/jobs/{job_id}", headers=bob).get_json()["size_bytes"] == len(BLUE)
    assert not other.new_jobs


def test_nobody_can_take_the_ids_of_the_images_of_a_submission(gateway: Gateway) -> None:
    ada, eve, submission_id = key(gateway), key(gateway), new_job_id()
    gateway.client.put(f"/v1/submissions/{submission_id}", json={}, headers=ada)
    for name in ("a.png", "b.txt"):
        assert put(gateway, eve, image_job_id(submission_id, name), RED).status_code == 202
    images = {"a.png": BLUE, "b.txt": b"text"}
    added = [add(gateway, ada, submission_id, images) for _ in range(2)]
    assert [[(item["custom_id"], item["repeated"]) for item in one["accepted"]] for one in added] == [
        [("a.png", False)],
        [("a.png", True)],
    ]
    assert added[0]["accepted"][0]["job_id"] == added[1]["accepted"][0]["job_id"]
    counts = gateway.client.get(f"/v1/submissions/{submission_id}", headers=ada).get_json()["counts"]
    assert (counts["total"], counts["rejected"]) == (2, 1)


def test_two_owners_can_use_the_same_submission_id(gateway: Gateway) -> None:
    ada, bob, submission_id = key(gateway), key(gateway), new_job_id()
    url = f"/v1/submissions/{submission_id}"
    for who, name in ((ada, "hers"), (bob, "his"), (bob, "his")):
        opened = gateway.client.put(url, json={"name": name}, headers=who)
        assert (opened.get_json()["id"], opened.headers["Location"]) == (submission_id, url)
        assert len(add(gateway, who, submission_id, {"a.png": RED})["accepted"]) == 1
    assert [gateway.client.get(url, headers=who).get_json()["name"] for who in (ada, bob)] == ["hers", "his"]
    assert_problem(gateway.client.put(url, json={"name": "another"}, headers=bob), 409, "conflict")
    assert gateway.client.post(f"{url}/close", headers=bob).get_json()["status"] == "closed"
    assert gateway.client.delete(url, headers=bob).get_json()["status"] == "canceled"
    results = gateway.client.get(f"{url}/results", headers=bob).text
    assert results.count('"canceled"') == 1
    assert gateway.client.delete(f"{url}?purge=true", headers=bob).status_code == 204
    assert_problem(gateway.client.get(url, headers=bob), 404, "not_found")
    assert gateway.client.get(url, headers=ada).get_json()["status"] == "open"


def test_nobody_can_take_the_id_that_follows_from_an_idempotency_key(gateway: Gateway) -> None:
    ada, eve = key(gateway), key(gateway)
    taken = named_submission_id(owner_of(ada), "k")
    gateway.client.put(f"/v1/submissions/{taken}", json={"name": "block"}, headers=eve)
    opened = [gateway.client.post("/v1/submissions", json={}, headers=ada | {"Idempotency-Key": "k"}) for _ in range(2)]
    assert [response.status_code for response in opened] == [201, 200]
    assert opened[0].get_json()["id"] == opened[1].get_json()["id"] != taken
    assert gateway.client.get(opened[0].headers["Location"], headers=ada).status_code == 200


def test_nobody_can_take_the_id_of_a_retry(gateway: Gateway) -> None:
    ada, eve, admin = key(gateway), key(gateway), key(gateway, Scope.ADMIN)
    job_id = gateway.client.post("/v1/jobs", data=RED, content_type="image/png", headers=ada).get_json()["id"]
    for _ in range(2):
        gateway.ledger.begin([claim for claim in claim_jobs(gateway.ledger, [job_id], 1, 60, 1) if claim])
        gateway.ledger.recover(Sweep("interactive", max_attempts=1, ttl_s=60), 10)
    taken = str(uuid.uuid5(uuid.UUID(job_id), "retry"))
    assert put(gateway, eve, taken, BLUE).status_code == 202
    retried = gateway.client.post(f"/v1/dead/{job_id}/retry", headers=admin)
    assert retried.status_code == 202
    assert gateway.client.get(retried.headers["Location"], headers=ada).get_json()["size_bytes"] == len(RED)
    assert gateway.client.get(f"/v1/jobs/{taken}", headers=eve).get_json()["size_bytes"] == len(BLUE)
