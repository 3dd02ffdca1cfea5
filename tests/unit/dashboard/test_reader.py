"""The reader: which jobs and thumbnails it keeps, and how it handles sources that are down."""

import json
from pathlib import Path

import httpx

from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.settings import load_settings
from dashboard.data.models import BundleReader, MlflowReader
from dashboard.data.reader import Limits
from tests.unit.dashboard.conftest import NOW, FakeServer, MakeWorld, World, heartbeat


def test_each_job_is_kept_once_newest_first(world: World) -> None:
    first = world.finish()
    world.reader.read()
    second, third = world.finish("dog"), world.finish()
    found = world.reader.read()
    assert [row.job_id for row in found.jobs] == [third, second, first]
    assert world.reader.read().jobs == found.jobs
    assert not found.jobs_are_sampled
    assert found.sequence == 2


def test_jobs_are_sampled_when_too_many_finish(make_world: MakeWorld) -> None:
    world = make_world(limits=Limits(jobs_per_s=1))
    world.finish()
    world.reader.read()
    ids = [world.finish() for _ in range(9)]
    found = world.reader.read()
    assert [row.job_id for row in found.jobs[:5]] == ids[:3:-1]
    assert found.jobs_are_sampled


def test_thumbnails_may_arrive_late_and_are_dropped_with_their_jobs(make_world: MakeWorld) -> None:
    world = make_world(limits=Limits(thumbnails=2))
    first = world.finish()
    assert world.reader.read().thumbnails == {}
    world.store_thumbnail(first)
    assert world.reader.read().thumbnails == {first: b"image"}
    for _ in range(2):
        world.finish()
    assert world.reader.read().thumbnails == {}


def test_a_purged_job_and_its_thumbnail_disappear_with_the_next_reading(world: World) -> None:
    purged, kept = world.finish(file="secret.jpg"), world.finish()
    for job_id in (purged, kept):
        world.store_thumbnail(job_id)
    http = world.browse()
    assert http.get(f"/thumbnails/{purged}").data == b"image"
    assert "secret.jpg" in http.get("/predictions.csv").text
    world.ledger.purge([purged], 60)
    found = world.reader.read()
    assert [row.job_id for row in found.jobs] == [kept]
    assert found.thumbnails == {kept: b"image"}
    assert http.get(f"/thumbnails/{purged}").status_code == 404
    assert "secret.jpg" not in http.get("/predictions.csv").text


def test_queues_workers_and_totals_come_from_the_ledger(world: World) -> None:
    world.finish()
    world.ledger.beat(heartbeat(), 60_000)
    status = world.reader.read().status
    assert [worker.id for worker in status.workers] == ["w"]
    assert status.stats.totals == {("bulk", "succeeded", "cat"): 1}
    assert (status.is_ready, list(status.problems)) == (True, [])


def test_the_last_known_jobs_and_status_are_kept_when_redis_is_down(world: World) -> None:
    world.finish()
    world.ledger.beat(heartbeat(), 60_000)
    before = world.reader.read()
    world.reader.ledger = Ledger(connect("redis://127.0.0.1:1/0"))
    world.clock.now_s += 5
    found = world.reader.read()
    assert (found.ledger.read_at_s, found.ledger.failed_since_s) == (NOW, NOW + 5)
    assert "Redis" in found.ledger.problem
    assert (found.jobs, found.status) == (before.jobs, before.status)


def test_the_gateway_is_checked(world: World) -> None:
    assert world.reader.read().gateway.failed_since_s == NOW
    world.server.responses["/healthz"] = httpx.Response(200, json={"status": "alive"})
    assert world.reader.read().gateway.failed_since_s is None


def test_a_missing_bundle_is_reported_and_a_new_one_is_read(tmp_path: Path) -> None:
    reader = BundleReader(load_settings({"PAWQUEUE_MODEL": str(tmp_path)}))
    state, served = reader.read(NOW)
    assert served is None
    assert "PAWQUEUE_MODEL" in state.problem
    (tmp_path / "manifest.json").write_text("[]")
    assert "is damaged" in reader.read(NOW)[0].problem
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": ["a", "b"], "version": "7"}))
    (tmp_path / "predictions.csv").write_text("sha256,label,a,b\nx,a,0.2,0.8\n")
    state, served = reader.read(NOW)
    assert state.failed_since_s is None
    assert served
    assert (served.version, served.predictions) == ("7", (("a", "b", 0.8),))


def test_a_promoted_bundle_is_read_instead_of_the_shipped_one(tmp_path: Path) -> None:
    champion = tmp_path / "models" / "champion"
    champion.mkdir(parents=True)
    (champion / "manifest.json").write_text(json.dumps({"labels": ["a", "b"], "version": "promoted"}))
    _, served = BundleReader(load_settings({"PAWQUEUE_STATE_DIR": str(tmp_path)})).read(NOW)
    assert served
    assert served.version == "promoted"


def test_mlflow_runs_are_read_every_30_seconds() -> None:
    row = {
        "info": {"run_id": "abcdefghij", "status": "FINISHED", "start_time": 1000},
        "data": {"metrics": [{"key": "accuracy", "value": 0.9}], "params": [{"key": "rate", "value": "0.1"}]},
    }
    experiments = httpx.Response(200, json={"experiments": [{"experiment_id": "1"}]})
    runs = httpx.Response(200, json={"runs": [row]})
    server = FakeServer({"/api/2.0/mlflow/experiments/search": experiments, "/api/2.0/mlflow/runs/search": runs})
    reader = MlflowReader("http://m", server.transport)
    _, (run,) = reader.read(NOW)
    assert (run.name, run.started_s, run.metrics, run.params) == ("abcdefgh", 1.0, {"accuracy": 0.9}, {"rate": "0.1"})
    reader.read(NOW + 5)
    assert len(server.requests) == 2
    reader.read(NOW + 31)
    assert len(server.requests) == 4
