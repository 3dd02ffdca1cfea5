"""`python -m deploy.local up` with the real services: ready, brought back, refused twice, gone in the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deploy.local.commands import demo_environ
from deploy.local.watch import is_ready
from tests.support.services import ROOT, wait_until

COMMAND = [sys.executable, "-m", "deploy.local", "up"]


@dataclass
class Up:
    """A running `up`."""

    process: "subprocess.Popen[bytes]"
    environ: dict[str, str]
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PAWQUEUE_GATEWAY_PORT']}"

    def processes(self) -> list[psutil.Process]:
        """Everything that it runs."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def services(self) -> dict[str, psutil.Process]:
        """The process of each `python -m module`; of a family the oldest."""
        commands = [(process.cmdline(), process) for process in reversed(self.processes())]
        return {command[2]: process for command, process in commands if command[1:2] == ["-m"]}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    environ = demo_environ(os.environ, folder / "state")
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(COMMAND, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT)
    running = Up(process, environ, output)
    try:
        wait_until(lambda: process.poll() is not None or "Ctrl-C" in output.read_text(), "The stack being ready")
        assert process.poll() is None, output.read_text()
        yield running
    finally:
        process.terminate()
        process.wait(60)


def _refused(environ: dict[str, str]) -> str:
    """What a second `up` says that must not start."""
    done = subprocess.run(COMMAND, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    return done.stderr


def test_it_says_where_everything_is(up: Up) -> None:
    text = up.output.read_text()

    assert up.url in text
    assert f"http://127.0.0.1:{up.environ['PAWQUEUE_DASHBOARD_PORT']}" in text
    assert str(Path(up.environ["PAWQUEUE_STATE_DIR"]) / "logs") in text


def test_an_image_is_classified(up: Up) -> None:
    image = (ROOT / "examples" / "photos" / "cat.jpg").read_bytes()
    request = urllib.request.Request(f"{up.url}/v1/jobs", image, {"Prefer": "wait=10", "Content-Type": "image/jpeg"})

    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["status"] == "succeeded"


def test_a_second_one_on_the_same_state_folder_is_refused(up: Up) -> None:
    assert "are running already" in _refused(up.environ)


@pytest.mark.parametrize("name", ["GATEWAY_PORT", "REDIS_PORT", "WORKER_METRICS_PORT"])
def test_a_taken_port_names_its_setting(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        environ = demo_environ({**os.environ, f"PAWQUEUE_{name}": port}, tmp_path)

        assert f"set PAWQUEUE_{name} to another port" in _refused(environ)
    assert not (tmp_path / "run" / "supervisord.conf").exists()


def test_a_killed_gateway_comes_back(up: Up) -> None:
    gateway = up.services()["gateway"]
    gateway.kill()

    wait_until(lambda: not gateway.is_running() and is_ready(up.url), "The gateway coming back", 30)
    wait_until(lambda: "gateway had ended and was started again" in up.output.read_text(), "It being told", 10)


def test_a_killed_worker_is_started_again(up: Up) -> None:
    worker = up.services()["worker"]
    worker.kill()

    wait_until(lambda: "worker-0 had ended and was started again" in up.output.read_text(), "It being told", 10)
    wait_until(lambda: up.services().get("worker", worker) != worker, "Another worker", 10)


def test_sigterm_ends_everything(up: Up) -> None:
    processes = up.processes()
    assert up.services().keys() == {"gateway", "worker", "dashboard", "deploy.local.supervise"}

    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(60) == 0
    assert not [process for process in processes if process.is_running()]
