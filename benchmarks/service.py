"""Starts Redis, a gateway and workers on free ports, the load generator, and the bare loop."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, BenchmarkError, Process, cpu_s, process_tree, running, wait_until
from contract.images.store import open_image_store
from contract.job import Job, new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Submit
from deploy.local.ports import pick_ports
from deploy.local.redis_server import find_redis_server, redis_command

_FILLED_AT_ONCE = 32


@dataclass
class Service:
    """A running service: Redis, gateway, and any number of workers."""

    folder: Path
    redis_port: int
    port: int
    environ: dict[str, str]
    redis: Process
    gateway: Process
    workers: list[Process] = field(default_factory=list)

    @property
    def redis_url(self) -> str:
        """Address of Redis."""
        return f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://127.0.0.1:{self.port}"

    def ledger(self) -> Ledger:
        """The job ledger."""
        return Ledger(connect(self.redis_url))

    @contextmanager
    def worker(self, cores: int | None = None) -> Iterator[Process]:
        """Start another worker, with its model on `cores` CPU cores; it is ready when the context is entered."""
        known = {worker.id for worker in self.ledger().workers()}
        command = [sys.executable, "-m", "worker"]
        environ = self.environ | ({"PAWQUEUE_WORKER_CORES": str(cores)} if cores else {})
        with running(f"worker-{len(self.workers)}", command, self.folder, environ) as worker:
            ready_at_s = wait_until(lambda: any(w.id not in known for w in self.ledger().workers()), worker)
            worker.ready_s = ready_at_s - worker.started_s
            self.workers.append(worker)
            yield worker
            self.workers.remove(worker)

    def fill_queue(self, queue: str, count: int, data: bytes) -> None:
        """Queue `count` jobs for the image `data` directly, without the gateway."""
        fill_queue(self.redis_url, self.folder / "state", queue, count, data)

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far, by service."""
        return {
            "gateway": cpu_s(process_tree(self.gateway.pid)),
            "worker": sum(cpu_s(process_tree(worker.pid)) for worker in self.workers),
            "redis": cpu_s(process_tree(self.redis.pid)),
        }

    def load(self, *arguments: Any) -> dict[str, Any]:
        """Run the load generator; the figures also have `cpu_ms`, the CPU milliseconds per image of each part."""
        before = self.cpu()
        result = run_load(self.port, *arguments)
        used = {name: used_s - before[name] for name, used_s in self.cpu().items()}
        sent = max(1, result["sent"])  # including the warm-up, whose CPU time is counted too
        result["cpu_ms"] = {name: used_s * 1000 / sent for name, used_s in used.items()} | {
            "load": result["load_cpu_ms"]
        }
        return result


@contextmanager
def service(
    folder: Path, *, workers: int = 1, environ: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Service]:
    """Start a service; `settings` are Pawqueue's settings, in lower case and without the prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as contexts:
        port = pick_ports(2)
        data = folder / "redis"
        data.mkdir(exist_ok=True)
        redis = contexts.enter_context(running("redis", redis_command(find_redis_server(), port + 1, data), folder))
        environ = {
            **(environ or {}),
            "PAWQUEUE_REDIS_URL": f"redis://127.0.0.1:{port + 1}/0",
            "PAWQUEUE_GATEWAY_PORT": str(port),
            "PAWQUEUE_GATEWAY_METRICS_PORT": "0",
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_WORKER_METRICS_PORT": "0",
            **{f"PAWQUEUE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        wait_until(lambda: _redis_is_ready(port + 1), redis)
        gateway = contexts.enter_context(running("gateway", [sys.executable, "-m", "gateway"], folder, environ))
        stack = Service(folder, port + 1, port, environ, redis, gateway)
        gateway.ready_s = wait_until(lambda: _succeeds(f"{stack.url}/readyz"), gateway) - gateway.started_s
        for _ in range(workers):
            contexts.enter_context(stack.worker())
        yield stack


def fill_queue(redis_url: str, state_dir: Path, queue: str, count: int, data: bytes) -> None:
    """Write jobs and images as a gateway does, but directly to Redis and the image store."""
    ledger = Ledger(connect(redis_url))
    images, limits = open_image_store(str(state_dir / "images"), 86_400), QueueLimits(10**9, 10**15)
    for at in range(0, count, _FILLED_AT_ONCE):
        jobs = [
            Job(new_job_id(), queue, now_ms(), file="image.jpg", size_bytes=len(data), image=images.put(data))
            for _ in range(min(_FILLED_AT_ONCE, count - at))
        ]
        ledger.submit([Submit(job) for job in jobs], limits)


def run_load(port: int, *arguments: Any) -> dict[str, Any]:
    """Run the load generator (`load.py`) in its own process; returns its figures."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"The load generator failed: {done.stderr[-1500:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failures"]:
        raise BenchmarkError(f"Some images failed: {result['failures']}")
    if not result["count"]:
        raise BenchmarkError("No image was finished in time. Stop other programs, and measure again.")
    return result


class BareLoopProcess:
    """The bare loop (`bare.py`) in its own process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.ready_s = 0.0

    def measure(self, mode: str, number: float) -> dict[str, float]:
        """Measure for `number` seconds in mode `loop`, or `number` images in mode `single`."""
        pipe_in, pipe_out = self.process.handle.stdin, self.process.handle.stdout
        assert pipe_in
        assert pipe_out
        pipe_in.write(f"{mode} {number}\n")
        pipe_in.flush()
        line = pipe_out.readline()
        self.process.check()
        result: dict[str, float] = json.loads(line)
        return result


@contextmanager
def bare_loop(
    folder: Path, model: Path, precision: str, environ: Mapping[str, str] | None = None
) -> Iterator[BareLoopProcess]:
    """Start the bare loop; it is warmed up when the context is entered."""
    command = [sys.executable, "-m", "benchmarks.bare", str(model), precision]
    with running("bare", command, folder, environ) as process:
        bare = BareLoopProcess(process)
        assert process.handle.stdout
        while process.handle.stdout.readline().strip() != "ready":
            process.check()
        bare.ready_s = time.perf_counter() - process.started_s
        yield bare


def _redis_is_ready(port: int) -> bool:
    try:
        Ledger(connect(f"redis://127.0.0.1:{port}/0")).ping()
    except Exception:  # noqa: BLE001 - any error means that it is not ready
        return False
    return True


def _succeeds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - a local address
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
