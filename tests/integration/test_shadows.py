"""A shadow in running services: what it finds reaches the API, and a crash of it costs no job."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.cluster import Cluster
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import serves_model, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

#: Light versions differ about images of this color.
GRAY = (120, 120, 120)


def submit(http: httpx.Client) -> Any:
    response = http.post("/v1/jobs", content=draw(color=GRAY), params={"model": "birds"}, headers={"Prefer": "wait=50"})
    return response.json()


def shadow_of(http: httpx.Client) -> Any:
    return http.get("/v1/models/birds").json()["shadow"]


def test_what_a_shadow_finds_reaches_the_api(tmp_path: Path) -> None:
    for version in ("1", "9"):
        add_version(tmp_path / "state" / "models", "birds", version, ["wren", "owl"])
    with (
        Cluster(tmp_path, workers=1, settings={}, points=[], light=True) as cluster,
        httpx.Client(base_url=cluster.url, timeout=60) as http,
    ):
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        shadow = {"version": "9", "sample": 1}
        assert http.patch("/v1/models/birds", json={"shadow": shadow}).json()["shadow"]["workers"] == 0
        wait_until(lambda: shadow_of(http)["workers"] == 1, "the worker to load the shadow", 60)
        job = submit(http)
        assert (job["model"]["version"], job["prediction"]["label"]) == ("1", "owl")

        def differing() -> Any:
            return http.get("/v1/models/birds/disagreements").json()["disagreements"]

        wait_until(lambda: bool(differing()), "the image to be compared", 30)
        (found,) = differing()
        assert (found["job_id"], found["label"], found["shadow_label"]) == (job["id"], "owl", "wren")
        assert http.post(f"/v1/jobs/{job['id']}/feedback", json={"label": "wren"}).status_code == 200
        (pair,) = http.get("/v1/models/birds/shadow").json()["pairs"]
        assert (pair["compared"], pair["agreed"], pair["feedback"]["only_shadow"]) == (1, 0, 1)
        assert http.patch("/v1/models/birds", json={"shadow": None}).json()["shadow"] is None
        assert http.delete(f"/v1/jobs/{job['id']}", params={"purge": "true"}).status_code == 204
        assert differing() == []


@pytest.mark.parametrize("point", ["deadly_shadow_load", "deadly_shadow", "hanging_shadow"])
def test_a_shadow_that_crashes_its_worker_is_stopped_and_costs_no_job(point: str, tmp_path: Path) -> None:
    for version in ("1", "9"):
        add_version(tmp_path / "state" / "models", "birds", version, ["wren", "owl"])
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_PREDICT_LIMIT_S": "2"}
    with (
        Cluster(tmp_path, workers=1, settings=settings, points=[point], light=True) as cluster,
        httpx.Client(base_url=cluster.url, timeout=60) as http,
    ):
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        (worker,) = cluster.workers
        wait_until(lambda: submit(http)["status"] == "succeeded", "a job of the model")
        starts = worker.starts
        assert http.patch("/v1/models/birds", json={"shadow": {"version": "9", "sample": 1}}).status_code == 200
        jobs = []

        def stopped() -> bool:
            jobs.append(submit(http))
            return bool(shadow_of(http)["problem"])

        wait_until(stopped, "the shadow to be stopped", 60)
        assert "A worker died" in shadow_of(http)["problem"]
        jobs += [submit(http) for _ in range(3)]
        assert worker.starts == starts + 1
        assert {job["status"] for job in jobs} == {"succeeded"}
        assert {job["model"]["version"] for job in jobs} == {"1"}

        def live() -> Any:
            details = http.get("/v1/models/birds").json()["details"]
            return next(found for found in details if found["version"] == "1")

        wait_until(lambda: live()["state"] == "ready", "a heartbeat", 30)
        assert live()["problem"] == ""
