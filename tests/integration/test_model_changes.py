"""Promotions and rollbacks in running services under load, with a real Redis, gateway, worker and Keras."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from contract.ledger import keys
from pawqueue import ClientError, Pawqueue
from tests.integration.test_models import add
from tests.support.images import draw
from tests.support.services import Stack, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_CLIENTS, _CHANGES = 16, 20


def load(url: str, stopping: threading.Event) -> list[tuple[dict[str, Any], float]]:
    """Submit images one after the other; returns each job, and the seconds until its result arrived."""
    jobs = []
    with httpx.Client(base_url=url, timeout=120) as http:
        while not stopping.is_set():
            response = http.post("/v1/jobs", content=draw(), params={"model": "birds"}, headers={"Prefer": "wait=60"})
            jobs.append((response.json(), response.elapsed.total_seconds()))
    return jobs


def live_at(stack: Stack) -> list[tuple[int, str]]:
    """When each version became live, in milliseconds."""
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        entries = client.xrange(keys.MODEL_CHANGES)
    return [
        (int(entry_id.split("-")[0]), entry["version"])
        for entry_id, entry in entries
        if (entry["model"], entry["action"]) == ("birds", "live")
    ]


def test_every_job_is_processed_by_the_version_that_was_live_when_it_was_claimed(tmp_path: Path) -> None:
    labels = {"1": ["owl", "wren"], "2": ["OWL", "WREN"]}
    for version, names in labels.items():
        add(tmp_path / "state", "birds", version, names)
    stopping = threading.Event()
    with running_stack(tmp_path) as stack, Pawqueue(stack.url) as client, ThreadPoolExecutor(_CLIENTS) as pool:
        running = [pool.submit(load, stack.url, stopping) for _ in range(_CLIENTS)]
        try:
            for version in islice(cycle(["2", None]), _CHANGES):
                if version:
                    assert client.promote("birds", version, timeout_s=120).live == "2"
                else:
                    assert client.rollback("birds", timeout_s=120).live == "1"
        finally:
            stopping.set()
        jobs = [job for future in running for job in future.result()]
        history = live_at(stack)
    assert len(history) == _CHANGES + 1
    for job, _ in jobs:
        assert job["status"] == "succeeded", job
        started_ms = round(datetime.fromisoformat(job["started_at"]).timestamp() * 1000)
        version = job["model"]["version"]
        before = [live for at_ms, live in history if at_ms < started_ms]
        assert version in {before[-1], *(live for at_ms, live in history if at_ms == started_ms)}, (job, history)
        assert set(job["prediction"]["probabilities"]) == set(labels[version])
    assert {job["model"]["version"] for job, _ in jobs} == {"1", "2"}
    p50, p99 = np.percentile([seconds for _, seconds in jobs], [50, 99])
    print(f"{len(jobs)} jobs, {_CHANGES} changes: p50 {p50:.3f} s, p99 {p99:.3f} s")


def test_a_version_that_does_not_load_changes_nothing(tmp_path: Path) -> None:
    add(tmp_path / "state", "birds", "1", ["owl", "wren"])
    manifest = add(tmp_path / "state", "birds", "2", ["owl", "wren"]) / "manifest.json"
    values = json.loads(manifest.read_text())
    values["golden"]["outputs"] = [[0.5, 0.5] for _ in values["golden"]["outputs"]]
    manifest.write_text(json.dumps(values))
    with running_stack(tmp_path) as stack, Pawqueue(stack.url) as client:
        with pytest.raises(ClientError, match="golden outputs"):
            client.promote("birds", "2", timeout_s=60)
        (birds, _) = client.models()
        assert birds.live == "1"
        assert client.predict(draw(), model="birds", timeout_s=60).result
