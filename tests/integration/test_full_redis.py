"""Services on a Redis that has no memory left."""

import sys
from pathlib import Path

import httpx
import pytest
import redis

from contract.ledger import keys
from contract.queues import QUEUES
from tests.support.images import draw
from tests.support.services import accepts_connections, free_port, running, running_redis, wait_until

#: Jobs sent before and after the first one is predicted; then Redis becomes full.
_HELD, _WAITING = 3, 25


def status_of(http: httpx.Client, job_id: str) -> str:
    return str(http.get(f"/v1/jobs/{job_id}").json()["status"])


@pytest.mark.slow
def test_a_worker_on_a_full_redis_finishes_all_jobs_and_continues_when_there_is_room(tmp_path: Path) -> None:
    flag, port = tmp_path / "held", free_port()
    flag.touch()
    held = [sys.executable, "-m", "tests.support.faulty_worker", "held_in_predict", str(flag), "--light"]
    with running_redis(tmp_path) as url, redis.Redis.from_url(url, decode_responses=True) as client:
        environ = {
            "PAWQUEUE_REDIS_URL": url,
            "PAWQUEUE_STATE_DIR": str(tmp_path / "state"),
            "PAWQUEUE_GATEWAY_PORT": str(port),
            "PAWQUEUE_WORKER_METRICS_PORT": "0",
            "PAWQUEUE_BATCH_SIZE": "1",
            "PAWQUEUE_LEASE_S": "2",
            "PAWQUEUE_SWEEP_S": "0.2",
        }
        with (
            running("gateway", [sys.executable, "-m", "gateway"], tmp_path, environ),
            running("worker", held, tmp_path, environ) as worker,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
        ):
            wait_until(lambda: accepts_connections(port), "the gateway")

            def uploaded(count: int) -> list[str]:
                responses = [http.post("/v1/jobs", content=draw()) for _ in range(count)]
                assert {response.status_code for response in responses} == {202}
                return [response.json()["id"] for response in responses]

            first = uploaded(_HELD)
            wait_until(lambda: "running" in {status_of(http, job_id) for job_id in first}, "a job being predicted")
            rest = uploaded(_WAITING)
            client.config_set("maxmemory", 1)

            response = http.post("/v1/jobs", content=draw())
            assert response.status_code == 503
            assert "(Redis) is full" in response.json()["detail"]
            flag.unlink()
            for job_id in first + rest:
                wait_until(lambda job_id=job_id: status_of(http, job_id) == "succeeded", "every accepted job")
            client.config_set("maxmemory", 0)
            (later,) = uploaded(1)
            wait_until(lambda: status_of(http, later) == "succeeded", "a job that was sent later")
            assert not [queue for queue in QUEUES if client.zcard(keys.queued(queue))]
            assert worker.handle.poll() is None
            assert worker.stop() == 0
