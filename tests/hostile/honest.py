"""An honest client and health checks, in a process of their own: what attackers do there must not slow them down."""

import multiprocessing
import os
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import httpx

from contract.job import new_job_id
from tests.hostile.target import Target
from tests.support.images import draw

_PER_S = 10
_POLL_S = 0.1
#: An image that is not accepted, or has no result, after this time is lost.
_LOST_AFTER_S = 120.0


@dataclass(frozen=True)
class Sample:
    """One image of the honest client, or one health check."""

    #: `time.monotonic()` when it was due.
    at_s: float
    #: Until its result, or until the service was healthy.
    took_s: float
    #: The final status of the job; empty for a health check.
    status: str = ""


@dataclass
class Measured:
    """What the honest client and the health checks measured."""

    images: list[Sample] = field(default_factory=list)
    #: By service; those of "machine" are how late this process itself was woken up, because others used the cores.
    health: dict[str, list[Sample]] = field(default_factory=dict)

    def waits_s(self, start_s: float, end_s: float) -> list[float]:
        """How long the images that were sent in this period waited for their results, sorted."""
        return sorted(sample.took_s for sample in self.images if start_s <= sample.at_s < end_s)

    def stall_s(self, service: str, start_s: float, end_s: float) -> float:
        """The longest time for which a service did not respond to a health check of this period."""
        polls = self.health[service]
        return max((poll.took_s for poll in polls if start_s <= poll.at_s < end_s), default=0.0)

    @property
    def lost(self) -> list[Sample]:
        """The images that have no prediction."""
        return [sample for sample in self.images if sample.status != "succeeded"]


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which this share lies; NaN if there are no values."""
    return (
        sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))] if sorted_values else float("nan")
    )


@contextmanager
def measuring(target: Target) -> Iterator[Measured]:
    """Send images and check health until the context exits; then the yielded object is filled."""
    spawn = multiprocessing.get_context("spawn")
    stopping, (ours, theirs) = spawn.Event(), spawn.Pipe()
    process = spawn.Process(target=_measure, args=(target, stopping, theirs), daemon=True)
    process.start()
    theirs.close()
    measured = Measured()
    try:
        ours.recv()  # it has sent its first image
        yield measured
    finally:
        stopping.set()
        with suppress(EOFError):
            result = ours.recv()
            measured.images, measured.health = result.images, result.health
        process.join()


def _measure(target: Target, stopping: Event, results: Connection) -> None:
    os.setsid()  # so that a lower priority of the attackers' session does not apply here
    measured = Measured(health={"gateway": [], "dashboard": [], "machine": []})
    pollers = [
        threading.Thread(
            target=_poll, args=(f"{url}/healthz", measured.health[name], measured.health["machine"], stopping)
        )
        for name, url in (("gateway", target.url), ("dashboard", target.dashboard_url))
    ]
    client = httpx.Client(
        base_url=target.url,
        timeout=60,
        headers={"X-API-Key": target.honest_key},
        limits=httpx.Limits(max_connections=20),
    )
    with client as http, ThreadPoolExecutor(20) as pool:
        _classify(http, time.monotonic())  # connects, and waits for the first, slower prediction
        results.send("started")
        for poller in pollers:
            poller.start()
        due_s, sent = time.monotonic(), []
        while not stopping.wait(max(0.0, due_s - time.monotonic())):
            sent.append(pool.submit(_classify, http, due_s))
            due_s += 1 / _PER_S
        measured.images = [future.result() for future in sent]
    for poller in pollers:
        poller.join()
    results.send(measured)


def _classify(http: httpx.Client, due_s: float) -> Sample:
    """Send an image until it is accepted, and wait for its result."""
    address, image, status = f"/v1/jobs/{new_job_id()}", draw((160, 120), form="JPEG"), "never accepted"
    while time.monotonic() < due_s + _LOST_AFTER_S:
        try:
            response = http.put(address, content=image, headers={"Prefer": "wait=30"})
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if response.status_code == 200:
            status = str(response.json()["status"])
            break
        status = f"{response.status_code}"
        if response.status_code in (429, 503):
            time.sleep(float(response.headers["Retry-After"]))
        elif response.status_code != 202:
            break
    return Sample(due_s, time.monotonic() - due_s, status)


def _poll(url: str, samples: list[Sample], late: list[Sample], stopping: Event) -> None:
    due_s = time.monotonic() + _POLL_S
    while not stopping.wait(_POLL_S):
        start_s = time.monotonic()
        late.append(Sample(due_s, start_s - due_s))
        while not _is_healthy(url) and not stopping.wait(_POLL_S):
            pass
        samples.append(Sample(start_s, time.monotonic() - start_s))
        due_s = time.monotonic() + _POLL_S


def _is_healthy(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=30) as response:
        return bool(response.status == 200)
    return False
