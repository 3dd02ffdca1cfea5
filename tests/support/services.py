"""Starts the real services for tests, as processes on free ports, and stops them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from contract.ledger import keys
from contract.settings import variable_of
from deploy.local.redis_server import find_redis_server, redis_command

ROOT = Path(__file__).parent.parent.parent
_START_S = 90.0
#: Longer than `PAWQUEUE_DRAIN_S`.
_STOP_S = 45.0
WORKER = [sys.executable, "-m", "worker"]


def light_worker(point: str = "none", flag: Path | str = "-") -> list[str]:
    """The command of a worker that serves a trivial model and starts faster; `faulty_worker` explains the arguments."""
    return [sys.executable, "-m", "tests.support.faulty_worker", point, str(flag), "--light"]


def free_port() -> int:
    """A local port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cluster_port() -> int:
    """A local port that is not in use, for a Redis in cluster mode, which also listens on the port 10,000 above it."""
    while (port := free_port()) > 55_000 or accepts_connections(port + 10_000):
        pass
    return port


def accepts_connections(port: int) -> bool:
    """Whether a process on this machine listens on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = _START_S) -> None:
    """Wait until `condition` is true; fails after `timeout_s`. `what` completes "waiting for ..."."""
    end_s, pause_s = time.monotonic() + timeout_s, 0.001
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"Timed out after {timeout_s:g} s waiting for {what}")
        time.sleep(pause_s)
        pause_s = min(0.02, pause_s * 1.5)


def responds(url: str) -> bool:
    """Whether a GET request to `url` succeeds."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


@dataclass
class Process:
    """A running process and its log."""

    handle: "subprocess.Popen[bytes]"
    log: Path

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Stop the process; returns its exit status."""
        if self.handle.poll() is None:
            self.handle.send_signal(signal_number)
        try:
            return self.handle.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.handle.kill()
            raise AssertionError(f"{self.log.stem} did not stop. The end of its log:\n{self.tail()}") from None

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def running(name: str, command: list[str], folder: Path, environ: dict[str, str] | None = None) -> Iterator[Process]:
    """Run `command` with its output in `folder`/`name`.log; stop it when the context exits."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        handle = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(environ or {})}, stdout=output, stderr=subprocess.STDOUT
        )
    process = Process(handle, log)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start Redis as `make up` does; yields its URL."""
    port, data = free_port(), folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    with _serving(redis_command(find_redis_server(), port, data), folder):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def running_redis_with(folder: Path, port: int, *options: str, config: Sequence[str] = ()) -> Iterator[str]:
    """Start Redis with these options after an optional configuration file; yields its URL."""
    command = [str(find_redis_server()), *config, "--port", str(port), "--dir", str(folder), "--save", "", *options]
    with _serving(command, folder):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _serving(command: list[str], folder: Path) -> Iterator[None]:
    """Run Redis; enters once it has read its data. It accepts connections before that, but refuses all commands."""
    before = len(_ready_lines(folder))
    with running("redis", command, folder):
        wait_until(lambda: len(_ready_lines(folder)) > before, "Redis reading its data")
        yield


def _ready_lines(folder: Path) -> list[str]:
    """The last line that Redis, or a Sentinel, logs when it starts."""
    log = folder / "redis.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line for line in lines if "Ready to accept connections" in line or "Sentinel ID is" in line]


@dataclass
class Stack:
    """A running gateway with Redis and its workers."""

    url: str
    redis_url: str
    folder: Path
    environ: dict[str, str]
    gateway: Process
    workers: list[Process]

    @property
    def metrics_url(self) -> str:
        """The address of the gateway's metrics."""
        return _metrics_url(self.environ)

    @contextmanager
    def another_worker(self, command: list[str] = WORKER) -> Iterator[Process]:
        """Start another worker; yields once it sends heartbeats."""
        before = _worker_ids(self.redis_url)
        with running("worker-2", command, self.folder, self.environ) as worker:
            wait_until(lambda: _is_running(worker) and bool(_worker_ids(self.redis_url) - before), "another worker")
            yield worker

    @contextmanager
    def another_gateway(self, **settings: Any) -> Iterator["Gateway"]:
        """Start another gateway with different settings; yields once it accepts connections."""
        port = free_port()
        changed = {"PAWQUEUE_GATEWAY_PORT": str(port), "PAWQUEUE_GATEWAY_METRICS_PORT": str(free_port())}
        changed |= as_variables(settings)
        environ = self.environ | changed
        with running(f"gateway-{port}", [sys.executable, "-m", "gateway"], self.folder, environ) as process:
            wait_until(lambda: _is_running(process) and accepts_connections(port), "another gateway")
            yield Gateway(f"http://127.0.0.1:{port}", process, environ)


@dataclass
class Gateway:
    """A gateway that runs in addition to the one of the stack."""

    url: str
    process: Process
    environ: dict[str, str]

    def make_key(self, *options: str) -> str:
        """Create an API key with `pawqueue keys create`."""
        command = [sys.executable, "-m", "pawqueue", "keys", "create", "--name", "tests", *options]
        environ = {**os.environ, **self.environ}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    @property
    def metrics_url(self) -> str:
        """The address of its metrics."""
        return _metrics_url(self.environ)

    def memory(self) -> int:
        """The resident memory of all processes of the gateway, in bytes."""
        parent = psutil.Process(self.process.handle.pid)
        return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))


def as_variables(settings: dict[str, Any]) -> dict[str, str]:
    """The environment variables that set these settings."""
    return {variable_of(name): str(value) for name, value in settings.items()}


@contextmanager
def running_stack(folder: Path, worker: list[str] = WORKER, **settings: Any) -> Iterator[Stack]:
    """Start Redis, a gateway and a worker with `settings`; yields once a model is served."""
    with running_redis(folder) as redis_url, running_gateway_and_worker(folder, redis_url, worker, **settings) as stack:
        yield stack


@contextmanager
def running_gateway_and_worker(
    folder: Path, redis_url: str, command: list[str] = WORKER, **settings: Any
) -> Iterator[Stack]:
    """Start a gateway and a worker on a running Redis; yields once a model is served."""
    with ExitStack() as services:
        port = free_port()
        environ = {
            "PAWQUEUE_REDIS_URL": redis_url,
            "PAWQUEUE_GATEWAY_PORT": str(port),
            "PAWQUEUE_GATEWAY_METRICS_PORT": str(free_port()),
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_WORKER_METRICS_PORT": "0",
            **as_variables(settings),
        }
        gateway = services.enter_context(running("gateway", [sys.executable, "-m", "gateway"], folder, environ))
        worker = services.enter_context(running("worker", command, folder, environ))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_running(gateway) and _is_running(worker) and serves_model(url), "a model to be served")
        yield Stack(url, redis_url, folder, environ, gateway, [worker])


def _metrics_url(environ: dict[str, str]) -> str:
    return f"http://127.0.0.1:{environ['PAWQUEUE_GATEWAY_METRICS_PORT']}/metrics"


def serves_model(url: str) -> bool:
    """Whether the gateway at `url` responds and has a worker with a loaded model."""
    return serves_models(url, 1)


def serves_models(url: str, count: int) -> bool:
    """Whether the gateway at `url` responds and has a worker, and this number of models is registered."""
    try:
        with urllib.request.urlopen(f"{url}/v1/status", timeout=5) as response:
            status = json.load(response)
            return bool(status["workers"]) and len(status["models"]) >= count
    except OSError:
        return False


def _is_running(process: Process) -> bool:
    """Always true; fails with the log if the process has exited."""
    if process.handle.poll() is not None:
        raise AssertionError(f"{process.log.stem} exited. The end of its log:\n{process.tail()}")
    return True


def _worker_ids(redis_url: str) -> set[str]:
    """The ids of all workers with a stored heartbeat, including expired ones."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return set(client.hkeys(keys.WORKERS))
