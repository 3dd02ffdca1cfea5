"""Changing the live version of a model: when workers report that they hold it, and when they do not."""

import pytest
import redis

from contract.job import Job
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.models import Begun, Model, VersionInfo
from contract.ledger.types import Heartbeat, HeldModel
from tests.support.ledger import NOW, claimed, make_job, store

BIRDS = "birds"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with a model of three versions, of which the first is live."""
    for version in ("1", "2", "3"):
        ledger.models.register(BIRDS, version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")
    return ledger


def beat(ledger: Ledger, worker: str, state: str, prepared: int, version: str = "2", now_ms: int = NOW) -> None:
    """The heartbeat of a worker that holds version 1, and another one in a state."""
    problem = "It is damaged." if state == "failed" else ""
    held = (HeldModel(BIRDS, "1", "ready"), HeldModel(BIRDS, version, state, problem))
    values = (worker, "host", BIRDS, "1", ["owl", "wren"], "numpy", "float32", 0.5, "", now_ms, now_ms)
    beat = Heartbeat(*values, serves=[BIRDS], models=held, prepared={BIRDS: prepared})
    ledger.beat(beat, 6_000, now_ms)


def begin(ledger: Ledger, version: str | None = "2", why: str = "", revision: int | None = None) -> tuple[Begun, int]:
    return ledger.models.change(BIRDS, version, by="ada", why=why, limit_s=30, revision=revision, now_ms=NOW)


def model(ledger: Ledger) -> Model:
    found = ledger.models.model(BIRDS)
    assert found
    return found


def job_of(ledger: Ledger, model: str) -> Job:
    job = Job(**{**{name: getattr(make_job(), name) for name in ("id", "queue", "created_ms")}, "model": model})
    store(ledger, [job])
    return job


def test_a_version_becomes_live_when_every_worker_holds_it(ledger: Ledger) -> None:
    begun, revision = begin(ledger, why="fewer owls called wrens")
    assert begun is Begun.BEGUN
    beat(ledger, "a", "ready", revision)
    beat(ledger, "b", "loading", 0)
    assert not ledger.models.settle(BIRDS, NOW)
    assert model(ledger).live == "1"
    beat(ledger, "b", "ready", revision)
    assert ledger.models.settle(BIRDS, NOW)
    found = model(ledger)
    assert (found.live, found.previous, found.change) == ("2", "1", None)
    assert found.last_change
    assert (found.last_change.by, found.last_change.problem) == ("ada", "")


def test_jobs_that_wait_are_processed_by_the_version_that_is_live_when_they_are_claimed(ledger: Ledger) -> None:
    first, second = job_of(ledger, BIRDS), job_of(ledger, BIRDS)
    _, revision = begin(ledger)
    beat(ledger, "a", "ready", revision)
    assert claimed(ledger, first).routed == "birds@1"
    ledger.models.settle(BIRDS, NOW)
    assert claimed(ledger, second).routed == "birds@2"


def test_a_worker_that_cannot_load_the_version_takes_the_change_back(ledger: Ledger) -> None:
    _, revision = begin(ledger)
    beat(ledger, "a", "ready", revision)
    beat(ledger, "b", "failed", revision)
    assert ledger.models.settle(BIRDS, NOW)
    found = model(ledger)
    assert (found.live, found.change) == ("1", None)
    assert found.last_change
    assert found.last_change.problem == "It is damaged."


def test_what_an_earlier_attempt_left_behind_does_not_count(ledger: Ledger) -> None:
    _, revision = begin(ledger)
    beat(ledger, "a", "failed", revision - 1)
    assert not ledger.models.settle(BIRDS, NOW)
    beat(ledger, "a", "ready", revision)
    assert ledger.models.settle(BIRDS, NOW)
    assert model(ledger).live == "2"


@pytest.mark.parametrize(
    ("workers", "problem"),
    [([], "No worker serves the model."), (["a", "b"], "1 of 2 workers did not load it in time.")],
)
def test_a_change_that_takes_too_long_is_taken_back(ledger: Ledger, workers: list[str], problem: str) -> None:
    _, revision = begin(ledger)
    late = NOW + 30_001
    for worker in workers:
        beat(ledger, worker, "ready" if worker == "a" else "loading", revision if worker == "a" else 0, now_ms=late)
    assert not ledger.models.settle(BIRDS, NOW)
    assert ledger.models.settle(BIRDS, late)
    found = model(ledger)
    assert found.live == "1"
    assert found.last_change
    assert found.last_change.problem == problem


def test_workers_of_other_models_and_dead_ones_are_not_waited_for(ledger: Ledger) -> None:
    _, revision = begin(ledger)
    beat(ledger, "dead", "loading", 0, now_ms=NOW - 60_000)
    other = Heartbeat("c", "host", "cars", "1", [], "numpy", "float32", 0, "", NOW, NOW, (), ["cars"])
    ledger.beat(other, 6_000, NOW)
    beat(ledger, "a", "ready", revision)
    assert ledger.models.settle(BIRDS, NOW)
    assert model(ledger).live == "2"


def test_of_two_changes_at_once_the_second_is_refused(ledger: Ledger) -> None:
    _, revision = begin(ledger, "2")
    assert begin(ledger, "3") == (Begun.CHANGING, revision)
    change = model(ledger).change
    assert change
    assert (change.version, change.by) == ("2", "ada")


def test_a_change_whose_time_is_over_does_not_block_another(ledger: Ledger) -> None:
    begin(ledger, "2")
    begun, _ = ledger.models.change(BIRDS, "3", limit_s=30, now_ms=NOW + 30_001)
    assert begun is Begun.BEGUN


def test_a_change_can_depend_on_the_revision(ledger: Ledger) -> None:
    revision = model(ledger).revision
    assert begin(ledger, revision=revision - 1) == (Begun.CHANGED, revision)
    assert begin(ledger, revision=revision) == (Begun.BEGUN, revision + 1)


def test_a_rollback_returns_to_the_version_that_was_live_before(ledger: Ledger) -> None:
    assert begin(ledger, None)[0] is Begun.NO_PREVIOUS
    for version, live in (("2", "2"), (None, "1"), (None, "2")):
        _, revision = begin(ledger, version)
        beat(ledger, "a", "ready", revision, live)
        assert ledger.models.settle(BIRDS, NOW)
        assert model(ledger).live == live


def test_unknown_names_and_the_live_version_begin_nothing(ledger: Ledger) -> None:
    assert ledger.models.change("cars", "1", limit_s=30)[0] is Begun.UNKNOWN_MODEL
    assert begin(ledger, "9")[0] is Begun.UNKNOWN_VERSION
    assert begin(ledger, "1")[0] is Begun.LIVE
    assert model(ledger).change is None


def test_every_step_is_in_the_stream_of_changes(ledger: Ledger, redis_client: "redis.Redis") -> None:
    _, revision = begin(ledger, why="better")
    beat(ledger, "a", "ready", revision)
    ledger.models.settle(BIRDS, NOW)
    *_, asked, live = (entry for _, entry in redis_client.xrange(keys.MODEL_CHANGES))
    assert asked == {
        "model": BIRDS,
        "action": "changing",
        "version": "2",
        "by": "ada",
        "revision": str(revision),
        "why": "better",
    }
    assert live == asked | {"action": "live", "revision": str(revision + 1)}
