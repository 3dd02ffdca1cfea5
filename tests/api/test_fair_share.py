"""How a flood through one API key affects another key: measured and printed as a table."""

import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.images import draw
from tests.support.services import Gateway, running_stack, wait_until

_UPLOADS = 15
_FLOODERS = 12
#: Cheap to send and expensive to decode, so that the flood outruns the worker on any machine.
_IMAGE = draw((1600, 1200), form="PNG")


@dataclass
class Measured:
    """The responses and times of one key."""

    statuses: Counter[int] = field(default_factory=Counter)
    #: Seconds to the 202, and from there to the result.
    accepted_s: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        taken = self.statuses[202] / max(1, self.statuses.total())
        accepted, waited = (statistics.median(values) for values in (self.accepted_s, self.waited_s))
        return f"{name:32} {taken:8.0%} {accepted * 1000:10.0f} ms {waited:8.2f} s {max(self.waited_s):8.2f} s"


def upload(url: str, key: str, queue: str, count: int) -> Measured:
    """Upload images one after another, and wait for each result."""
    seen = Measured()
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=120) as http:
        for _ in range(count):
            start_s = time.monotonic()
            answer = http.post("/v1/jobs", content=_IMAGE, params={"queue": queue})
            seen.statuses[answer.status_code] += 1
            seen.accepted_s.append(time.monotonic() - start_s)
            address, start_s = answer.headers.get("Location"), time.monotonic()
            while address and is_pending(http, address):
                pass
            seen.waited_s.append(time.monotonic() - start_s)
    return seen


def is_pending(http: httpx.Client, address: str) -> bool:
    return http.get(address, headers={"Prefer": "wait=60"}).json()["status"] in ("queued", "running")


def flood(url: str, key: str, queue: str, stop: threading.Event, statuses: Counter[int]) -> None:
    """Upload images until stopped, whatever the responses."""
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as http:
        while not stop.is_set():
            statuses[http.post("/v1/jobs", content=_IMAGE, params={"queue": queue}).status_code] += 1


def under_flood(gateway: Gateway, flooder: str, other: str, flooded: str, queue: str) -> tuple[Measured, Counter[int]]:
    stop, statuses = threading.Event(), Counter[int]()
    arguments = (gateway.url, flooder, flooded, stop, statuses)
    threads = [threading.Thread(target=flood, args=arguments) for _ in range(_FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: statuses[429] > 0, "the flood filling its share", 120)
        return upload(gateway.url, other, queue, _UPLOADS), statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_flood_through_one_key_does_not_shut_out_another(tmp_path: Path) -> None:
    with running_stack(tmp_path, access="required", queue_max_jobs=60) as stack:
        gateway = Gateway(stack.url, stack.gateway, stack.environ)
        flooder, other = gateway.make_key(), gateway.make_key()
        alone = upload(stack.url, other, "interactive", _UPLOADS)
        same, flooded = under_flood(gateway, flooder, other, "interactive", "interactive")
        beside, _ = under_flood(gateway, flooder, other, "bulk", "interactive")
    print(f"\n{'uploads of the other key':32} {'accepted':>8} {'202 after':>13} {'result after':>12} {'slowest':>10}")
    print(alone.row("without a flood"))
    print(same.row("flood in the same queue"))
    print(beside.row("flood in the bulk queue"))
    print(f"the flood itself: {dict(flooded)}")
    for seen in (alone, same, beside):
        assert seen.statuses == {202: _UPLOADS}
    assert flooded[429] > 0
