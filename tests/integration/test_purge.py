"""Purging jobs and submissions over HTTP, with a real Redis, queue, gateway and worker."""

from collections.abc import Iterator

import httpx
import pytest
import redis

from contract.ledger import keys
from tests.support.images import draw, stored_images
from tests.support.ledger import contents
from tests.support.services import Stack, wait_until

WAIT = {"Prefer": "wait=30"}


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


@pytest.fixture
def client(stack: Stack) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as connected:
        yield connected


def images(stack: Stack) -> list[bytes]:
    return stored_images(stack.folder / "state" / "images")


def test_no_trace_of_a_finished_job_is_left(http: httpx.Client, stack: Stack, client: "redis.Redis") -> None:
    files = {"file": ("secret-name.png", draw())}
    job = http.post("/v1/jobs", files=files, headers=WAIT | {"Idempotency-Key": "secret-key"}).json()
    assert job["status"] == "succeeded"
    assert http.delete(f"/v1/jobs/{job['id']}?purge=true").status_code == 204
    left = contents(client)
    for trace in (job["id"], "secret-name", "secret-key"):
        assert trace not in left
    wait_until(lambda: not images(stack), "the worker has deleted the image")


def test_no_trace_of_a_job_that_is_purged_while_it_runs_is_left(
    http: httpx.Client, stack: Stack, client: "redis.Redis"
) -> None:
    image = draw((6000, 6000))  # takes a while to decode
    job_id = http.post("/v1/jobs", files={"file": ("secret-name.png", image)}).json()["id"]
    wait_until(lambda: http.get(f"/v1/jobs/{job_id}").json()["status"] != "queued", "a worker has claimed it")
    assert http.delete(f"/v1/jobs/{job_id}?purge=true").status_code == 204
    wait_until(lambda: not images(stack), "the images are deleted")
    # A worker is done with the message when the job of a later one has finished and no message is unacknowledged.
    assert http.post("/v1/jobs", files={"file": ("next.png", draw())}, headers=WAIT).json()["status"] == "succeeded"
    wait_until(lambda: not client.exists(f"{keys.PREFIX}unacked"), "every message is acknowledged")
    left = contents(client)
    for trace in (job_id, "secret-name"):
        assert trace not in left


def test_no_trace_of_a_submission_is_left(http: httpx.Client, stack: Stack, client: "redis.Redis") -> None:
    address = http.post("/v1/submissions", json={"name": "private-holiday"}).headers["Location"]
    parts = [("file", (f"private-{n}.png", draw(color=(n, 90, 40)))) for n in range(20)]
    accepted = http.post(f"{address}/jobs", files=[*parts, ("file", ("private.txt", b"text"))]).json()["accepted"]
    assert http.delete(f"{address}?purge=true").status_code == 204
    assert http.get(address).status_code == 404
    wait_until(
        lambda: not client.exists(f"{keys.PREFIX}unacked", f"{keys.PREFIX}bulk"), "every message is acknowledged"
    )
    left = contents(client)
    for trace in (address.rsplit("/", 1)[-1], "private", *(item["job_id"] for item in accepted)):
        assert trace not in left
    wait_until(lambda: not images(stack), "the images are deleted")
