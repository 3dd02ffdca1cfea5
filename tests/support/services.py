"""Real services in processes of their own, for tests: started on free ports, stopped and looked after."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from contract.ledger import keys
from deploy.local.redis_server import find_redis_server, redis_command

ROOT = Path(__file__).parent.parent.parent
_START_S = 90.0
#: Longer than `PAWQUEUE_DRAIN_S`.
_STOP_S = 45.0


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = _START_S) -> None:
    """Return as soon as `condition` holds; fail after `timeout_s`."""
    end_s, pause_s = time.monotonic() + timeout_s, 0.001
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(pause_s)
        pause_s = min(0.02, pause_s * 1.5)


def answers(url: str) -> bool:
    """Whether `url` is answered with success just now."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


@dataclass
class Process:
    """A running service."""

    handle: "subprocess.Popen[bytes]"
    log: Path

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End it; returns its exit status."""
        if self.handle.poll() is None:
            self.handle.send_signal(signal_number)
        try:
            return self.handle.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.handle.kill()
            raise AssertionError(f"{self.log.stem} did not stop; its log ends:\n{self.tail()}") from None

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def running(name: str, command: list[str], folder: Path, environ: dict[str, str] | None = None) -> Iterator[Process]:
    """Run `command`, its output in `folder`/`name`.log; it is ended at the exit of the context."""
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
    """A Redis as `make up` starts it; yields its URL."""
    port, data = free_port(), folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    with running("redis", redis_command(find_redis_server(), port, data), folder):
        wait_until(lambda: _accepts(port), "Redis accepting connections", 15)
        yield f"redis://127.0.0.1:{port}/0"


@dataclass
class Stack:
    """A gateway with its worker and Redis."""

    url: str
    redis_url: str
    folder: Path
    environ: dict[str, str]
    gateway: Process
    workers: list[Process]

    @contextmanager
    def another_worker(self) -> Iterator[Process]:
        """A further worker of this stack; it is listed when the context is entered."""
        before = _worker_ids(self.redis_url)
        with running("worker-2", [sys.executable, "-m", "worker"], self.folder, self.environ) as worker:
            wait_until(lambda: _lives(worker) and bool(_worker_ids(self.redis_url) - before), "another worker")
            yield worker

    @contextmanager
    def another_gateway(self, **settings: Any) -> Iterator["Gateway"]:
        """A further gateway of this stack, with settings of its own; it answers when the context is entered."""
        port = free_port()
        changed = {"PAWQUEUE_GATEWAY_PORT": str(port)} | _variables(settings)
        environ = self.environ | changed
        with running(f"gateway-{port}", [sys.executable, "-m", "gateway"], self.folder, environ) as process:
            wait_until(lambda: _lives(process) and _accepts(port), "another gateway")
            yield Gateway(f"http://127.0.0.1:{port}", process, environ)


@dataclass
class Gateway:
    """A gateway beside that of the stack."""

    url: str
    process: Process
    environ: dict[str, str]

    def make_key(self, *options: str) -> str:
        """A new API key, as `pawqueue keys create` prints it."""
        command = [sys.executable, "-m", "pawqueue", "keys", "create", "--name", "tests", *options]
        environ = {**os.environ, **self.environ}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def memory(self) -> int:
        """Resident bytes of its processes."""
        parent = psutil.Process(self.process.handle.pid)
        return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))


def _variables(settings: dict[str, Any]) -> dict[str, str]:
    return {f"PAWQUEUE_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def running_stack(folder: Path, **settings: Any) -> Iterator[Stack]:
    """Start Redis, gateway and one worker; yields when a model is served. `settings` are those of the table."""
    with running_redis(folder) as redis_url, running_gateway_and_worker(folder, redis_url, **settings) as stack:
        yield stack


@contextmanager
def running_gateway_and_worker(folder: Path, redis_url: str, **settings: Any) -> Iterator[Stack]:
    """Start a gateway and a worker on a Redis that runs already; yields when a model is served."""
    with ExitStack() as services:
        port = free_port()
        environ = {
            "PAWQUEUE_REDIS_URL": redis_url,
            "PAWQUEUE_GATEWAY_PORT": str(port),
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_WORKER_METRICS_PORT": "0",
            **_variables(settings),
        }
        gateway = services.enter_context(running("gateway", [sys.executable, "-m", "gateway"], folder, environ))
        worker = services.enter_context(running("worker", [sys.executable, "-m", "worker"], folder, environ))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_served(url, gateway, worker), "A model being served")
        yield Stack(url, redis_url, folder, environ, gateway, [worker])


def _is_served(url: str, *processes: Process) -> bool:
    for process in processes:
        _lives(process)
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(json.load(answer)["model_loaded"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _lives(process: Process) -> bool:
    if process.handle.poll() is not None:
        raise AssertionError(f"{process.log.stem} ended; its log ends:\n{process.tail()}")
    return True


def _worker_ids(redis_url: str) -> set[str]:
    """Of every worker that has been heard of, whether it still lives or not."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return set(client.hkeys(keys.WORKERS))


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
