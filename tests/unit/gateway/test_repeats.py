"""Repeated uploads under a job id or an idempotency key."""

import io
import threading
import time

from werkzeug.test import TestResponse

from contract.job import new_job_id
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, assert_problem, upload

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))


def put(gateway: Gateway, job_id: str, data: bytes) -> TestResponse:
    return gateway.client.put(f"/v1/jobs/{job_id}", data={"file": (io.BytesIO(data), "x.png")})


def with_key(gateway: Gateway, key: str, data: bytes) -> TestResponse:
    return upload(gateway, data, **{"Idempotency-Key": key})


def test_the_same_key_and_image_return_the_same_job(gateway: Gateway) -> None:
    first, second = with_key(gateway, "a", RED), with_key(gateway, "a", RED)
    assert first.get_json()["id"] == second.get_json()["id"]
    assert (first.status_code, second.status_code) == (202, 202)
    assert len(gateway.new_jobs) == 1
    assert gateway.image_count() == 1
    gateway.finish([first.get_json()["id"]])
    third = with_key(gateway, "a", RED)
    assert (third.status_code, third.get_json()["prediction"]["label"]) == (200, "cat")


def test_the_same_key_with_another_image_is_rejected(gateway: Gateway) -> None:
    with_key(gateway, "a", RED)
    assert_problem(with_key(gateway, "a", BLUE), 422, "idempotency_mismatch")
    assert with_key(gateway, "b", BLUE).status_code == 202
    assert gateway.image_count() == 2


def test_concurrent_uploads_with_the_same_key_return_the_same_job(gateway: Gateway) -> None:
    stored, proceed = threading.Event(), threading.Event()

    def block(_: list[str]) -> None:
        stored.set()
        assert proceed.wait(30)

    gateway.ledger.on_new_jobs = block
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(with_key(gateway, "a", RED).get_json()["id"])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert stored.wait(30)
    proceed.set()
    for thread in threads:
        thread.join(30)
    assert len(ids) == len(threads)
    assert [("interactive", [ids[0]])] == gateway.new_jobs
    assert set(ids) == {ids[0]}
    assert gateway.image_count() == 1


def test_an_idempotency_key_that_is_too_long_is_rejected(gateway: Gateway) -> None:
    assert_problem(with_key(gateway, "x" * 256, RED), 400, "bad_request")


def test_putting_the_same_image_twice_creates_one_job(gateway: Gateway) -> None:
    job_id = new_job_id()
    first, second = put(gateway, job_id, RED), put(gateway, job_id, RED)
    assert first.get_json()["id"] == second.get_json()["id"] == job_id
    assert len(gateway.new_jobs) == 1
    assert_problem(put(gateway, job_id, BLUE), 409, "conflict")
    assert gateway.image_of(gateway.job(job_id)) == RED


def test_put_of_a_finished_job_with_prefer_wait_returns_immediately(gateway: Gateway) -> None:
    url = f"/v1/jobs/{new_job_id()}"
    gateway.finish_new_jobs()
    gateway.client.put(url, data=draw(), content_type="image/png")
    start_s = time.monotonic()
    response = gateway.client.put(url, data=draw(), content_type="image/png", headers={"Prefer": "wait=30"})
    assert (response.status_code, response.get_json()["status"]) == (200, "succeeded")
    assert time.monotonic() - start_s < 20


def test_put_requires_a_valid_job_id(gateway: Gateway) -> None:
    assert_problem(put(gateway, "mine", RED), 404, "not_found")
