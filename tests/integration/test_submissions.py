"""Many images in one submission over HTTP, with a real Redis, gateway, worker and model."""

import csv
import io
import json
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from contract.job import new_job_id
from contract.ledger import keys
from contract.queues import BULK
from tests.integration.memory import MemoryWatch
from tests.support.archives import encrypted, tar_of, zip_of
from tests.support.images import draw, stored_images
from tests.support.services import Stack, light_worker, running_stack, wait_until
from tests.unit.gateway.test_archives import BOMBS, bomb_tar, deep_zip

TAR, ZIP = "application/x-tar", "application/zip"
WAIT = {"Prefer": "wait=60"}


def images(first: int, count: int) -> dict[str, bytes]:
    return {f"cats/{n:03}.jpg": draw((120, 90), (n % 256, 90, 40), "JPEG") for n in range(first, first + count)}


def as_form(members: dict[str, bytes]) -> Any:
    return {"files": [("file", (name, data)) for name, data in members.items()]}


def as_tar(members: dict[str, bytes]) -> Any:
    return {"content": tar_of(members), "headers": {"Content-Type": TAR}}


def as_zip(members: dict[str, bytes]) -> Any:
    return {"content": zip_of(members, zipfile.ZIP_DEFLATED), "headers": {"Content-Type": ZIP}}


def open_submission(http: httpx.Client, **options: Any) -> str:
    response = http.post("/v1/submissions", json=options)
    assert response.status_code == 201, response.text
    return str(response.headers["Location"])


def rows_of(http: httpx.Client, address: str, query: str = "") -> list[Any]:
    return [json.loads(line) for line in http.get(f"{address}/results{query}").text.splitlines()]


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        yield client


def test_a_form_a_tar_and_a_zip_fill_one_submission(http: httpx.Client) -> None:
    address = open_submission(http, name="Cats")
    forms = [(as_form, images(0, 100)), (as_tar, images(100, 100)), (as_zip, images(200, 100))]
    ids: list[str] = []
    for pack, members in forms:
        response = http.post(f"{address}/jobs", **pack(members))
        assert response.status_code == 202, response.text
        assert [item["custom_id"] for item in response.json()["accepted"]] == list(members)
        ids += [item["job_id"] for item in response.json()["accepted"]]
    assert len(set(ids)) == 300
    wait_until(lambda: bool(rows_of(http, address)), "the first result")  # while the submission is still open

    repeated = http.post(
        f"{address}/jobs", **as_tar(images(0, 2) | {"cats/000.jpg": draw(), "notes.txt": b"no"})
    ).json()
    assert [(item["custom_id"], item["repeated"]) for item in repeated["accepted"]] == [("cats/001.jpg", True)]
    assert {item["custom_id"]: item["code"] for item in repeated["rejected"]} == {
        "cats/000.jpg": "conflict",
        "notes.txt": "not_an_image",
    }
    assert http.post(f"{address}/close").json()["status"] in ("closed", "finished")
    assert http.post(f"{address}/jobs", **as_tar(images(300, 1))).status_code == 409

    body = http.get(address, headers=WAIT).json()
    assert body["status"] == "finished", body
    assert {name: count for name, count in body["counts"].items() if count} == {
        "total": 301,
        "succeeded": 300,
        "rejected": 1,
    }
    assert body["rate_per_s"] > 0
    rows = rows_of(http, address)
    assert [row["n"] for row in rows] == list(range(1, 302))
    assert [row["job_id"] for row in rows[:300]] == ids
    assert all(row["prediction"]["label"] in ("cat", "dog") for row in rows[:300])
    assert (rows[300]["custom_id"], rows[300]["error"]["code"]) == ("notes.txt", "not_an_image")
    assert [row["n"] for row in rows_of(http, address, "?after=298&status=succeeded")] == [299, 300]
    lines = list(csv.DictReader(io.StringIO(http.get(f"{address}/results?format=csv").text)))
    assert [line["file"] for line in lines] == [row["custom_id"] for row in rows]
    assert http.get(f"/v1/jobs/{ids[0]}").json()["file"] == "cats/000.jpg"
    assert body["id"] in [listed["id"] for listed in http.get("/v1/submissions").json()["submissions"]]


class Follower(threading.Thread):
    """Reads the results of a running submission again and again, each time after the last row that it has."""

    def __init__(self, stack: Stack, address: str, place: str, query: str = "") -> None:
        super().__init__(name=f"follows {place}{query}")
        self.stack, self.address, self.place, self.query = stack, address, place, query
        self.pages: list[list[int]] = []

    def run(self) -> None:
        at = 0
        with httpx.Client(base_url=self.stack.url, timeout=120) as http:
            while True:
                finished = http.get(self.address).json()["status"] == "finished"
                rows = rows_of(http, self.address, f"?{self.place}={at}{self.query}")
                if rows:
                    self.pages.append([row["n"] for row in rows])
                    at = rows[-1]["n" if self.place == "after" else "cursor"]
                elif finished:
                    return

    def numbers(self) -> list[int]:
        """The numbers of all rows, once the submission has finished."""
        self.join(120)
        return [n for page in self.pages for n in page]


def test_readers_of_a_running_submission_get_each_result_once(http: httpx.Client, stack: Stack) -> None:
    """The first image takes a second, so the others finish before it."""
    address = open_submission(http)
    followers = [Follower(stack, address, "after"), Follower(stack, address, "cursor")]
    followers.append(Follower(stack, address, "cursor", "&limit=7"))
    for follower in followers:
        follower.start()
    members = {"large.png": draw((7000, 7000)), **images(0, 60)}
    assert http.post(f"{address}/jobs", **as_tar(members)).status_code == 202
    http.post(f"{address}/close")
    assert followers[0].numbers() == list(range(1, 62))
    for follower in followers[1:]:
        assert sorted(follower.numbers()) == list(range(1, 62))
        assert follower.pages[0][0] != 1, "the large image is not the first to finish"


def test_a_corrupt_image_fails_and_the_others_succeed(http: httpx.Client) -> None:
    address = open_submission(http)
    whole = draw((400, 300), form="JPEG")
    http.post(f"{address}/jobs", **as_tar({"a.jpg": whole, "b.jpg": whole[: len(whole) * 6 // 10], "c.jpg": whole}))
    http.post(f"{address}/close")
    assert http.get(address, headers=WAIT).json()["status"] == "finished"
    assert [row["status"] for row in rows_of(http, address)] == ["succeeded", "failed", "succeeded"]


def test_unknown_ids_are_not_found(http: httpx.Client) -> None:
    for submission_id in (new_job_id(), "nope"):
        for path in ("", "/results"):
            response = http.get(f"/v1/submissions/{submission_id}{path}")
            assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_canceling_a_submission_cancels_its_unfinished_jobs(http: httpx.Client) -> None:
    address = open_submission(http)
    assert http.post(f"{address}/jobs", **as_tar(images(0, 200))).status_code == 202
    body = http.delete(address).json()
    assert (body["status"], body["counts"]["queued"], body["counts"]["running"]) == ("canceled", 0, 0)
    assert body["finished_at"]
    statuses = [row["status"] for row in rows_of(http, address)]
    assert len(statuses) == 200
    assert set(statuses) <= {"canceled", "succeeded"}
    assert statuses.count("canceled") == body["counts"]["canceled"]


@pytest.mark.slow
def test_images_refused_by_a_full_queue_can_be_resent(tmp_path: Path) -> None:
    with (
        running_stack(tmp_path, light_worker(), queue_max_jobs=50) as stack,
        httpx.Client(base_url=stack.url, timeout=120) as http,
    ):
        stack.workers[0].stop(signal.SIGTERM)
        members = images(0, 120)
        canceled = open_submission(http)
        full = http.post(f"{canceled}/jobs", **as_tar(members))
        assert (full.status_code, full.json()["code"]) == (429, "queue_full")
        assert (len(full.json()["accepted"]), full.json()["left_from"]) == (50, "cats/050.jpg")
        assert int(full.headers["Retry-After"]) >= 1
        body = http.delete(canceled).json()
        assert (body["status"], body["counts"]["canceled"]) == ("canceled", 50)
        assert body["finished_at"]

        address, left = open_submission(http), dict(members)
        response = http.post(f"{address}/jobs", **as_tar(left))
        assert (response.status_code, len(response.json()["accepted"])) == (429, 50)
        with stack.another_worker(light_worker()) as worker, redis.Redis.from_url(stack.redis_url) as client:
            while response.status_code == 429:
                for item in response.json()["accepted"]:
                    left.pop(item["custom_id"])
                wait_until(lambda: client.zcard(keys.queued(BULK)) < 50, "free space in the queue")
                response = http.post(f"{address}/jobs", **as_tar(left))
            assert response.status_code == 202, response.text
            http.post(f"{address}/close")
            body = http.get(address, headers=WAIT).json()
            assert (body["status"], body["counts"]["succeeded"]) == ("finished", 120), worker.tail()
            assert [row["n"] for row in rows_of(http, address)] == list(range(1, 121))
            folder = stack.folder / "state" / "images"
            wait_until(lambda: not stored_images(folder), "images to be deleted", 30)


def test_hostile_archives_are_rejected_without_using_much_memory(http: httpx.Client, stack: Stack) -> None:
    address = open_submission(http)
    good = {"red.png": draw()}
    cut = tar_of(good)[:700]
    bodies = [(kind, make()) for kind, make, _ in BOMBS.values() if make not in (bomb_tar, deep_zip)]
    bodies += [(TAR, bomb_tar(10)), (ZIP, deep_zip(10))]  # the defaults of these two are within the limits
    bodies += [(TAR, cut), (ZIP, cut), (ZIP, zip_of(good)[:-9]), (TAR, b""), (ZIP, b"x" * 100_000)]
    with MemoryWatch(stack) as memory:
        for kind, data in bodies:
            response = http.post(f"{address}/jobs", content=data, headers={"Content-Type": kind})
            assert response.status_code in (400, 413), (kind, data[:40], response.text[:300])
            assert response.headers["Content-Type"] == "application/problem+json"
        for data in (encrypted(zip_of(good)), zip_of({"in.zip": zip_of(good), "../out.png": draw()})):
            response = http.post(f"{address}/jobs", content=data, headers={"Content-Type": ZIP})
            assert (response.status_code, response.json()["accepted"]) == (202, [])
    assert memory.growth < 60_000_000
    assert http.delete(address).json()["status"] == "canceled"


def test_a_long_tar_is_streamed(http: httpx.Client, stack: Stack) -> None:
    """The gateway never holds more than a small part of the 200 MB in memory."""
    address = open_submission(http)
    member = tar_of({"large.bin": b"not an image" + bytes(10_000_000)})[: -1024 * 10]

    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield member
        yield bytes(1024)

    http.post(f"{address}/jobs", content=tar_of({"warm.bin": bytes(10_000_000)}), headers={"Content-Type": TAR})
    with MemoryWatch(stack) as memory:
        response = http.post(f"{address}/jobs", content=endless(), headers={"Content-Type": TAR})
    assert response.status_code == 202, response.text[:500]
    assert {item["code"] for item in response.json()["rejected"]} == {"not_an_image"}
    assert memory.growth < 60_000_000
