"""Promotions and rollbacks in running services under load, with a real Redis, gateway, worker and Keras."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import Stack, running_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_CLIENTS, _CHANGES = 32, 20
#: Jobs that finish before the times are measured, and before the first change.
_WARM_UP, _BEFORE = 100, 500


@dataclass
class Load:
    """Clients that submit images one after the other."""

    url: str
    stopping: threading.Event = field(default_factory=threading.Event)
    #: Each job, and the seconds until its result arrived.
    jobs: list[tuple[dict[str, Any], float]] = field(default_factory=list)

    def run(self) -> None:
        """Submit images until `stopping` is set."""
        options = {"params": {"model": "birds"}, "headers": {"Prefer": "wait=60"}}
        with httpx.Client(base_url=self.url, timeout=120) as http:
            while not self.stopping.is_set():
                response = http.post("/v1/jobs", content=draw(), **options)
                self.jobs.append((response.json(), response.elapsed.total_seconds()))


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
        add_version(tmp_path / "state" / "models", "birds", version, names)
    with running_stack(tmp_path) as stack, Pawqueue(stack.url) as client, ThreadPoolExecutor(_CLIENTS) as pool:
        load = Load(stack.url)
        running = [pool.submit(load.run) for _ in range(_CLIENTS)]
        try:
            wait_until(lambda: len(load.jobs) > _WARM_UP, "the model to be loaded")
            wait_until(lambda: len(load.jobs) > _WARM_UP + _BEFORE, "jobs before the first change")
            before = [seconds for _, seconds in load.jobs[_WARM_UP:]]
            for version in islice(cycle(["2", None]), _CHANGES):
                if version:
                    assert client.promote("birds", version, timeout_s=120).live == "2"
                else:
                    assert client.rollback("birds", timeout_s=120).live == "1"
        finally:
            load.stopping.set()
        for future in running:
            future.result()
        history = live_at(stack)
    assert len(history) == _CHANGES + 1
    for job, _ in load.jobs:
        assert job["status"] == "succeeded", job
        started_ms = round(datetime.fromisoformat(job["started_at"]).timestamp() * 1000)
        version = job["model"]["version"]
        earlier = [live for at_ms, live in history if at_ms < started_ms]
        assert version in {earlier[-1], *(live for at_ms, live in history if at_ms == started_ms)}, (job, history)
        assert set(job["prediction"]["probabilities"]) == set(labels[version])
    assert {job["model"]["version"] for job, _ in load.jobs} == {"1", "2"}
    during = [seconds for _, seconds in load.jobs[_WARM_UP + len(before) :]]
    for name, times in (("before", before), (f"during {_CHANGES} changes", during)):
        print(f"{name}: {len(times)} jobs, p50 {np.percentile(times, 50):.3f} s, p99 {np.percentile(times, 99):.3f} s")


def test_a_version_that_does_not_load_changes_nothing(tmp_path: Path) -> None:
    add_version(tmp_path / "state" / "models", "birds", "1", ["owl", "wren"])
    manifest = add_version(tmp_path / "state" / "models", "birds", "2", ["owl", "wren"]) / "manifest.json"
    values = json.loads(manifest.read_text())
    values["golden"]["outputs"] = [[0.5, 0.5] for _ in values["golden"]["outputs"]]
    manifest.write_text(json.dumps(values))
    with running_stack(tmp_path) as stack, Pawqueue(stack.url) as client:
        with pytest.raises(ClientError, match="golden outputs"):
            client.promote("birds", "2", timeout_s=60)
        (birds, _) = client.models()
        assert birds.live == "1"
        assert client.predict(draw(), model="birds", timeout_s=60).result
