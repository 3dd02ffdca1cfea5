"""Promises are kept whatever dies."""

from pathlib import Path

import httpx
import pytest

from tests.chaos.cluster import FAULT_POINTS, Cluster
from tests.chaos.report import as_table
from tests.chaos.run import SHORT, run
from tests.support.pictures import draw
from tests.support.services import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_no_promise_is_broken_while_everything_dies(tmp_path: Path) -> None:
    report, wrong = run(SHORT, tmp_path)
    assert not wrong, as_table(report)


def served(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health").json()["model_loaded"])
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_a_worker_that_dies_at_a_fault_point_loses_nothing(point: str, tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_PRECISION": "float32"}
    with Cluster(tmp_path, workers=1, settings=settings, points=[point]) as cluster:
        wait_until(lambda: served(cluster.url), "a model being served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            data = draw((60, 40), form="JPEG")
            addresses = [http.post("/v1/jobs", files={"file": ("x", data)}).headers["Location"] for _ in range(10)]
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
        assert cluster.faults_reached == [point]
        assert {job["status"] for job in jobs} == {"succeeded"}


def test_a_picture_that_kills_its_worker_is_found_and_its_mates_succeed(tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_PRECISION": "float32"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["deadly_picture"]) as cluster:
        wait_until(lambda: served(cluster.url), "a model being served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            pictures = [draw()] * 4 + [draw(color=(255, 0, 255))] + [draw()] * 4
            addresses = [http.post("/v1/jobs", files={"file": ("x", data)}).headers["Location"] for data in pictures]
            wait_until(lambda: len(http.get("/v1/dead").json()["jobs"]) == 1, "the killer being given up", 120)
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
            (dead,) = http.get("/v1/dead").json()["jobs"]
        killer = jobs.pop(4)
        assert killer["id"] == dead["id"]
        assert (killer["status"], killer["error"]["code"], killer["attempts"]) == ("failed", "worker_lost", 3)
        assert {job["status"] for job in jobs} == {"succeeded"}
