"""Canaries in running services: a broken one costs no job."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from contract.ledger import keys
from pawqueue import ClientError, Pawqueue
from tests.chaos.cluster import Cluster
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import serves_model, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

_JOBS = 40


@contextmanager
def service(folder: Path, point: str) -> Iterator[tuple[Cluster, Pawqueue]]:
    """A worker that fails at a point with version 2 of a model, and no attempts to spare."""
    for version in ("1", "2"):
        add_version(folder / "state" / "models", "deadly", version)
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_MAX_ATTEMPTS": "2"}
    with Cluster(folder, workers=1, settings=settings, points=[point], light=True) as cluster:
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        with Pawqueue(cluster.url) as client:
            wait_until(lambda: "deadly" in {model.name for model in client.models()}, "the model to be registered")
            yield cluster, client


def versions_of_jobs(client: Pawqueue) -> list[str]:
    """Submit images; returns the version that processed each."""
    jobs = [client.submit(draw(), model="deadly") for _ in range(_JOBS)]
    done = [client.wait(job, timeout_s=120) for job in jobs]
    assert {job.status for job in done} == {"succeeded"}
    return [job.result.model.version for job in done if job.result and job.result.model]


def test_a_healthy_canary_gets_its_share_of_the_jobs(tmp_path: Path) -> None:
    with service(tmp_path, "none") as (_, client):
        client.canary("deadly", "2", 50, timeout_s=60)
        assert set(versions_of_jobs(client)) == {"1", "2"}
        client.end_canary("deadly")
        assert set(versions_of_jobs(client)) == {"1"}


@pytest.mark.parametrize("point", ["deadly_predict", "failing_predict"])
def test_a_canary_that_fails_when_it_predicts_costs_no_job(point: str, tmp_path: Path) -> None:
    with service(tmp_path, point) as (_, client):
        client.canary("deadly", "2", 50, timeout_s=60)
        assert set(versions_of_jobs(client)) == {"1"}


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ("failing_predict", "Its error rate is 100.0 %"),
        ("deadly_predict", "A worker cannot use it. It crashed its worker 2 times in a row."),
    ],
)
def test_a_canary_that_fails_is_taken_back_by_itself(point: str, problem: str, tmp_path: Path) -> None:
    with service(tmp_path, point) as (_, client):
        client.canary("deadly", "2", 50, auto_rollback=True, timeout_s=60)
        for _ in range(4):
            assert set(versions_of_jobs(client)) == {"1"}

        wait_until(lambda: client.model("deadly").values["canary"] is None, "the canary to be taken back", 60)
        change = client.model("deadly").values["last_change"]
        assert change["kind"] == "canary_end"
        assert change["problem"].startswith(problem)


def test_a_canary_that_kills_its_worker_when_it_is_loaded_does_not_begin(tmp_path: Path) -> None:
    with service(tmp_path, "deadly_load") as (_, client):
        with pytest.raises(ClientError, match="crashed its worker"):
            client.canary("deadly", "2", 50, timeout_s=60)
        assert set(versions_of_jobs(client)) == {"1"}


@pytest.mark.parametrize("point", ["before_settle", "after_settle", "before_end_canary", "after_end_canary"])
def test_a_canary_whose_worker_dies_at_any_step_begins_and_is_taken_back_once(point: str, tmp_path: Path) -> None:
    with service(tmp_path, point) as (cluster, client):
        client.canary("deadly", "2", 50, auto_rollback=True, timeout_s=60)
        assert set(versions_of_jobs(client)) == {"1", "2"}
        worse = {"canary/jobs": 60, "canary/errors": 30, "live/jobs": 60}
        with redis.Redis.from_url(cluster.redis_url, decode_responses=True) as database:
            database.hset(f"{keys.TRIAL}deadly", mapping=worse)
            wait_until(lambda: client.model("deadly").values["canary"] is None, "the canary to be taken back", 60)
            assert set(versions_of_jobs(client)) == {"1"}
            wait_until(lambda: cluster.faults_reached == [point], "the worker to die")
            assert database.hget(keys.model("deadly"), "taken_back") == "1"
        change = client.model("deadly").values["last_change"]
        assert (change["kind"], change["problem"][:25]) == ("canary_end", "Its error rate is 50.0 % ")
