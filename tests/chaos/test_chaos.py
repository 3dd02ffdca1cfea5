"""Promises are kept whatever dies."""

import random
from pathlib import Path

import httpx
import pytest

from tests.chaos.clients import Clients
from tests.chaos.cluster import FAULT_POINTS, Cluster
from tests.chaos.harm import Harm, Plan
from tests.chaos.report import as_table
from tests.chaos.run import SHORT, run
from tests.support.images import draw
from tests.support.services import wait_until

pytestmark = pytest.mark.timeout(400)


def test_no_promise_is_broken_while_everything_dies(tmp_path: Path) -> None:
    report, wrong = run(SHORT, tmp_path)
    assert not wrong, as_table(report)


def served(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health").json()["model_loaded"])
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("point", FAULT_POINTS)
def test_a_worker_that_dies_at_a_fault_point_loses_nothing(point: str, tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2"}
    with Cluster(tmp_path, workers=1, settings=settings, points=[point], light=True) as cluster:
        wait_until(lambda: served(cluster.url), "a model being served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            data = draw((60, 40), form="JPEG")
            addresses = [http.post("/v1/jobs", files={"file": ("x", data)}).headers["Location"] for _ in range(10)]
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
        assert cluster.faults_reached == [point]
        assert {job["status"] for job in jobs} == {"succeeded"}


@pytest.mark.slow
def test_a_worker_whose_model_hangs_is_replaced_and_its_jobs_go_elsewhere(tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_PREDICT_LIMIT_S": "3"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["hang_in_predict"], light=True) as cluster:
        wait_until(lambda: bool(cluster.serving()), "a worker serving")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            addresses = [http.post("/v1/jobs", files={"file": ("x", draw())}).headers["Location"] for _ in range(10)]
            wait_until(lambda: cluster.workers[0].starts == 2, "the process being replaced")
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
        assert {job["status"] for job in jobs} == {"succeeded"}
        assert "worker_hangs" in (tmp_path / "worker-0.log").read_text()


@pytest.mark.slow
def test_the_jobs_of_a_killed_worker_are_in_work_again_with_another(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=2, settings={}, points=[]) as cluster:
        wait_until(lambda: len(cluster.serving()) == 2, "two workers serving", 180)
        clients = Clients(cluster.url, jobs=400, threads=8)
        clients.allow(400)
        harm = Harm(Plan(lease_s=10, sweep_s=2), cluster, clients)
        clients.start()
        harm.kill_a_worker(random.Random(1))
        harm.watch_to_the_end()
        clients.join(120)
    print(f"in work again after {harm.recoveries_s} s")
    assert len(harm.recoveries_s) == 1
    assert harm.recoveries_s[0] < 30  # 15 s on a machine that is not busy with other things


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_found_and_its_mates_succeed(tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["deadly_image"], light=True) as cluster:
        wait_until(lambda: served(cluster.url), "a model being served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            images = [draw()] * 4 + [draw(color=(255, 0, 255))] + [draw()] * 4
            addresses = [http.post("/v1/jobs", files={"file": ("x", data)}).headers["Location"] for data in images]
            wait_until(lambda: len(http.get("/v1/dead").json()["jobs"]) == 1, "the killer being given up", 120)
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
            (dead,) = http.get("/v1/dead").json()["jobs"]
        killer = jobs.pop(4)
        assert killer["id"] == dead["id"]
        assert (killer["status"], killer["error"]["code"], killer["attempts"]) == ("failed", "worker_lost", 3)
        assert {job["status"] for job in jobs} == {"succeeded"}
