"""The reader: what it remembers of the ledger, what it survives."""

import json
from pathlib import Path

import httpx
import pytest

from contract.errors import UnavailableError
from contract.settings import load_settings
from dashboard import reader as module
from dashboard.bundle_files import BundleReader
from dashboard.mlflow_runs import MlflowReader
from tests.unit.dashboard.conftest import NOW, World


def test_jobs_are_remembered_newest_first_and_each_once() -> None:
    world = World()
    first = world.end()
    world.reader.read()
    second, third = world.end("dog"), world.end()
    found = world.reader.read()
    assert [row.id for row in found.jobs] == [third, second, first]
    assert world.reader.read().jobs == found.jobs
    assert not found.jobs_are_sampled
    assert found.sequence == 2


def test_a_flood_is_sampled_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.end()
    world.reader.read()
    monkeypatch.setattr(module, "_JOBS_PER_S", 1)
    ids = [world.end() for _ in range(9)]
    found = world.reader.read()
    assert [row.id for row in found.jobs[:5]] == ids[:3:-1]
    assert found.jobs_are_sampled


def test_thumbnails_come_late_and_go_with_their_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    first = world.end()
    assert world.reader.read().thumbnails == {}
    world.thumbnails.put(first, b"image")
    assert world.reader.read().thumbnails == {first: b"image"}
    monkeypatch.setattr(module, "_THUMBNAILS_KEPT", 2)
    for _ in range(2):
        world.end()
    assert world.reader.read().thumbnails == {}


def test_a_ledger_that_is_gone_leaves_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.end()
    world.reader.read()

    def gone(*_: object) -> None:
        raise UnavailableError("gone")

    monkeypatch.setattr(world.ledger, "recent", gone)
    world.now_s += 5
    found = world.reader.read()
    assert (found.ledger.read_at_s, found.ledger.failed_since_s) == (NOW, NOW + 5)
    assert len(found.jobs) == 1


def test_the_gateway_s_word_of_itself_is_read() -> None:
    world = World()
    assert world.reader.read().gateway.failed_since_s == NOW
    world.answers["/health"] = httpx.Response(200, json={"status": "healthy"})
    found = world.reader.read()
    assert (found.gateway.failed_since_s, found.health) == (None, {"status": "healthy"})


def test_a_missing_bundle_is_named_and_a_new_one_is_read(tmp_path: Path) -> None:
    reader = BundleReader(load_settings({"PAWQUEUE_MODEL": str(tmp_path)}))
    state, served = reader.read(NOW)
    assert served is None
    assert "PAWQUEUE_MODEL" in state.problem
    (tmp_path / "manifest.json").write_text("[]")
    assert "cannot be read" in reader.read(NOW)[0].problem
    (tmp_path / "manifest.json").write_text(json.dumps({"labels": ["a", "b"], "version": "7"}))
    (tmp_path / "predictions.csv").write_text("sha256,label,a,b\nx,a,0.2,0.8\n")
    state, served = reader.read(NOW)
    assert state.failed_since_s is None
    assert served
    assert (served.version, served.answers) == ("7", (("a", "b", 0.8),))


def test_runs_are_read_from_mlflow_now_and_then() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("experiments/search"):
            return httpx.Response(200, json={"experiments": [{"experiment_id": "1"}]})
        row = {
            "info": {"run_id": "abcdefghij", "status": "FINISHED", "start_time": 1000},
            "data": {"metrics": [{"key": "accuracy", "value": 0.9}], "params": [{"key": "rate", "value": "0.1"}]},
        }
        return httpx.Response(200, json={"runs": [row]})

    reader = MlflowReader("http://m", httpx.MockTransport(answer))
    _, (run,) = reader.read(NOW)
    assert (run.name, run.started_s, run.metrics, run.params) == ("abcdefgh", 1.0, {"accuracy": 0.9}, {"rate": "0.1"})
    reader.read(NOW + 5)
    assert len(asked) == 2
    reader.read(NOW + 31)
    assert len(asked) == 4
