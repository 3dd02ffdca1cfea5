"""Repeated uploads, canceling, deadlines, and saying no early."""

import errno
import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.broker import INTERACTIVE, QUEUES
from contract.images.store import FileImageStore
from contract.job import JobStatus, new_job_id
from contract.ledger.types import RedisMemory
from gateway.load import LoadMeter
from tests.support.images import draw
from tests.support.ledger import store
from tests.support.twin.ledger_memory import MemoryLedger
from tests.unit.gateway.conftest import Gateway, cat, make_gateway
from tests.unit.gateway.test_jobs import refused, upload

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))


def put(gateway: Gateway, job_id: str, data: bytes) -> TestResponse:
    return gateway.client.put(f"/v1/jobs/{job_id}", data={"file": (io.BytesIO(data), "x.png")})


def with_key(gateway: Gateway, key: str, data: bytes) -> TestResponse:
    return upload(gateway, data, **{"Idempotency-Key": key})


def test_the_same_key_and_bytes_are_the_same_job(gateway: Gateway) -> None:
    first, second = with_key(gateway, "a", RED), with_key(gateway, "a", RED)
    assert first.get_json()["id"] == second.get_json()["id"]
    assert (first.status_code, second.status_code) == (202, 202)
    assert len(gateway.published) == 1
    assert len(gateway.images._images) == 1
    gateway.end([first.get_json()["id"]], cat())
    third = with_key(gateway, "a", RED)
    assert (third.status_code, third.get_json()["prediction"]["label"]) == (200, "cat")


def test_the_same_key_with_other_bytes_is_refused(gateway: Gateway) -> None:
    with_key(gateway, "a", RED)
    refused(with_key(gateway, "a", BLUE), 422, "idempotency_mismatch")
    assert with_key(gateway, "b", BLUE).status_code == 202
    assert len(gateway.images._images) == 2


def test_the_same_key_while_the_first_is_in_flight_is_a_conflict(gateway: Gateway) -> None:
    entered, release, publish = threading.Event(), threading.Event(), gateway.publish

    def slow(queue: str, job_ids: Any) -> None:
        entered.set()
        assert release.wait(10)
        publish(queue, job_ids)

    gateway.client.application.config["SERVICES"].submitter.committer._publish = slow
    answers: list[TestResponse] = []
    thread = threading.Thread(target=lambda: answers.append(with_key(gateway, "a", RED)))
    thread.start()
    assert entered.wait(10)
    refused(with_key(gateway, "a", RED), 409, "conflict")
    release.set()
    thread.join(10)
    assert answers[0].status_code == 202
    assert with_key(gateway, "a", RED).get_json()["id"] == answers[0].get_json()["id"]


def test_an_endless_key_is_refused(gateway: Gateway) -> None:
    refused(with_key(gateway, "x" * 256, RED), 400, "bad_request")


def test_a_job_put_twice_is_one_job(gateway: Gateway) -> None:
    job_id = new_job_id()
    first, second = put(gateway, job_id, RED), put(gateway, job_id, RED)
    assert first.get_json()["id"] == second.get_json()["id"] == job_id
    assert len(gateway.published) == 1
    refused(put(gateway, job_id, BLUE), 409, "conflict")
    assert gateway.images.get([gateway.job(job_id).image]) == [RED]


def test_who_puts_an_ended_job_again_does_not_wait_for_an_end_that_was(gateway: Gateway) -> None:
    address, gateway.answers = f"/v1/jobs/{new_job_id()}", True
    gateway.client.put(address, data=draw(), content_type="image/png")
    began_s = time.monotonic()
    again = gateway.client.put(address, data=draw(), content_type="image/png", headers={"Prefer": "wait=30"})
    assert (again.status_code, again.get_json()["status"]) == (200, "succeeded")
    assert time.monotonic() - began_s < 20


def test_a_job_can_only_be_put_under_a_job_id(gateway: Gateway) -> None:
    refused(put(gateway, "mine", RED), 404, "not_found")


def test_a_queued_job_is_canceled(gateway: Gateway) -> None:
    job_id = upload(gateway, RED).get_json()["id"]
    canceled = gateway.client.delete(f"/v1/jobs/{job_id}")
    assert (canceled.status_code, canceled.get_json()["status"]) == (200, "canceled")
    assert canceled.get_json()["finished_at"]
    assert gateway.client.get(f"/v1/jobs/{job_id}").get_json()["status"] == "canceled"
    gateway.end([job_id], cat())
    assert gateway.job(job_id).status is JobStatus.CANCELED


def test_an_ended_job_stays_as_it_is(gateway: Gateway) -> None:
    job_id = upload(gateway, RED).get_json()["id"]
    gateway.end([job_id], cat())
    assert gateway.client.delete(f"/v1/jobs/{job_id}").get_json()["status"] == "succeeded"


def test_canceling_wakes_who_waits(gateway: Gateway) -> None:
    job_id = upload(gateway, RED).get_json()["id"]
    canceler = threading.Timer(0.05, gateway.ledger.cancel, ([job_id], 60))
    canceler.start()
    job = gateway.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=10"}).get_json()
    canceler.join()
    assert job["status"] == "canceled"


def test_unknown_jobs_cannot_be_canceled(gateway: Gateway) -> None:
    refused(gateway.client.delete(f"/v1/jobs/{new_job_id()}"), 404, "not_found")
    refused(gateway.client.delete("/v1/jobs/nope"), 404, "not_found")


def test_a_deadline_is_kept_with_the_job(gateway: Gateway) -> None:
    job_id = upload(gateway, RED, query="?deadline_s=2.5").get_json()["id"]
    job = gateway.job(job_id)
    assert job.deadline_ms == job.created_ms + 2500


@pytest.mark.parametrize("text", ["", "0", "-1", "abc", "nan", "inf", "1e9", "999999999"])
def test_a_deadline_that_cannot_be_read_is_refused(refusing: Gateway, text: str) -> None:
    refused(upload(refusing, RED, query=f"?deadline_s={text}"), 400, "bad_request")


def test_a_waiting_job_shows_its_place_and_estimated_wait(gateway: Gateway) -> None:
    addresses = [upload(gateway, RED).headers["Location"] for _ in range(3)]
    jobs = [gateway.client.get(address).get_json() for address in addresses]
    assert [job["queue_position"] for job in jobs] == [0, 1, 2]
    assert jobs[0]["estimated_wait_s"] is None
    teach_rate(gateway, jobs_per_s=0.1)
    last = gateway.client.get(addresses[2])
    assert last.get_json()["estimated_wait_s"] == 30.0
    assert last.headers["Retry-After"] == "30"


def teach_rate(gateway: Gateway, jobs_per_s: float) -> None:
    assert gateway.load
    gateway.load._samples.extend([(0.0, 0), (10.0, int(jobs_per_s * 10))])


def test_a_full_queue_says_when_to_come_back(gateway: Gateway) -> None:
    teach_rate(gateway, jobs_per_s=1.0)
    for _ in range(50):
        upload(gateway, RED)
    assert upload(gateway, RED).headers["Retry-After"] == "33"


def test_a_full_ledger_refuses_before_anything_is_stored(gateway: Gateway) -> None:
    assert gateway.load
    gateway.load._memory = RedisMemory(used_bytes=3_000_000_000)
    response = upload(gateway, RED)
    refused(response, 503, "unavailable")
    assert int(response.headers["Retry-After"]) > 1
    assert not gateway.images._images


def test_a_full_disk_refuses_and_promises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: str, data: bytes) -> None:
        Path(path).write_bytes(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    gateway = make_gateway(FileImageStore(tmp_path))
    upload(gateway, RED)
    with monkeypatch.context() as patch:
        patch.setattr("contract.images.store._write", no_space)
        response = upload(gateway, BLUE)
    refused(response, 503, "unavailable")
    assert "No space left" in response.get_json()["detail"]
    assert gateway.ledger.stats(QUEUES).queues[INTERACTIVE].queued == len(gateway.published) == 1
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1
    assert upload(gateway, BLUE).status_code == 202


@pytest.mark.parametrize(
    ("memory", "is_refused"),
    [
        (RedisMemory(used_bytes=81, max_bytes=100), True),
        (RedisMemory(used_bytes=79, max_bytes=100), False),
        (RedisMemory(used_bytes=1, max_bytes=100, evicts=True), True),
        (RedisMemory(used_bytes=1_000_000), False),
    ],
)
def test_uploads_are_refused_before_redis_is_full_and_where_it_forgets(
    gateway: Gateway, memory: RedisMemory, is_refused: bool
) -> None:
    assert gateway.load
    gateway.load._memory = memory
    assert upload(gateway, RED).status_code == (503 if is_refused else 202)


def test_the_drain_rate_is_measured_over_the_last_samples() -> None:
    ledger, now_s = MemoryLedger(), [0.0]
    meter = LoadMeter(ledger, 10**9, clock=lambda: now_s[0])
    assert (meter.drain_rate(), meter.wait_s(5), meter.advice_s(5)) == (0.0, None, 1)
    from contract.job import Job

    for second in range(4):
        now_s[0] = float(second)
        job = Job(new_job_id(), "interactive", second)
        store(ledger, [job])
        ledger.cancel([job.id], 60)
        meter.sample()
    assert meter.drain_rate() == 1.0
    assert meter.wait_s(9) == 10.0
    assert meter.advice_s(10_000) == 60
