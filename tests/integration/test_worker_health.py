"""The health checks of a worker process that is draining, and of one that hangs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from contract.job import new_job_id
from tests.chaos.cluster import Cluster
from tests.chaos.outages import put
from tests.support.services import free_port, responds, wait_until


@contextmanager
def worker_holding_a_job(folder: Path, point: str, **settings: str) -> Iterator[tuple[Cluster, httpx.Client, str]]:
    """Start a worker that stops at a fault point with a job; yields the cluster, a client, and the path of the job."""
    settings |= {"PAWQUEUE_WORKER_METRICS_PORT": str(free_port())}
    with (
        Cluster(folder, 1, settings, points=[point], light=True) as cluster,
        httpx.Client(base_url=cluster.url, timeout=60) as http,
    ):
        wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 200, "the worker to be ready")
        name, state = cluster.get_from_worker("/readyz")[1].removeprefix("ok\n").split()
        assert "@" in name
        assert state == "ready"
        wait_until(lambda: responds(f"{cluster.url}/readyz"), "the gateway to be ready")
        job_id = new_job_id()
        assert put(http, job_id).status_code == 202
        wait_until(lambda: http.get(f"/v1/jobs/{job_id}").json()["status"] == "running", "the job to be claimed")
        yield cluster, http, f"/v1/jobs/{job_id}"


def test_a_draining_worker_is_alive_but_not_ready_and_finishes_its_jobs(tmp_path: Path) -> None:
    with worker_holding_a_job(tmp_path, "held_in_predict") as (cluster, http, path):
        os.kill(cluster.workers[0].pid, signal.SIGTERM)
        wait_until(lambda: cluster.get_from_worker("/readyz")[0] != 200, "the worker to report that it is stopping")
        status, text = cluster.get_from_worker("/readyz")
        assert status == 503
        assert "stopping" in text
        assert cluster.get_from_worker("/healthz") == (200, "ok\n")
        cluster.release("held_in_predict")
        job = http.get(path, headers={"Prefer": "wait=50"}).json()
        assert (job["status"], job["attempts"]) == ("succeeded", 1)


def test_a_worker_that_hangs_is_neither_alive_nor_ready(tmp_path: Path) -> None:
    limits = {"PAWQUEUE_PREDICT_LIMIT_S": "1", "PAWQUEUE_DRAIN_S": "0.1"}
    with worker_holding_a_job(tmp_path, "hang_unwatched", **limits) as (cluster, _, _):
        wait_until(lambda: cluster.get_from_worker("/healthz")[0] == 503, "the worker to report that it hangs")
        for path in ("/healthz", "/readyz"):
            status, text = cluster.get_from_worker(path)
            assert status == 503
            assert "model call" in text
