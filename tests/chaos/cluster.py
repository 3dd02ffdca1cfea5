"""Real services that are restarted when they exit, and methods that kill them."""

import signal
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import redis

from contract.ledger import keys
from deploy.local.redis_server import find_redis_server, redis_command
from tests.support.faulty_worker import NO_POINT
from tests.support.proxy import CuttableProxy, cuttable
from tests.support.redis_users import make_users
from tests.support.services import Process, accepts_connections, free_port, running, wait_until

FAULT_POINTS = ("before_unacked", "before_claim", "in_decode", "in_predict", "before_commit", "after_commit")
_POLL_S = 0.05


class RestartedService:
    """A service that is restarted when it exits."""

    def __init__(self, name: str, command: Callable[[], list[str]], folder: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.starts = 0
        self._command, self._folder, self._environ = command, folder, environ
        self._stopping = threading.Event()
        self._may_start = threading.Event()
        self._may_start.set()
        self._process: Process | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the service."""
        self._thread.start()

    def kill(self) -> bool:
        """Send SIGKILL; False if the service was not running."""
        if self._process is None or self._process.handle.poll() is not None:
            return False
        self._process.handle.send_signal(signal.SIGKILL)
        self._process.handle.wait()
        return True

    def take_down(self) -> None:
        """Kill the service and do not restart it until `bring_up`."""
        self._may_start.clear()
        self.kill()

    def bring_up(self) -> None:
        """Restart the service after `take_down`."""
        self._may_start.set()

    def stop(self) -> int:
        """Shut the service down; returns its exit status."""
        self._stopping.set()
        self._may_start.set()
        self._thread.join(60)
        return self._process.handle.returncode if self._process else -1

    @property
    def pid(self) -> int:
        """The id of the running process; 0 if there is none."""
        return self._process.handle.pid if self._process and self._process.handle.poll() is None else 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._may_start.wait()
            if self._stopping.is_set():
                return
            with running(self.name, self._command(), self._folder, self._environ) as process:
                self._process = process
                self.starts += 1
                while process.handle.poll() is None and not self._stopping.is_set():
                    self._stopping.wait(_POLL_S)


class Cluster:
    """Redis behind a proxy that can be cut, with a user for each service, one gateway, some workers and notifiers."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        settings: dict[str, str],
        points: Sequence[str] = FAULT_POINTS,
        *,
        light: bool = False,
        notifiers: int = 0,
    ) -> None:
        self.folder = folder
        redis_port, gateway_port = free_port(), free_port()
        data = folder / "redis"
        data.mkdir(parents=True)
        self._services = ExitStack()
        self.proxy: CuttableProxy = self._services.enter_context(cuttable(redis_port))
        users = make_users(folder / "users")
        self.redis_url = users.url("admin", redis_port)
        self.url = f"http://127.0.0.1:{gateway_port}"
        #: The settings of gateway and workers, except the URL of Redis.
        self.environ = {
            "PAWQUEUE_GATEWAY_PORT": str(gateway_port),
            "PAWQUEUE_GATEWAY_METRICS_PORT": "0",
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_WORKER_METRICS_PORT": "0",
            "PAWQUEUE_NOTIFIER_METRICS_PORT": "0",
            "PAWQUEUE_LOG_LEVEL": "warning",
            **settings,
        }
        binary, *options = redis_command(find_redis_server(), redis_port, data)
        self.redis = RestartedService("redis", lambda: [binary, str(users.config), *options], folder, {})
        as_gateway, as_worker, as_notifier = (
            self.environ | {"PAWQUEUE_REDIS_URL": users.url(user, self.proxy.port)}
            for user in ("gateway", "worker", "notifier")
        )
        self.gateway = RestartedService("gateway", lambda: [sys.executable, "-m", "gateway"], folder, as_gateway)
        self.workers = [
            RestartedService(f"worker-{number}", self._worker_command, folder, as_worker) for number in range(workers)
        ]
        notifier = [sys.executable, "-m", "gateway.notifier"]
        self.notifiers = [
            RestartedService(f"notifier-{number}", lambda: notifier, folder, as_notifier) for number in range(notifiers)
        ]
        # A light worker serves a trivial model and starts within a second.
        self._light = ["--light"] if light else []
        self._points = list(points)
        self._armed: list[str] = []
        self._turn = -1

    def _worker_command(self) -> list[str]:
        """The command of a worker with the next unreached fault point, or without one if all were reached."""
        pending = [point for point in self._points if point not in self.faults_reached]
        if not pending:
            return self._command_of(NO_POINT)
        self._turn += 1
        point = pending[self._turn % len(pending)]
        if point not in self._armed:
            self._armed.append(point)
            (self.folder / f"fault-{point}").touch()
        return self._command_of(point)

    def _command_of(self, point: str) -> list[str]:
        flag = self.folder / f"fault-{point}"
        return [sys.executable, "-m", "tests.support.faulty_worker", point, str(flag), *self._light]

    def serving(self) -> list[RestartedService]:
        """The running workers that have sent a heartbeat."""
        try:
            with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
                known = {int(worker_id.rsplit("-", 2)[1]) for worker_id in client.hkeys(keys.WORKERS)}
        except redis.RedisError:
            return []
        return [worker for worker in self.workers if worker.pid in known]

    def get_from_worker(self, path: str) -> tuple[int, str]:
        """Status and text of a GET request to the metrics port that `settings` contain; status 0 if it is closed."""
        url = f"http://127.0.0.1:{self.environ['PAWQUEUE_WORKER_METRICS_PORT']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def release(self, point: str) -> None:
        """Let the worker that waits at a fault point continue."""
        (self.folder / f"fault-{point}").unlink()

    @property
    def faults_reached(self) -> list[str]:
        """The fault points that were reached."""
        return [point for point in self._armed if not (self.folder / f"fault-{point}").exists()]

    def __enter__(self) -> "Cluster":
        self.redis.start()
        port = urllib.parse.urlsplit(self.redis_url).port or 0
        wait_until(lambda: accepts_connections(port), "Redis to accept connections", 20)
        for service in (self.gateway, *self.workers, *self.notifiers):
            service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.restore()
        for service in (*self.workers, *self.notifiers, self.gateway, self.redis):
            service.stop()
        self._services.close()
