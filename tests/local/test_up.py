"""`python -m deploy.local up` with the real services: they start, restart when killed, and stop."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from contract.ledger.requirements import check_redis
from contract.settings import load_settings
from deploy.local.commands import demo_environ
from deploy.local.services import is_serving
from tests.support.services import ROOT, wait_until

COMMAND = [sys.executable, "-m", "deploy.local", "up"]


@dataclass
class Up:
    """A running `up` command."""

    process: "subprocess.Popen[bytes]"
    environ: dict[str, str]
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PAWQUEUE_GATEWAY_PORT']}"

    def processes(self) -> list[psutil.Process]:
        """All child processes of the command."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def services(self) -> dict[str, psutil.Process]:
        """The process of each `python -m MODULE`; the parent if a module has several."""
        commands = [(process.cmdline(), process) for process in reversed(self.processes())]
        return {command[2]: process for command, process in commands if command[1:2] == ["-m"]}


@contextmanager
def running_up(state: Path, output: Path) -> Iterator[Up]:
    """Run `up` on free ports, with its output in a file; enters the context when all services are serving."""
    environ = demo_environ(os.environ, state)
    with output.open("wb") as file:
        process = subprocess.Popen(COMMAND, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT)
    running = Up(process, environ, output)
    try:
        wait_until(lambda: process.poll() is not None or "Ctrl-C" in output.read_text(), "the stack to be ready")
        assert process.poll() is None, output.read_text()
        yield running
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    folder = Path(tempfile.mkdtemp())  # other users cannot enter the folders of pytest
    folder.chmod(0o755)
    (folder / "state").mkdir(mode=0o755)  # as version 0.1 made it
    try:
        with running_up(folder / "state", folder / "output") as running:
            yield running
    finally:
        shutil.rmtree(folder)


def _error_of_up(environ: dict[str, str]) -> str:
    """Run `up`, which must exit with status 2; returns its error message."""
    done = subprocess.run(COMMAND, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    return done.stderr


def test_addresses_and_the_log_folder_are_printed(up: Up) -> None:
    text = up.output.read_text()

    assert up.url in text
    assert f"http://127.0.0.1:{up.environ['PAWQUEUE_DASHBOARD_PORT']}" in text
    assert str(Path(up.environ["PAWQUEUE_STATE_DIR"]) / "logs") in text


def test_an_image_is_classified(up: Up) -> None:
    image = (ROOT / "examples" / "photos" / "cat.jpg").read_bytes()
    request = urllib.request.Request(f"{up.url}/v1/jobs", image, {"Prefer": "wait=10", "Content-Type": "image/jpeg"})

    with urllib.request.urlopen(request) as response:
        assert json.load(response)["status"] == "succeeded"


def test_other_users_can_neither_connect_to_redis_nor_read_a_file(up: Up) -> None:
    settings = load_settings(up.environ)
    assert not [path for path in (settings.state_dir, *settings.state_dir.rglob("*")) if _is_open_to_others(path)]
    (server,) = [process for process in up.processes() if process.name() == "redis-server"]
    assert not server.net_connections("inet")
    assert check_redis(settings)[0].unavailable is None
    if os.geteuid() == 0:  # only root can become another user
        with _as_nobody():
            (problem,) = check_redis(settings)[0].problems
        assert problem.text == "belongs to another user"


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except FileNotFoundError:  # a worker has just deleted an image
        return False


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Connect as a user without rights."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_second_up_on_the_same_state_folder_is_rejected(up: Up) -> None:
    assert "are already running" in _error_of_up(up.environ)


@pytest.mark.parametrize(
    "name", ["GATEWAY_PORT", "GATEWAY_METRICS_PORT", "NOTIFIER_METRICS_PORT", "WORKER_METRICS_PORT"]
)
def test_the_error_for_a_port_in_use_names_its_variable(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        environ = demo_environ({**os.environ, f"PAWQUEUE_{name}": port}, tmp_path)

        assert f"set PAWQUEUE_{name} to another port" in _error_of_up(environ)
    assert not (tmp_path / "run" / "supervisord.out").exists()


def test_a_killed_gateway_is_restarted(up: Up) -> None:
    gateway = up.services()["gateway"]
    gateway.kill()

    wait_until(
        lambda: not gateway.is_running() and is_serving(load_settings(up.environ)), "The gateway serving again", 30
    )
    wait_until(lambda: "gateway exited and was restarted" in up.output.read_text(), "the restart to be reported", 10)


def test_a_killed_worker_is_restarted(up: Up) -> None:
    worker = up.services()["worker"]
    worker.kill()

    wait_until(lambda: "worker-0 exited and was restarted" in up.output.read_text(), "the restart to be reported", 10)
    wait_until(lambda: up.services().get("worker", worker) != worker, "another worker", 10)


def test_sigterm_stops_all_processes(up: Up) -> None:
    everything = {"gateway", "gateway.notifier", "worker", "dashboard", "deploy.local.stack"}
    # A gateway that was just restarted first checks Redis in another process.
    wait_until(lambda: up.services().keys() == everything, "all services to run")
    processes = up.processes()

    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(60) == 0
    assert not [process for process in processes if process.is_running()]
