"""A large backlog of bulk jobs delays an interactive upload by at most two batches."""

import statistics
import time
from pathlib import Path

import httpx
import pytest
import redis

from contract.broker import BULK, MESSAGE_MAX_JOBS, make_celery, publish
from contract.images.store import open_image_store
from contract.job import Job, new_job_id, now_ms
from contract.ledger import keys
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Submit
from tests.support.images import encode
from tests.support.services import Stack, running_stack, wait_until

_BACKLOG = 50_000
_BATCH = 32
_UPLOADS = 25


def small_image() -> bytes:
    """About 7 kB of JPEG."""
    from PIL import Image

    return encode(Image.effect_noise((120, 100), 60).convert("RGB"), "JPEG", quality=80)


def fill(stack: Stack, count: int, data: bytes) -> None:
    """Queue bulk jobs with their images and messages, as the gateway does."""
    ledger, celery = Ledger(connect(stack.redis_url)), make_celery(stack.redis_url)
    images, limits = open_image_store(str(stack.folder / "state" / "images"), 86_400), QueueLimits(10**9, 10**15)
    for _ in range(0, count, MESSAGE_MAX_JOBS):
        jobs = [
            Job(new_job_id(), BULK, now_ms(), size_bytes=len(data), image=images.put(data))
            for _ in range(MESSAGE_MAX_JOBS)
        ]
        ledger.submit([Submit(job) for job in jobs], limits)
        publish(celery, BULK, [job.id for job in jobs])


def bulk_finished(client: "redis.Redis") -> int:
    totals = client.hgetall(keys.TOTALS)
    return sum(int(count) for name, count in totals.items() if name.decode().startswith(BULK))


def measure_uploads(http: httpx.Client, client: "redis.Redis", data: bytes) -> tuple[float, float]:
    """Upload repeatedly; returns medians: milliseconds until the result, and bulk jobs that finished meanwhile."""
    took_ms, passed = [], []
    for _ in range(_UPLOADS):
        before, began_s = bulk_finished(client), time.perf_counter()
        answer = http.post("/v1/jobs", content=data, headers={"Prefer": "wait=50"}).json()
        took_ms.append((time.perf_counter() - began_s) * 1000)
        passed.append(bulk_finished(client) - before)
        assert answer["status"] == "succeeded"
    return statistics.median(took_ms), statistics.median(passed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interactive_jobs_overtake_a_backlog_of_bulk_jobs(tmp_path: Path) -> None:
    data = small_image()
    assert 5_000 < len(data) < 9_000
    with (
        running_stack(tmp_path, log_level="warning") as stack,
        redis.Redis.from_url(stack.redis_url) as client,
        httpx.Client(base_url=stack.url, timeout=60) as http,
    ):
        client.config_set("appendfsync", "everysec")  # filling the queue does not need to wait for the disk
        idle_ms, _ = measure_uploads(http, client, data)
        fill(stack, _BACKLOG, data)
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
    # Counted in jobs rather than seconds, so that the load of the machine does not matter. The upload waits for two
    # batches and then shares one.
    assert passed <= 3 * _BATCH
