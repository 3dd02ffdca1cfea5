"""Services exit if Redis cannot be used, wait for one that is not running yet, and need few rights."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from tests.ledger.test_requirements import RIGHTS
from tests.support.images import draw
from tests.support.services import (
    ROOT,
    Process,
    accepts_connections,
    cluster_port,
    free_port,
    light_worker,
    running,
    running_redis_with,
    wait_until,
)

GATEWAY = [sys.executable, "-m", "gateway"]
WORKER = [sys.executable, "-m", "worker"]
UP = [sys.executable, "-m", "deploy.local", "up"]
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def environ_for(redis_url: str, folder: Path) -> dict[str, str]:
    """The settings of services on this Redis."""
    return {
        "PAWQUEUE_REDIS_URL": redis_url,
        "PAWQUEUE_STATE_DIR": str(folder / "state"),
        "PAWQUEUE_GATEWAY_PORT": str(free_port()),
        "PAWQUEUE_DASHBOARD_PORT": str(free_port()),
        "PAWQUEUE_WORKER_METRICS_PORT": "0",
    }


@dataclass
class Services:
    """A gateway and a light worker."""

    url: str
    gateway: Process
    worker: Process


@contextmanager
def running_services(redis_url: str, folder: Path) -> Iterator[Services]:
    """Start a gateway and a worker; enters the context when the gateway responds."""
    environ = environ_for(redis_url, folder)
    port = int(environ["PAWQUEUE_GATEWAY_PORT"])
    with (
        running("worker", light_worker(), folder, environ) as worker,
        running("gateway", GATEWAY, folder, environ) as gateway,
    ):
        wait_until(lambda: accepts_connections(port), "the gateway responding")
        yield Services(f"http://127.0.0.1:{port}", gateway, worker)


def classify(url: str) -> str:
    """Upload an image and wait for its label."""
    response = httpx.post(f"{url}/v1/jobs", content=draw(), headers={"Prefer": "wait=30"}, timeout=60)
    return str(response.json()["prediction"]["label"])


def test_gateway_worker_and_up_refuse_a_cluster_in_one_line(tmp_path: Path) -> None:
    with running_redis_with(tmp_path, cluster_port(), "--cluster-enabled", "yes") as url:
        environ = os.environ | environ_for(url, tmp_path)
        with ExitStack() as stack:
            processes = []
            for command in (GATEWAY, WORKER, UP):
                process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
                stack.callback(process.wait)
                stack.callback(process.terminate)
                processes.append(process)
            results = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    for text, status in results:
        assert text.startswith("The Redis at PAWQUEUE_REDIS_URL is in cluster mode, ")
        assert text.endswith(" Use a Redis with `cluster-enabled no`.\n")
        assert (text.count("\n"), status) == (1, 2)


def test_a_worker_refuses_a_bundle_with_another_checksum_in_one_sentence(clean_redis: str, tmp_path: Path) -> None:
    environ = os.environ | environ_for(clean_redis, tmp_path) | {"PAWQUEUE_MODEL_CHECKSUM": "0" * 64}
    done = subprocess.run(WORKER, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    (line,) = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if "cannot be served" in line]
    assert done.returncode == 1
    assert "is not the one that PAWQUEUE_MODEL_CHECKSUM names" in line["reason"]


def test_services_that_start_before_redis_wait_for_it(tmp_path: Path) -> None:
    port = free_port()
    with running_services(f"redis://127.0.0.1:{port}/0", tmp_path) as services:
        for process in (services.gateway, services.worker):
            wait_until(lambda process=process: "does not respond" in process.tail(), "the outage being logged")
        assert httpx.get(f"{services.url}/readyz").status_code == 503
        with running_redis_with(tmp_path, port, *DURABLE):
            wait_until(lambda: httpx.get(f"{services.url}/readyz").status_code == 200, "the gateway being ready")
            assert classify(services.url) == "dark"
            services.worker.stop()
            services.gateway.stop()


def test_a_worker_that_waited_exits_if_redis_turns_out_to_be_a_cluster(tmp_path: Path) -> None:
    port = cluster_port()
    environ = environ_for(f"redis://127.0.0.1:{port}/0", tmp_path)
    with running("worker", light_worker(), tmp_path, environ) as worker:
        wait_until(lambda: "does not respond" in worker.tail(), "the worker waiting")
        with running_redis_with(tmp_path, port, "--cluster-enabled", "yes"):
            assert worker.handle.wait(30) == 2
    assert worker.tail().splitlines()[-1].startswith("The Redis at PAWQUEUE_REDIS_URL is in cluster mode, ")


def test_the_documented_user_can_run_the_service(tmp_path: Path) -> None:
    with (
        running_redis_with(tmp_path, free_port(), *DURABLE) as url,
        redis.Redis.from_url(url, decode_responses=True) as client,
    ):
        client.execute_command("ACL", "SETUSER", "pawqueue", "on", ">pass", *RIGHTS)
        with running_services(url.replace("redis://", "redis://pawqueue:pass@"), tmp_path) as services:
            assert classify(services.url) == "dark"
            assert httpx.get(f"{services.url}/v1/status").json()["ready"]
            services.worker.stop()
            job = httpx.post(f"{services.url}/v1/jobs", content=draw()).json()
            assert httpx.delete(f"{services.url}/v1/jobs/{job['id']}?purge=true").status_code == 204
            services.gateway.stop()
        denied = {entry["object"] for entry in client.acl_log()}
        assert denied <= {"client", "client|setinfo", "client|maint_notifications"}  # redis-py does without them
