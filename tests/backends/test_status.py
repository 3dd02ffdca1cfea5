"""The status of the service, as `GET /v1/status` returns it."""

import json
from dataclasses import asdict

import pytest

from contract.broker import BULK, INTERACTIVE
from contract.job import Job, new_job_id
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat, RedisMemory
from contract.status import memory_problem, read_status
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


def test_without_a_worker_jobs_are_accepted_and_the_reason_they_wait_is_given(ledger: Ledger) -> None:
    status = read_status(ledger, LIMIT_BYTES)
    assert status.is_ready
    assert [problem.code for problem in status.problems] == ["no_worker"]


def test_a_ledger_that_does_not_answer_is_a_problem_and_not_an_error() -> None:
    status = read_status(Ledger(connect("redis://127.0.0.1:1/0")), LIMIT_BYTES)
    assert not status.is_ready
    assert [problem.code for problem in status.problems] == ["ledger_unavailable"]
    assert status.to_dict()["workers"] == []


def test_a_full_ledger_refuses_uploads(ledger: Ledger) -> None:
    assert not read_status(ledger, 1).is_ready


@pytest.mark.parametrize(
    ("memory", "code"),
    [
        (RedisMemory(100, 0), None),
        (RedisMemory(79, 100), None),
        (RedisMemory(81, 100), "ledger_full"),
        (RedisMemory(10, 100, evicts=True), "ledger_evicts"),
    ],
)
def test_memory_is_judged_below_the_limit_of_redis(memory: RedisMemory, code: str | None) -> None:
    problem = memory_problem(memory, LIMIT_BYTES)
    assert (problem.code if problem else None) == code


def test_a_heartbeat_from_a_newer_version_is_read() -> None:
    values = asdict(WORKER) | {"added_later": 1}
    assert Heartbeat.from_json(json.dumps(values)) == WORKER
