"""A backup made as in docs/operations.md is restored into another Redis."""

import shutil
from pathlib import Path

import redis

from contract.access import KeyStore, Scope, make_key
from contract.job import Job, JobResult, JobStatus, ModelRef, Prediction, new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from contract.queues import BULK
from tests.support.ledger import claim_jobs, store
from tests.support.services import running_redis, wait_until

RESULT = JobResult(prediction=Prediction("cat", 0.9, {"cat": 0.9, "dog": 0.1}), model=ModelRef("cats-dogs", "1"))


def waiting_job(ledger: Ledger) -> str:
    job = Job(new_job_id(), BULK, now_ms(), image="x")
    store(ledger, [job])
    return job.id


def finished_job(ledger: Ledger) -> str:
    job_id = waiting_job(ledger)
    (claim,) = claim_jobs(ledger, [job_id], 1000, 60, now_ms())
    assert isinstance(claim, Claim)
    ledger.commit([(claim, RESULT)], 3600, now_ms())
    return job_id


def back_up(url: str, folder: Path, target: Path) -> None:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        client.bgrewriteaof()
        wait_until(
            lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, "the rewrite of the append-only file"
        )
    (target / "redis").mkdir(parents=True)
    for path in (folder / "redis").glob("appendonly*"):  # a folder since Redis 7, a file in Redis 6
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target / "redis" / path.name)


def test_a_backup_restores_jobs_results_and_api_keys(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    stored, _ = make_key("office", (Scope.READ,))
    with running_redis(old) as url:
        ledger = Ledger(connect(url))
        waiting, finished = waiting_job(ledger), finished_job(ledger)
        KeyStore(connect(url)).put(stored)
        back_up(url, old, new)
        later = waiting_job(ledger)
    with running_redis(new) as url:
        restored = Ledger(connect(url))
        first, second, third = restored.get([waiting, finished, later])
        assert first
        assert first.status is JobStatus.QUEUED
        assert second
        assert second.result == RESULT
        assert third is None  # submitted after the backup
        assert [key.id for key in KeyStore(connect(url)).all()] == [stored.id]
        assert isinstance(claim_jobs(restored, [waiting], 1000, 60, now_ms())[0], Claim)
