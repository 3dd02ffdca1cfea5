"""A large backlog of bulk jobs delays an interactive upload by at most two batches."""

import statistics
import time
from pathlib import Path

import httpx
import pytest
import redis

from benchmarks.image import small_image
from benchmarks.service import fill_queue
from contract.ledger import keys
from contract.queues import BULK
from tests.support.services import running_stack, wait_until

_BACKLOG = 50_000
_BATCH = 32
_UPLOADS = 25


def bulk_finished(client: "redis.Redis") -> int:
    totals = client.hgetall(keys.TOTALS)
    return sum(int(count) for name, count in totals.items() if name.decode().startswith(BULK))


def measure_uploads(http: httpx.Client, client: "redis.Redis", data: bytes) -> tuple[float, float]:
    """Upload repeatedly; returns two medians: milliseconds until the result, and bulk jobs finished meanwhile."""
    took_ms, passed = [], []
    for _ in range(_UPLOADS):
        before, began_s = bulk_finished(client), time.perf_counter()
        job = http.post("/v1/jobs", content=data, headers={"Prefer": "wait=50"}).json()
        took_ms.append((time.perf_counter() - began_s) * 1000)
        passed.append(bulk_finished(client) - before)
        assert job["status"] == "succeeded"
    return statistics.median(took_ms), statistics.median(passed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interactive_jobs_overtake_a_backlog_of_bulk_jobs(tmp_path: Path) -> None:
    data = small_image()
    with (
        running_stack(tmp_path, log_level="warning") as stack,
        redis.Redis.from_url(stack.redis_url) as client,
        httpx.Client(base_url=stack.url, timeout=60) as http,
    ):
        client.config_set("appendfsync", "everysec")  # filling the queue does not need to wait for the disk
        idle_ms, _ = measure_uploads(http, client, data)
        fill_queue(stack.redis_url, stack.folder / "state", BULK, _BACKLOG, data)
        wait_until(lambda: bulk_finished(client) > 10 * _BATCH, "progress on the backlog", 120)
        before, began_s = bulk_finished(client), time.perf_counter()
        busy_ms, passed = measure_uploads(http, client, data)
        batch_ms = 1000 * _BATCH * (time.perf_counter() - began_s) / (bulk_finished(client) - before)
        left = int(client.zcard(keys.queued(BULK)))
    print(
        f"\nmedian {idle_ms:.0f} ms idle, {busy_ms:.0f} ms behind {left} bulk jobs: "
        f"{(busy_ms - idle_ms) / batch_ms:.2f} batches of {batch_ms:.0f} ms more; {passed:g} bulk jobs finished"
    )
    assert left > _BACKLOG / 4
    # Counted in jobs rather than seconds, because the seconds depend on the load of the machine. The upload waits for
    # two batches and then shares one.
    assert passed <= 3 * _BATCH
