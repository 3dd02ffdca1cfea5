"""Measures how a flood of uploads with one API key affects another key, and prints a table."""

import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.images import draw
from tests.support.services import Gateway, light_worker, running_stack, wait_until

_UPLOADS = 15
_FLOODERS = 12
#: Cheap to send and expensive to decode: the worker cannot keep up with the flood on any machine.
_IMAGE = draw((1600, 1200), form="PNG")


@dataclass
class Measured:
    """The responses that one key received, and how long they took."""

    statuses: Counter[int] = field(default_factory=Counter)
    #: Seconds until the 202 response, and from then until the result.
    accepted_s: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        accepted = self.statuses[202] / max(1, self.statuses.total())
        accepted_s, waited_s = (statistics.median(values) for values in (self.accepted_s, self.waited_s))
        return f"{name:32} {accepted:8.0%} {accepted_s * 1000:10.0f} ms {waited_s:8.2f} s {max(self.waited_s):8.2f} s"


def upload(url: str, key: str, queue: str, count: int) -> Measured:
    """Upload images one after another, and wait for each result."""
    measured = Measured()
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=120) as http:
        for _ in range(count):
            start_s = time.monotonic()
            response = http.post("/v1/jobs", content=_IMAGE, params={"queue": queue})
            measured.statuses[response.status_code] += 1
            measured.accepted_s.append(time.monotonic() - start_s)
            job_url, start_s = response.headers.get("Location"), time.monotonic()
            while job_url and is_pending(http, job_url):
                pass
            measured.waited_s.append(time.monotonic() - start_s)
    return measured


def is_pending(http: httpx.Client, job_url: str) -> bool:
    return http.get(job_url, headers={"Prefer": "wait=60"}).json()["status"] in ("queued", "running")


def flood(url: str, key: str, queue: str, stop: threading.Event, statuses: Counter[int]) -> None:
    """Upload images until stopped, and count the responses by status."""
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as http:
        while not stop.is_set():
            statuses[http.post("/v1/jobs", content=_IMAGE, params={"queue": queue}).status_code] += 1


def under_flood(gateway: Gateway, flooder: str, other: str, flooded: str, queue: str) -> tuple[Measured, Counter[int]]:
    """Upload with the key `other` to `queue` while the key `flooder` floods the queue `flooded`."""
    stop, statuses = threading.Event(), Counter[int]()
    arguments = (gateway.url, flooder, flooded, stop, statuses)
    threads = [threading.Thread(target=flood, args=arguments) for _ in range(_FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: statuses[429] > 0, "the flood to fill its share", 120)
        return upload(gateway.url, other, queue, _UPLOADS), statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_flood_of_uploads_with_one_api_key_does_not_block_another_key(tmp_path: Path) -> None:
    with running_stack(tmp_path, light_worker(), access="required", queue_max_jobs=60) as stack:
        gateway = Gateway(stack.url, stack.gateway, stack.environ)
        flooder, other = gateway.make_key(), gateway.make_key()
        alone = upload(stack.url, other, "interactive", _UPLOADS)
        same, flooded = under_flood(gateway, flooder, other, "interactive", "interactive")
        other_queue, _ = under_flood(gateway, flooder, other, "bulk", "interactive")
    print(f"\n{'uploads of the other key':32} {'accepted':>8} {'202 after':>13} {'result after':>12} {'slowest':>10}")
    print(alone.row("without a flood"))
    print(same.row("flood in the same queue"))
    print(other_queue.row("flood in the bulk queue"))
    print(f"the flood itself: {dict(flooded)}")
    for measured in (alone, same, other_queue):
        assert measured.statuses == {202: _UPLOADS}
    assert flooded[429] > 0
