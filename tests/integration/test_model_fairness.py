"""A backlog of one model delays an interactive job of another by at most one batch.

`python -m tests.integration.test_model_fairness 50000` measures it with a backlog of this size.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.archives import tar_of
from tests.support.bundles import add_version
from tests.support.images import draw
from tests.support.services import Stack, running_stack, wait_until

_PROBES = 20
#: Decoding, two more batches of one image, and the network.
_ALLOWANCE_MS = 150.0


def measure(folder: Path, backlog: int) -> dict[str, Any]:
    """The latency of jobs of the default model, alone and beside a backlog of another, and the batches of that one."""
    add_version(folder / "state" / "models", "slow", "1")
    with running_stack(folder, measure_s=0) as stack, httpx.Client(base_url=stack.url, timeout=600) as http:
        wait_until(lambda: http.get("/v1/models/slow").is_success, "the model to be registered")
        _probe(http)
        for _ in range(3):
            http.post("/v1/jobs?model=slow", content=draw(), headers={"Prefer": "wait=60"})
        alone_ms = [_probe(http) for _ in range(_PROBES)]
        submission = _submit(http, backlog)
        wait_until(lambda: _counts(http, submission)["running"] > 0, "the backlog to be processed")
        beside_ms = [_probe(http) for _ in range(_PROBES)]
        left = _counts(http, submission)["queued"]
        batches_ms = _batches_ms(stack, submission)
    return {
        "backlog": backlog,
        "left": left,
        "alone_median_ms": statistics.median(alone_ms),
        "beside_median_ms": statistics.median(beside_ms),
        "beside_max_ms": max(beside_ms),
        "batch_median_ms": statistics.median(batches_ms),
        "batch_max_ms": max(batches_ms),
    }


def _probe(http: httpx.Client) -> float:
    """The time from upload to result in milliseconds."""
    began_s = time.perf_counter()
    job = http.post("/v1/jobs", content=draw(), headers={"Prefer": "wait=60"}).json()
    assert job["status"] == "succeeded"
    return (time.perf_counter() - began_s) * 1000


def _submit(http: httpx.Client, jobs: int) -> str:
    """Submit images to the interactive queue of the slow model; returns the path of the submission."""
    path: str = http.post("/v1/submissions", json={"model": "slow", "queue": "interactive"}).headers["Location"]
    data = tar_of(dict.fromkeys(map("{}.png".format, range(jobs)), draw()))
    response = http.post(f"{path}/jobs", content=data, headers={"Content-Type": "application/x-tar"})
    assert response.status_code == 202, response.text
    return path


def _counts(http: httpx.Client, submission: str) -> Any:
    return http.get(submission).json()["counts"]


def _batches_ms(stack: Stack, submission: str) -> list[float]:
    rows = httpx.get(f"{stack.url}{submission}/results?cursor=0&limit=1000", timeout=60).text.splitlines()
    jobs = [json.loads(row) for row in rows]
    return [job["timings"]["predict_ms"] for job in jobs if job["status"] == "succeeded"]


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_backlog_of_a_model_delays_another_by_at_most_one_batch(tmp_path: Path) -> None:
    found = measure(tmp_path, 3000)
    assert found["left"] > 0
    assert found["beside_median_ms"] < found["alone_median_ms"] + found["batch_max_ms"] + _ALLOWANCE_MS, found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(measure(Path(name), int(sys.argv[1])))
