"""A rolling upgrade under load: `python -m tests.deploy.upgrade --from REVISION` goes from that revision to this code.

Two gateways and two workers of the earlier code serve one Redis. Each is replaced as Kubernetes would do it: one of
this code gets requests as soon as `/readyz` says so, the earlier one is taken out of rotation and ended by SIGTERM.
Meanwhile clients send single images, wait for most results, and keep their own list of what they were told.
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
from tests.support.services import ROOT, Process, answers, free_port, running, running_redis, wait_until

_CLIENTS = 6
#: How long a gateway goes on after it was taken out of rotation: what a `preStop` pause is for.
_OUT_S = 0.5
#: How long every mix of versions is under load, in seconds.
_STAGE_S = 2.0


@dataclass
class Told:
    """What clients were told, by their own list."""

    #: Job id -> (status, times that its image was tried).
    jobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    #: Answers that no client should ever get.
    faults: list[str] = field(default_factory=list)
    #: Exit statuses of the earlier processes.
    exits: dict[str, int] = field(default_factory=dict)


class Rotation:
    """The gateways that get requests, as a Service knows them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urls: list[str] = []
        self._turn = 0

    def add(self, url: str) -> None:
        """Send requests there as well."""
        with self._lock:
            self._urls.append(url)

    def remove(self, url: str) -> None:
        """Send no more there."""
        with self._lock:
            self._urls.remove(url)

    def next(self) -> str:
        """Where the next request goes."""
        with self._lock:
            self._turn += 1
            return self._urls[self._turn % len(self._urls)]


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """The code of a revision in a folder of its own."""
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "worktree", "add", "--detach", "--force", folder, revision], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", folder], check=True, capture_output=True)


@dataclass
class Upgrade:
    """The services, and how one after the other is replaced."""

    folder: Path
    redis_url: str
    before: Path
    told: Told = field(default_factory=Told)
    rotation: Rotation = field(default_factory=Rotation)
    _running: ExitStack = field(default_factory=ExitStack)

    def gateway(self, name: str, code: Path) -> tuple[Process, str]:
        """Start a gateway, and send requests there once it is ready."""
        port = free_port()
        process = self._start(name, "gateway", code, {"PAWQUEUE_GATEWAY_PORT": str(port)})
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_ready(f"{url}/readyz", process), f"{name} becoming ready")
        self.rotation.add(url)
        return process, url

    def worker(self, name: str, code: Path) -> Process:
        """Start a worker; returns when it is ready."""
        port = free_port()
        process = self._start(name, "worker", code, {"PAWQUEUE_WORKER_METRICS_PORT": str(port)})
        wait_until(lambda: _is_ready(f"http://127.0.0.1:{port}/readyz", process), f"{name} becoming ready")
        return process

    def run(self) -> Told:
        """Replace everything under load; returns what clients were told."""
        with self._running, ExitStack() as load:
            gateways = [self.gateway(f"gateway-{n}", self.before) for n in range(2)]
            workers = [self.worker(f"worker-{n}", self.before) for n in range(2)]
            load.enter_context(self._load())
            time.sleep(_STAGE_S)
            for number, worker in enumerate(workers):
                self.worker(f"new-worker-{number}", ROOT)
                self.told.exits[f"worker-{number}"] = worker.stop()
                time.sleep(_STAGE_S)
            for number, (gateway, url) in enumerate(gateways):
                self.gateway(f"new-gateway-{number}", ROOT)
                self.rotation.remove(url)
                time.sleep(_OUT_S)
                self.told.exits[f"gateway-{number}"] = gateway.stop()
                time.sleep(_STAGE_S)
            load.close()
            self._follow()
            return self.told

    def _start(self, name: str, package: str, code: Path, settings: dict[str, str]) -> Process:
        environ = {
            "PAWQUEUE_REDIS_URL": self.redis_url,
            "PAWQUEUE_STATE_DIR": str(self.folder / "state"),
            "PYTHONPATH": str(code),
            **settings,
        }
        # From the folder of its code: `python -m` looks there first.
        command = ["sh", "-c", f'cd "$0" && exec "$1" -m {package}', str(code), sys.executable]
        process = self._running.enter_context(running(name, command, self.folder, environ))
        wait_until(lambda: Path(psutil.Process(process.handle.pid).cwd()) == code.resolve(), f"{name} starting")
        return process

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
        """Send images one after another; a third of them without waiting for the result."""
        image, count = draw((160, 120), (number * 20, 90, 30), form="JPEG"), 0
        with httpx.Client(timeout=90) as http:
            while not stop.is_set():
                count += 1
                headers = {"Prefer": "wait=30"} if count % 3 else {}
                try:
                    self._note(http.post(f"{self.rotation.next()}/v1/jobs", content=image, headers=headers))
                except httpx.HTTPError as error:
                    self.told.faults.append(repr(error))

    def _note(self, answer: httpx.Response) -> None:
        self.told.statuses[answer.status_code] += 1
        if answer.status_code in (200, 202):
            job = answer.json()
            self.told.jobs[job["id"]] = (job["status"], job["attempts"])
        elif answer.status_code == 503 and answer.headers.get("Retry-After"):
            time.sleep(0.1)
        else:
            self.told.faults.append(f"{answer.status_code} {answer.text[:200]}")

    def _follow(self) -> None:
        """Ask for every job that had not ended when its sender was answered."""
        with httpx.Client(timeout=90) as http:
            for job_id, (status, _) in self.told.jobs.items():
                if status in ("queued", "running"):
                    answer = http.get(f"{self.rotation.next()}/v1/jobs/{job_id}", headers={"Prefer": "wait=60"})
                    job = answer.json()
                    self.told.jobs[job_id] = (job["status"], job["attempts"])


def _is_ready(url: str, process: Process) -> bool:
    assert process.handle.poll() is None, f"{process.log.stem} ended; its log ends:\n{process.tail()}"
    return answers(url)


def upgrade_from(revision: str, folder: Path) -> Told:
    """Upgrade from a revision to this code; returns what clients were told."""
    with checked_out(revision, folder / "before") as before, running_redis(folder) as redis_url:
        return Upgrade(folder, redis_url, before).run()


def main() -> int:
    """Do it and print what came of it; the exit status is 1 when anything was lost or refused uncleanly."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.upgrade", description=__doc__)
    parser.add_argument("--from", dest="revision", default="HEAD~1", help="a revision of git (default HEAD~1)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pawqueue-upgrade-") as folder:
        told = upgrade_from(given.revision, Path(folder))
    print(f"from {given.revision}: answers {dict(told.statuses)}, faults {len(told.faults)}")
    print(f"jobs {len(told.jobs):,}: {dict(Counter(told.jobs.values()))}; earlier processes left with {told.exits}")
    for fault in told.faults[:10]:
        print(f"  {fault}")
    is_good = not told.faults and {status for status, _ in told.jobs.values()} == {"succeeded"}
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
