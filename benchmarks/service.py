"""The processes that are measured: a Redis, a gateway and workers on free ports, the bare loop, the load."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import cpu_s
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from deploy.local.ports import pick_ports
from deploy.local.redis_server import find_redis_server, redis_command

ROOT = Path(__file__).parent.parent
_START_S = 180.0
_STOP_S = 40.0
_LOOK_S = 0.01


class BenchmarkError(Exception):
    """A measured process ended or did not answer."""


@dataclass
class Started:
    """A running process."""

    name: str
    handle: "subprocess.Popen[str]"
    log: Path
    started_s: float = field(default_factory=time.perf_counter)
    #: Seconds from its start until it was ready.
    ready_s: float = 0.0

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.handle.pid

    def check(self) -> None:
        """Return if it runs."""
        if self.handle.poll() is not None:
            raise BenchmarkError(f"{self.name} has ended; its log ends:\n{self.log.read_text()[-2000:]}")


@contextmanager
def started(name: str, command: list[str], folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Run `command`, its log in `folder`; it is ended at the exit of the context."""
    log = folder / f"{name}.log"
    began_s = time.perf_counter()
    with log.open("a") as output:
        handle = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if name == "bare" else output,
            stderr=output,
            text=True,
        )
    process = Started(name, handle, log, began_s)
    try:
        yield process
    finally:
        handle.terminate()
        try:
            handle.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            handle.kill()
            handle.wait()


def until(condition: Callable[[], bool], *processes: Started) -> float:
    """Return the time at which `condition` began to hold; the processes must live meanwhile."""
    end_s = time.perf_counter() + _START_S
    while not condition():
        for process in processes:
            process.check()
        if time.perf_counter() > end_s:
            raise BenchmarkError(f"{processes[-1].name} was not ready within {_START_S:g} s: {processes[-1].log}")
        time.sleep(_LOOK_S)
    return time.perf_counter()


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
        """One more worker, ready; its model computes on `cores`, as `make up` would share them out."""
        known = len(self.ledger().workers())
        command = [sys.executable, "-m", "worker"]
        environ = self.environ | ({"PAWQUEUE_WORKER_CORES": str(cores)} if cores else {})
        with started(f"worker-{len(self.workers)}", command, self.folder, environ) as worker:
            ready_at_s = until(lambda: len(self.ledger().workers()) > known, worker)
            worker.ready_s = ready_at_s - worker.started_s
            self.workers.append(worker)
            yield worker
            self.workers.remove(worker)

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far, by part."""
        return {
            "gateway": cpu_s(self.gateway.pid),
            "worker": sum(cpu_s(worker.pid) for worker in self.workers),
            "redis": cpu_s(self.redis.pid),
        }

    def load(self, *arguments: Any, port: int = 0) -> dict[str, Any]:
        """Run the load and add CPU milliseconds an image by part; `cpu_ms` holds the load's own as well."""
        before = self.cpu()
        result = run_load(port or self.port, *arguments)
        used = {name: used_s - before[name] for name, used_s in self.cpu().items()}
        # The warm-up's share counts in both.
        sent = max(1, result["sent"])
        result["cpu_ms"] = {name: used_s * 1000 / sent for name, used_s in used.items()} | {
            "load": result["load_cpu_ms"]
        }
        return result


def run_load(port: int, *arguments: Any) -> dict[str, Any]:
    """Run the load in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"The load failed: {done.stderr[-1500:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failures"]:
        raise BenchmarkError(f"Not all images came through: {result['failures']}")
    return result


@contextmanager
def service(folder: Path, *, workers: int = 1, **settings: Any) -> Iterator[Service]:
    """Start a service of its own; `settings` are those of the table."""
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
        until(lambda: redis_answers(port + 1), redis)
        gateway = stack.enter_context(started("gateway", [sys.executable, "-m", "gateway"], folder, environ))
        made = Service(folder, port + 1, port, environ, redis, gateway)
        gateway.ready_s = until(lambda: answers(f"{made.url}/readyz"), gateway) - gateway.started_s
        for _ in range(workers):
            stack.enter_context(made.worker())
        yield made


def redis_answers(port: int) -> bool:
    """Whether a Redis listens there."""
    try:
        Ledger(connect(f"redis://127.0.0.1:{port}/0")).ping()
    except Exception:  # noqa: BLE001 - whatever it is, it is not ready
        return False
    return True


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of ours
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


class BareProcess:
    """The bare loop in a process of its own, ready to measure."""

    def __init__(self, process: Started) -> None:
        self.process = process
        self.ready_s = 0.0

    def ask(self, what: str, number: float) -> dict[str, float]:
        """`loop` for that many seconds, or `single` that many times."""
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
def bare_process(folder: Path, model: Path, precision: str) -> Iterator[BareProcess]:
    """Start the bare loop; yields when it is warm, with the seconds that took."""
    command = [sys.executable, "-m", "benchmarks.bare", str(model), precision]
    with started("bare", command, folder) as process:
        bare = BareProcess(process)
        assert process.handle.stdout
        while process.handle.stdout.readline().strip() != "ready":
            process.check()
        bare.ready_s = time.perf_counter() - process.started_s
        yield bare
