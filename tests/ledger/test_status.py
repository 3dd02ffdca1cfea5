"""The status of the service."""

import json
from dataclasses import asdict, replace

import pytest

from contract.job import Job, new_job_id
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import ChosenStrategy, Heartbeat, HeldModel, RedisServer
from contract.queues import BULK, INTERACTIVE
from contract.status import ledger_problem, read_status
from tests.support.ledger import store

LIMIT_BYTES = 10**9
WORKER = Heartbeat("w", "host", "cats-dogs", "1", ["cat", "dog"], "fake", "float32", 0.5, "", 1000, 2000)


def test_the_status_counts_jobs_and_lists_workers(ledger: Ledger) -> None:
    ledger.beat(WORKER, 60_000)
    store(ledger, [Job(new_job_id(), INTERACTIVE, 1000, size_bytes=10) for _ in range(3)])
    status = read_status(ledger, LIMIT_BYTES).to_dict()
    assert status["ready"]
    assert status["problems"] == []
    assert status["queues"][INTERACTIVE]["queued"] == 3
    assert status["queues"][INTERACTIVE]["queued_bytes"] == 30
    assert status["queues"][BULK]["queued"] == 0
    assert [worker["model"] for worker in status["workers"]] == [{"name": "cats-dogs", "version": "1"}]
    assert "host" not in str(status)


def test_without_a_worker_the_service_is_ready_but_reports_a_problem(ledger: Ledger) -> None:
    status = read_status(ledger, LIMIT_BYTES)
    assert status.is_ready
    assert [problem.code for problem in status.problems] == ["no_worker"]


def test_an_unavailable_ledger_is_reported_as_a_problem() -> None:
    status = read_status(Ledger(connect("redis://127.0.0.1:1/0")), LIMIT_BYTES)
    assert not status.is_ready
    assert [problem.code for problem in status.problems] == ["ledger_unavailable"]
    assert status.to_dict()["workers"] == []


def test_uploads_are_refused_while_the_ledger_is_full(ledger: Ledger) -> None:
    assert not read_status(ledger, 1).is_ready


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (RedisServer(100, 0), None),
        (RedisServer(79, 100), None),
        (RedisServer(81, 100), "ledger_full"),
        (RedisServer(10, 100, "allkeys-lru"), "ledger_evicts"),
        (RedisServer(10, 0, "allkeys-lru"), None),
        (RedisServer(10, 100, is_replica=True), "ledger_unsuitable"),
        (RedisServer(10, 100, mode="cluster"), "ledger_unsuitable"),
    ],
)
def test_uploads_are_refused_if_redis_is_nearly_full_or_cannot_keep_jobs(server: RedisServer, code: str | None) -> None:
    problem = ledger_problem(server, LIMIT_BYTES)
    assert (problem.code if problem else None) == code


def test_the_status_contains_the_strategies_of_a_worker(ledger: Ledger) -> None:
    ledger.beat(replace(WORKER, strategies=[ChosenStrategy(8, "parts_4", {"float32/parts_4": 1.5})]), 60_000)
    (worker,) = read_status(ledger, LIMIT_BYTES).to_dict()["workers"]
    assert worker["strategies"] == [{"images": 8, "strategy": "parts_4", "measured_ms": {"float32/parts_4": 1.5}}]


def test_unknown_fields_of_a_heartbeat_are_ignored() -> None:
    values = asdict(WORKER) | {"added_later": 1}
    values["strategies"] = [{"images": 1, "strategy": "wide", "measured_ms": {}, "added_later": 1}]
    values["models"] = [{"name": "birds", "version": "1", "state": "ready", "problem": "", "added_later": 1}]
    expected = replace(WORKER, strategies=(ChosenStrategy(1, "wide"),), models=(HeldModel("birds", "1", "ready"),))
    assert Heartbeat.from_json(json.dumps(values)) == expected


def test_a_heartbeat_of_an_earlier_version_has_no_strategies() -> None:
    values = asdict(WORKER)
    del values["strategies"]
    assert Heartbeat.from_json(json.dumps(values)) == WORKER
