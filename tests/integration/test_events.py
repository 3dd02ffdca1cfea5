"""Event streams of a real gateway: they show what workers do, and they end when the gateway stops."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.archives import tar_of
from tests.support.images import draw
from tests.support.services import Stack, light_worker, running_stack, wait_until


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Running services with a trivial model."""
    with running_stack(tmp_path_factory.mktemp("light"), light_worker()) as stack:
        yield stack


@pytest.fixture
def http(light: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=light.url, timeout=60) as client:
        yield client


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events of a response as they arrive: (name, data)."""
    name = ""
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_a_job_is_followed_until_a_worker_has_finished_it(http: httpx.Client) -> None:
    path = http.post("/v1/jobs", content=draw()).headers["Location"]
    with http.stream("GET", f"{path}/events") as response:
        seen = list(events(response))
    name, job = seen[-1]
    assert (name, job["status"]) == ("finished", "succeeded")
    assert job == http.get(path).json()


def test_the_progress_of_a_submission_grows_to_its_end(http: httpx.Client) -> None:
    path = http.post("/v1/submissions", json={}).headers["Location"]
    images = {f"{n}.png": draw(color=(n, 0, 0)) for n in range(200)}
    with http.stream("GET", f"{path}/events") as response:
        found = events(response)
        assert next(found)[1]["counts"]["total"] == 0
        http.post(f"{path}/jobs", content=tar_of(images), headers={"Content-Type": "application/x-tar"})
        http.post(f"{path}/close")
        seen = list(found)
    assert [name for name, _ in seen[:-1]] == ["progress"] * (len(seen) - 1)
    finished = [data["counts"]["succeeded"] for _, data in seen]
    assert finished == sorted(finished)
    assert (seen[-1][0], finished[-1]) == ("finished", 200)


def test_streams_end_when_their_gateway_stops(light: Stack, tmp_path: Path) -> None:
    with light.another_gateway() as gateway:
        path = httpx.post(f"{gateway.url}/v1/submissions", json={}, timeout=60).headers["Location"]
        texts: list[str] = []

        def read() -> None:
            with httpx.stream("GET", f"{gateway.url}{path}/events", timeout=60) as response:
                texts.extend(response.iter_text())

        readers = [threading.Thread(target=read) for _ in range(20)]
        for reader in readers:
            reader.start()
        wait_until(lambda: "pawqueue_event_streams 20.0" in httpx.get(gateway.metrics_url).text, "20 streams")
        began_s = time.monotonic()
        assert gateway.process.stop() == 0
        assert time.monotonic() - began_s < 25, "it waited for PAWQUEUE_DRAIN_S"
        for reader in readers:
            reader.join()
    assert sum(text.count("event: progress") for text in texts) == 20
    delays_ms = {line for line in "".join(texts).splitlines() if line.startswith("retry:")}
    assert len(delays_ms) > 5, "the clients would reconnect at the same time"
