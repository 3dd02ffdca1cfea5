"""`up` on a disk that is full for a while: no service gives up, and every accepted job gets its result."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from contract.ledger.connection import connect
from contract.settings import load_settings
from tests.local.test_up import Up, running_up
from tests.support.services import ROOT, wait_until
from tests.support.small_disk import SmallDisk, small_disk

IMAGE = (ROOT / "examples" / "photos" / "cat.jpg").read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 20_000) as disk:
        yield disk


def _post(up: Up) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{up.url}/v1/jobs", IMAGE, {"Content-Type": "image/jpeg"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _accepts(up: Up, accepted: list[str]) -> bool:
    status, answer = _post(up)
    if status == 202:
        accepted.append(answer["id"])
    return status == 202


def _fail_a_write_of_redis(up: Up) -> None:
    """Redis then exits immediately, instead of at the worker's next heartbeat that does not fit."""
    with connect(load_settings(up.environ).redis_address()) as client, suppress(redis.ConnectionError):
        client.set("tests:large", bytes(100_000))


def _redis_waits(up: Up) -> bool:
    for process in up.processes():
        with suppress(psutil.NoSuchProcess):
            if "space-check" in " ".join(process.cmdline()):
                return True
    return False


def _status(up: Up, job_id: str) -> str:
    with urllib.request.urlopen(f"{up.url}/v1/jobs/{job_id}", timeout=10) as answer:
        return str(json.load(answer)["status"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_services_survive_a_full_disk_and_finish_every_accepted_job(disk: SmallDisk, tmp_path: Path) -> None:
    with running_up(disk.path / "state", disk.path / "output") as up:
        worker = up.services()["worker"]
        worker.suspend()  # the jobs are still unfinished when the disk is full
        accepted = [answer["id"] for status, answer in (_post(up) for _ in range(20)) if status == 202]
        assert len(accepted) == 20
        disk.fill()
        assert _post(up)[0] == 503
        _fail_a_write_of_redis(up)
        worker.resume()
        wait_until(lambda: _redis_waits(up), "Redis waiting for space", 30)
        for _ in range(10):
            status, answer = _post(up)
            assert (status, answer["detail"]) == (
                503,
                "The image store is not writable (No space left on device). Try again later.",
            )

        disk.make_room()
        wait_until(lambda: _accepts(up, accepted), "An upload being accepted", 30)
        wait_until(lambda: all(_status(up, job_id) == "succeeded" for job_id in accepted), "All results", 60)
        assert up.process.poll() is None
        assert up.services()["worker"] == worker
