"""A rolling upgrade under load. `python -m tests.deploy.upgrade --from REVISION` upgrades from REVISION to this code.

Two gateways and two workers of the earlier code use one Redis. They are replaced one by one, as in Kubernetes: a new
gateway gets requests once `/readyz` returns 200, then an earlier one is taken out of rotation and stopped with SIGTERM.
Meanwhile clients send single images, wait for most of the results, and record the responses.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.support.images import draw
from tests.support.services import ROOT, Process, free_port, responds, running, running_redis, wait_until

_CLIENTS = 6
#: Time between removing a gateway from rotation and stopping it, as with a `preStop` pause.
_OUT_S = 0.5
#: How long each combination of versions is under load.
_STAGE_S = 2.0


@dataclass
class Report:
    """The responses that clients received, and how the earlier processes exited."""

    #: Job id -> (status, attempts).
    jobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    #: Responses and connection errors that clients must not see.
    faults: list[str] = field(default_factory=list)
    #: Exit statuses of the earlier processes.
    exits: dict[str, int] = field(default_factory=dict)


class Rotation:
    """The gateways that get requests, like the endpoints of a Service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urls: list[str] = []
        self._turn = 0

    def add(self, url: str) -> None:
        """Add a gateway to the rotation."""
        with self._lock:
            self._urls.append(url)

    def remove(self, url: str) -> None:
        """Remove a gateway from the rotation."""
        with self._lock:
            self._urls.remove(url)

    def next(self) -> str:
        """The gateway for the next request."""
        with self._lock:
            self._turn += 1
            return self._urls[self._turn % len(self._urls)]


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """Check out a revision into a separate folder."""
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "add", "--detach", "--force", folder, revision], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", folder], check=True, capture_output=True)


@contextmanager
def running_service(name: str, package: str, code: Path, folder: Path, settings: dict[str, str]) -> Iterator[Process]:
    """Run the service in `package` of a checked-out revision, with its state and its log in `folder`."""
    environ = {"PAWQUEUE_STATE_DIR": str(folder / "state"), "PYTHONPATH": str(code), **settings}
    # Run it in the folder of its code, because `python -m` searches the current folder first.
    command = ["sh", "-c", f'cd "$0" && exec "$1" -m {package}', str(code), sys.executable]
    with running(name, command, folder, environ) as process:
        wait_until(lambda: Path(psutil.Process(process.handle.pid).cwd()) == code.resolve(), f"{name} to start")
        yield process


@dataclass
class Upgrade:
    """The services, which are replaced one by one."""

    folder: Path
    redis_url: str
    before: Path
    report: Report = field(default_factory=Report)
    rotation: Rotation = field(default_factory=Rotation)
    _running: ExitStack = field(default_factory=ExitStack)

    def gateway(self, name: str, code: Path) -> tuple[Process, str]:
        """Start a gateway and add it to the rotation once it is ready."""
        port = free_port()
        process = self._start(name, "gateway", code, {"PAWQUEUE_GATEWAY_PORT": str(port)})
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_ready(f"{url}/readyz", process), f"{name} to become ready")
        self.rotation.add(url)
        return process, url

    def worker(self, name: str, code: Path) -> Process:
        """Start a worker and wait until it is ready."""
        port = free_port()
        process = self._start(name, "worker", code, {"PAWQUEUE_WORKER_METRICS_PORT": str(port)})
        wait_until(lambda: _is_ready(f"http://127.0.0.1:{port}/readyz", process), f"{name} to become ready")
        return process

    def run(self) -> Report:
        """Replace all services under load."""
        with self._running, ExitStack() as load:
            gateways = [self.gateway(f"gateway-{n}", self.before) for n in range(2)]
            workers = [self.worker(f"worker-{n}", self.before) for n in range(2)]
            load.enter_context(self._load())
            time.sleep(_STAGE_S)
            for number, worker in enumerate(workers):
                self.worker(f"new-worker-{number}", ROOT)
                self.report.exits[f"worker-{number}"] = worker.stop()
                time.sleep(_STAGE_S)
            for number, (gateway, url) in enumerate(gateways):
                self.gateway(f"new-gateway-{number}", ROOT)
                self.rotation.remove(url)
                time.sleep(_OUT_S)
                self.report.exits[f"gateway-{number}"] = gateway.stop()
                time.sleep(_STAGE_S)
            load.close()
            self._follow()
            return self.report

    def _start(self, name: str, package: str, code: Path, settings: dict[str, str]) -> Process:
        return self._running.enter_context(
            running_service(name, package, code, self.folder, {"PAWQUEUE_REDIS_URL": self.redis_url, **settings})
        )

    @contextmanager
    def _load(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._send, args=(stop, n)) for n in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _send(self, stop: threading.Event, number: int) -> None:
        """Send images one after another, and wait for the result of two out of three."""
        image, count = draw((160, 120), (number * 20, 90, 30), form="JPEG"), 0
        with httpx.Client(timeout=90) as http:
            while not stop.is_set():
                count += 1
                headers = {"Prefer": "wait=30"} if count % 3 else {}
                try:
                    self._record(http.post(f"{self.rotation.next()}/v1/jobs", content=image, headers=headers))
                except httpx.HTTPError as error:
                    self.report.faults.append(repr(error))

    def _record(self, response: httpx.Response) -> None:
        self.report.statuses[response.status_code] += 1
        if response.status_code in (200, 202):
            job = response.json()
            self.report.jobs[job["id"]] = (job["status"], job["attempts"])
        elif response.status_code == 503 and response.headers.get("Retry-After"):
            time.sleep(0.1)
        else:
            self.report.faults.append(f"{response.status_code} {response.text[:200]}")

    def _follow(self) -> None:
        """Read every job that was not finished in its first response."""
        with httpx.Client(timeout=90) as http:
            for job_id, (status, _) in self.report.jobs.items():
                if status in ("queued", "running"):
                    response = http.get(f"{self.rotation.next()}/v1/jobs/{job_id}", headers={"Prefer": "wait=60"})
                    job = response.json()
                    self.report.jobs[job_id] = (job["status"], job["attempts"])


def _is_ready(url: str, process: Process) -> bool:
    assert process.handle.poll() is None, f"{process.log.stem} exited. The end of its log:\n{process.tail()}"
    return responds(url)


def upgrade_from(revision: str, folder: Path) -> Report:
    """Upgrade from a revision to this code."""
    with checked_out(revision, folder / "before") as before, running_redis(folder) as redis_url:
        return Upgrade(folder, redis_url, before).run()


def main() -> int:
    """Run the upgrade and print the report; returns 1 if a job did not succeed or a client saw an error."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.upgrade", description=__doc__)
    parser.add_argument("--from", dest="revision", default="HEAD~1", help="git revision (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pawqueue-upgrade-") as folder:
        report = upgrade_from(given.revision, Path(folder))
    print(f"from {given.revision}: responses {dict(report.statuses)}, errors {len(report.faults)}")
    print(f"jobs {len(report.jobs):,}: {dict(Counter(report.jobs.values()))}; exit statuses {report.exits}")
    for fault in report.faults[:10]:
        print(f"  {fault}")
    passed = not report.faults and {status for status, _ in report.jobs.values()} == {"succeeded"}
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
