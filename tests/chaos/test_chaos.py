"""No accepted job is lost when services fail."""

import random
from pathlib import Path

import httpx
import pytest

from tests.chaos.clients import Clients
from tests.chaos.cluster import FAULT_POINTS, Cluster
from tests.chaos.faults import FaultInjector, Plan
from tests.chaos.report import as_table
from tests.chaos.run import SHORT, run
from tests.support.images import draw
from tests.support.services import serves_model, wait_until

pytestmark = pytest.mark.timeout(400)


def test_every_accepted_job_finishes_once_while_services_fail(tmp_path: Path) -> None:
    report, failed = run(SHORT, tmp_path)
    assert not failed, as_table(report)


@pytest.mark.slow
@pytest.mark.parametrize("point", FAULT_POINTS)
def test_no_job_is_lost_when_a_worker_dies_at_a_fault_point(point: str, tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2"}
    with Cluster(tmp_path, workers=1, settings=settings, points=[point], light=True) as cluster:
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            data = draw((60, 40), form="JPEG")
            addresses = [http.post("/v1/jobs", files={"file": ("x", data)}).headers["Location"] for _ in range(10)]
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
        assert cluster.faults_reached == [point]
        assert {job["status"] for job in jobs} == {"succeeded"}


@pytest.mark.slow
def test_a_worker_with_a_hanging_model_is_restarted_and_its_jobs_succeed(tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_PREDICT_LIMIT_S": "3"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["hang_in_predict"], light=True) as cluster:
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            addresses = [http.post("/v1/jobs", files={"file": ("x", draw())}).headers["Location"] for _ in range(10)]
            wait_until(lambda: cluster.workers[0].starts == 2, "the worker to be restarted")
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
        assert {job["status"] for job in jobs} == {"succeeded"}
        assert "worker_hangs" in (tmp_path / "worker-0.log").read_text()


@pytest.mark.slow
def test_another_worker_takes_over_the_jobs_of_a_killed_worker(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=2, settings={}, points=[]) as cluster:
        wait_until(lambda: len(cluster.serving()) == 2, "two workers to start serving", 180)
        clients = Clients(cluster.url, jobs=400, threads=8)
        clients.allow(400)
        injector = FaultInjector(Plan(lease_s=10, sweep_s=2), cluster, clients)
        clients.start()
        injector.kill_a_worker(random.Random(1))
        injector.wait_for_recoveries()
        clients.join(120)
    print(f"taken over after {injector.recoveries_s} s")
    assert len(injector.recoveries_s) == 1
    assert injector.recoveries_s[0] < 30  # at most 15 s on an idle machine


@pytest.mark.slow
def test_an_image_that_kills_its_worker_fails_and_the_rest_of_its_batch_succeeds(tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["deadly_image"], light=True) as cluster:
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            images = [draw()] * 4 + [draw(color=(255, 0, 255))] + [draw()] * 4
            addresses = [http.post("/v1/jobs", files={"file": ("x", data)}).headers["Location"] for data in images]
            wait_until(
                lambda: len(http.get("/v1/dead").json()["jobs"]) == 1, "the deadly image to become a dead letter", 120
            )
            jobs = [http.get(address, headers={"Prefer": "wait=50"}).json() for address in addresses]
            (dead,) = http.get("/v1/dead").json()["jobs"]
        deadly = jobs.pop(4)
        assert deadly["id"] == dead["id"]
        assert (deadly["status"], deadly["error"]["code"], deadly["attempts"]) == ("failed", "worker_lost", 3)
        assert {job["status"] for job in jobs} == {"succeeded"}
