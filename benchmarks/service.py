"""The services that are measured: Redis, gateway and workers on free ports, and the bare loop beside them."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, BenchmarkError, Started, cpu_s, family, started, wait_until
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from deploy.local.ports import pick_ports
from deploy.local.redis_server import find_redis_server, redis_command


@dataclass
class Service:
    """A running service: Redis, gateway, and any number of workers."""

    folder: Path
    redis_port: int
    port: int
    environ: dict[str, str]
    redis: Started
    gateway: Started
    workers: list[Started] = field(default_factory=list)

    @property
    def redis_url(self) -> str:
        """Address of its Redis."""
        return f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def url(self) -> str:
        """Address of its gateway."""
        return f"http://127.0.0.1:{self.port}"

    def ledger(self) -> Ledger:
        """Its job ledger."""
        return Ledger(connect(self.redis_url))

    @contextmanager
    def worker(self, cores: int | None = None) -> Iterator[Started]:
        """Run one more worker, with its model on `cores` CPU cores; the worker is ready when the context is entered."""
        known = len(self.ledger().workers())
        command = [sys.executable, "-m", "worker"]
        environ = self.environ | ({"PAWQUEUE_WORKER_CORES": str(cores)} if cores else {})
        with started(f"worker-{len(self.workers)}", command, self.folder, environ) as worker:
            ready_at_s = wait_until(lambda: len(self.ledger().workers()) > known, worker)
            worker.ready_s = ready_at_s - worker.started_s
            self.workers.append(worker)
            yield worker
            self.workers.remove(worker)

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far, by part."""
        return {
            "gateway": cpu_s(family(self.gateway.pid)),
            "worker": sum(cpu_s(family(worker.pid)) for worker in self.workers),
            "redis": cpu_s(family(self.redis.pid)),
        }

    def load(self, *arguments: Any) -> dict[str, Any]:
        """Run the load; the result also has `cpu_ms`, CPU milliseconds per image by part, including the load's own."""
        before = self.cpu()
        result = run_load(self.port, *arguments)
        used = {name: used_s - before[name] for name, used_s in self.cpu().items()}
        sent = max(1, result["sent"])  # with the warm-up, whose CPU time is also counted
        result["cpu_ms"] = {name: used_s * 1000 / sent for name, used_s in used.items()} | {
            "load": result["load_cpu_ms"]
        }
        return result


@contextmanager
def service(folder: Path, *, workers: int = 1, **settings: Any) -> Iterator[Service]:
    """Start a service; `settings` are Pawqueue's, in lower case and without the prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        port = pick_ports(2)
        data = folder / "redis"
        data.mkdir(exist_ok=True)
        redis = stack.enter_context(started("redis", redis_command(find_redis_server(), port + 1, data), folder))
        environ = {
            "PAWQUEUE_REDIS_URL": f"redis://127.0.0.1:{port + 1}/0",
            "PAWQUEUE_GATEWAY_PORT": str(port),
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_WORKER_METRICS_PORT": "0",
            **{f"PAWQUEUE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        wait_until(lambda: _redis_is_ready(port + 1), redis)
        gateway = stack.enter_context(started("gateway", [sys.executable, "-m", "gateway"], folder, environ))
        made = Service(folder, port + 1, port, environ, redis, gateway)
        gateway.ready_s = wait_until(lambda: _succeeds(f"{made.url}/readyz"), gateway) - gateway.started_s
        for _ in range(workers):
            stack.enter_context(made.worker())
        yield made


def run_load(port: int, *arguments: Any) -> dict[str, Any]:
    """Run `benchmarks.load` in a process of its own; returns its result."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"The load failed: {done.stderr[-1500:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failures"]:
        raise BenchmarkError(f"Some images failed: {result['failures']}")
    return result


class BareLoop:
    """The bare loop (`bare.py`) in a process of its own, ready to measure."""

    def __init__(self, process: Started) -> None:
        self.process = process
        self.ready_s = 0.0

    def measure(self, what: str, number: float) -> dict[str, float]:
        """Run `loop` for `number` seconds, or `single` `number` times."""
        pipe_in, pipe_out = self.process.handle.stdin, self.process.handle.stdout
        assert pipe_in
        assert pipe_out
        pipe_in.write(f"{what} {number}\n")
        pipe_in.flush()
        line = pipe_out.readline()
        self.process.check()
        result: dict[str, float] = json.loads(line)
        return result


@contextmanager
def bare_loop(folder: Path, model: Path, precision: str) -> Iterator[BareLoop]:
    """Start the bare loop; it is warmed up when the context is entered."""
    command = [sys.executable, "-m", "benchmarks.bare", str(model), precision]
    with started("bare", command, folder) as process:
        bare = BareLoop(process)
        assert process.handle.stdout
        while process.handle.stdout.readline().strip() != "ready":
            process.check()
        bare.ready_s = time.perf_counter() - process.started_s
        yield bare


def _redis_is_ready(port: int) -> bool:
    try:
        Ledger(connect(f"redis://127.0.0.1:{port}/0")).ping()
    except Exception:  # noqa: BLE001 - it is not ready, whatever the reason
        return False
    return True


def _succeeds(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - a local address
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
