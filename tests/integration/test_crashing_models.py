"""A model that crashes its workers does not take down the others."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.cluster import Cluster
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import serves_model, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def problem_of(http: httpx.Client) -> str:
    """Why a model is not loaded, according to the status; empty if all are."""
    problems = {problem["code"]: problem["detail"] for problem in http.get("/v1/status").json()["problems"]}
    return str(problems.get("model_not_loaded", ""))


@pytest.mark.parametrize("point", ["deadly_load", "deadly_predict"])
def test_a_model_that_crashes_its_worker_is_paused_and_its_job_waits(point: str, tmp_path: Path) -> None:
    for name, version in (("deadly", "2"), ("birds", "3")):
        add_version(tmp_path / "state" / "models", name, version)
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2"}
    with (
        Cluster(tmp_path, workers=1, settings=settings, points=[point], light=True) as cluster,
        httpx.Client(base_url=cluster.url, timeout=60) as http,
    ):
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        (worker,) = cluster.workers

        def submit(model: str, wait_s: int = 0) -> Any:
            query, headers = {"model": model}, {"Prefer": f"wait={wait_s}"}
            return http.post("/v1/jobs", content=draw(), params=query, headers=headers).json()

        waiting = submit("deadly")
        wait_until(lambda: bool(problem_of(http)), "the model to be paused", 60)
        assert "deadly@2" in problem_of(http)
        assert "crashed its worker" in problem_of(http)
        starts = worker.starts
        assert submit("birds", 30)["status"] == "succeeded"
        assert submit("", 30)["status"] == "succeeded"
        assert http.get(waiting["urls"]["self"]).json()["status"] == "queued"
        assert worker.starts == starts
        cluster.release(point)
        done = http.get(waiting["urls"]["self"], headers={"Prefer": "wait=50"}).json()
        assert done["status"] == "succeeded"
        if point == "deadly_load":
            assert done["attempts"] == 1  # the image was not to blame
        wait_until(lambda: not problem_of(http), "the model to be loaded", 30)
