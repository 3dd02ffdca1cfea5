"""The services under attack: started here as processes, or running in containers."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from contract.access import KeyStore, Scope, make_key
from tests.containers.__main__ import new_project
from tests.containers.tools import require, until
from tests.support.dashboard import running_dashboard
from tests.support.services import responds, running_stack

#: The memory limits of the containers. Processes that are started here must stay below them, too.
MEMORY_MAX_BYTES = {"gateway": 512 << 20, "worker": 3 << 30}
_SAMPLE_S = 0.1
#: Finding the child processes takes longer than reading their memory.
_SAMPLES_PER_SEARCH = 10


@dataclass(frozen=True)
class Target:
    """The addresses of running services, API keys for them, and their processes."""

    url: str
    dashboard_url: str
    #: A gateway that requires no API keys; empty if there is none.
    open_url: str
    attacker_key: str
    #: A key of another client, whose jobs the attacker tries to reach.
    victim_key: str
    honest_key: str
    #: The main process of each service.
    pids: Mapping[str, int]


@contextmanager
def running_processes(folder: Path, **settings: Any) -> Iterator[Target]:
    """Start Redis, a gateway that requires API keys and one that does not, a worker, and a dashboard."""
    with ExitStack() as services:
        stack = services.enter_context(running_stack(folder, access="required", log_level="warning", **settings))
        dashboard = services.enter_context(running_dashboard(folder, stack.environ))
        open_gateway = services.enter_context(stack.another_gateway(access="auto"))
        with redis.Redis.from_url(stack.redis_url) as client:
            attacker, victim, honest = (_new_key(KeyStore(client), name) for name in ("attacker", "victim", "honest"))
            redis_pid = int(client.info("server")["process_id"])
        pids = {
            "gateway": stack.gateway.handle.pid,
            "worker": stack.workers[0].handle.pid,
            "dashboard": dashboard.process.handle.pid,
            "redis": redis_pid,
        }
        yield Target(stack.url, dashboard.url, open_gateway.url, attacker, victim, honest, pids)


@contextmanager
def running_containers(engine: str, compose: str, images: str) -> Iterator[Target]:
    """Start the services of docker-compose.yml, with the images that `make images` built."""
    project = new_project(engine, compose, images, "pawqueue-hostile")
    tools = project.tools
    try:
        tools.up("redis", "gateway", "worker", "dashboard")
        until(project.is_serving, "a worker to start serving", 240)
        until(lambda: responds(f"{project.dashboard_url}/healthz"), "the dashboard to respond")
        found = {name: tools.inspect(tools.containers(name)[0]) for name in ("gateway", "worker", "dashboard", "redis")}
        limits = {name: found[name]["HostConfig"]["Memory"] for name in MEMORY_MAX_BYTES}
        require(limits == MEMORY_MAX_BYTES, f"The containers have other memory limits: {limits}")
        keys = [project.key("submit", "read") for _ in range(3)]
        pids = {name: container["State"]["Pid"] for name, container in found.items()}
        yield Target(project.url, project.dashboard_url, "", *keys, pids)
    finally:
        tools.down()


def _new_key(store: KeyStore, name: str) -> str:
    key, text = make_key(name, (Scope.SUBMIT, Scope.READ))
    store.put(key)
    return text


class Watch:
    """The memory of each service with its child processes, sampled in a thread."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._mains = {name: psutil.Process(pid) for name, pid in pids.items()}
        #: The processes that must survive. A worker's children are helpers, which it may replace.
        self._vital = [
            process
            for name, main in self._mains.items()
            for process in (main, *([] if name == "worker" else main.children(recursive=True)))
        ]
        self._lock = threading.Lock()
        self.start = self.read()
        #: The maximum of each service, in bytes.
        self.peak = dict(self.start)
        self._since = dict(self.start)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def read(self) -> dict[str, int]:
        """The resident memory of each service now, in bytes."""
        return {name: _bytes(_tree(main)) for name, main in self._mains.items()}

    def peaks_since_last_call(self) -> dict[str, int]:
        """The maximum of each service since the last call, in bytes."""
        with self._lock:
            found, self._since = self._since, self.read()
        return found

    def cpu_s(self) -> dict[str, float]:
        """The processor time that each service has used, and "attackers": this process."""
        return {name: _tree_cpu_s(main) for name, main in self._mains.items()} | {"attackers": time.process_time()}

    def dead(self) -> list[str]:
        """Processes that have ended since the start."""
        return [f"process {process.pid}" for process in self._vital if not process.is_running()]

    def _run(self) -> None:
        while not self._stopping.is_set():
            trees = {name: _tree(main) for name, main in self._mains.items()}
            for _ in range(_SAMPLES_PER_SEARCH):
                now = {name: _bytes(tree) for name, tree in trees.items()}
                with self._lock:
                    for maxima in (self.peak, self._since):
                        for name, value in now.items():
                            maxima[name] = max(maxima[name], value)
                self._stopping.wait(_SAMPLE_S)


def _tree_cpu_s(main: psutil.Process) -> float:
    total = 0.0
    for process in _tree(main):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # those of children that have ended are included
    return total


def _bytes(tree: list[psutil.Process]) -> int:
    total = 0
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _tree(main: psutil.Process) -> list[psutil.Process]:
    """A process and its children; empty if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return [main, *main.children(recursive=True)]
    return []
