"""Measures how the service handles an outage of Redis: `python -m tests.chaos.outages SECONDS`."""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from contract.job import new_job_id
from tests.chaos.cluster import Cluster
from tests.support.images import draw
from tests.support.services import wait_until

_IMAGE = draw((60, 40), form="JPEG")


@dataclass(frozen=True)
class Outage:
    """The measurements of an outage, in seconds."""

    #: Longest time until the gateway refused an upload.
    longest_refusal_s: float
    #: From the end of the outage until an upload was accepted.
    accepted_after_s: float
    #: From the end of the outage until its job was finished.
    finished_after_s: float


def put(http: httpx.Client, job_id: str) -> httpx.Response:
    """Upload an image with the given job id."""
    return http.put(f"/v1/jobs/{job_id}", files={"file": ("x.jpg", _IMAGE)})


def watch_outage(http: httpx.Client, begin: Callable[[], None], end: Callable[[], None], length_s: float) -> Outage:
    """Cause an outage with `begin`, end it with `end` after `length_s`, and measure what a client sees."""
    begin()
    began_s, longest_s, job_id = time.monotonic(), 0.0, new_job_id()
    while time.monotonic() < began_s + length_s:
        sent_s = time.monotonic()
        response = put(http, job_id)
        longest_s = max(longest_s, time.monotonic() - sent_s)
        assert response.status_code == 503, response.text
        assert int(response.headers["Retry-After"]) >= 1
        time.sleep(0.1)
    end()
    ended_s = time.monotonic()
    wait_until(lambda: put(http, job_id).status_code in (200, 202), "an upload to be accepted", 60)
    accepted_s = time.monotonic()
    wait_until(lambda: _status(http, job_id) == "succeeded", "the job to be finished", 120)
    return Outage(longest_s, accepted_s - ended_s, time.monotonic() - ended_s)


def _status(http: httpx.Client, job_id: str) -> str:
    response = http.get(f"/v1/jobs/{job_id}")
    return str(response.json()["status"]) if response.status_code == 200 else ""


def main() -> None:
    """Measure an outage after killing Redis, and one after cutting the connection."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outages", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=10.0, help="duration of each outage (default 10)")
    length_s = parser.parse_args().seconds
    with (
        tempfile.TemporaryDirectory(prefix="pawqueue-outage-") as name,
        Cluster(Path(name), 1, {}, points=[]) as cluster,
        httpx.Client(base_url=cluster.url, timeout=60) as http,
    ):
        wait_until(lambda: bool(cluster.serving()), "a worker to start serving")
        print("killed  ", watch_outage(http, cluster.redis.take_down, cluster.redis.bring_up, length_s))
        print("cut off ", watch_outage(http, cluster.proxy.cut, cluster.proxy.restore, length_s))


if __name__ == "__main__":
    main()
