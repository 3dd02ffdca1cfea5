"""A running set of programs under supervisord: start it, look at it, stop it, and leave nothing behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from deploy.local.errors import LocalError
from deploy.local.supervisor_config import Places, Program, supervisor_config

ROOT = Path(__file__).parents[2]
_LOOK_S = 0.05
_TAIL_LINES = 20
_SWEEP_S = 5.0
_STOP_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """How one program is doing."""

    name: str
    #: 0 when it is not running.
    pid: int
    #: When it was last started, in seconds of the clock; 0 before the first time.
    started_s: int
    #: Supervisor has tried to start it often enough and has stopped trying.
    given_up: bool


class Stack:
    """The programs of one state folder; made by `running_stack`."""

    def __init__(self, places: Places, supervisord: "subprocess.Popen[bytes]", programs: Sequence[Program]) -> None:
        self.places = places
        self._supervisord = supervisord
        self._output = places.log_of("supervisord")
        self._stop_s = sum(program.stop_s for program in programs) + _STOP_MARGIN_S
        self._groups: set[int] = set()  # process groups as last seen; each program leads its own

    def services(self) -> list[Service]:
        """All programs as supervisord sees them; none while it is only just starting.

        Raises:
            LocalError: supervisord itself has ended.
        """
        if self._supervisord.poll() is not None:
            raise LocalError(f"The supervisor has ended by itself; the end of {self._output}:\n{tail_of(self._output)}")
        services = [_service(info) for info in self._ask()]
        if services:
            self._groups = {service.pid for service in services if service.pid}
        return services

    def stop(self) -> None:
        """Stop everything in order, the last started first; what does not stop in its time is killed."""
        with contextlib.suppress(LocalError):
            self.services()  # to know what has to be gone in the end
        if self._supervisord.poll() is None:
            self._supervisord.terminate()
        try:
            self._supervisord.wait(self._stop_s)
        except subprocess.TimeoutExpired:
            self._supervisord.kill()
            self._supervisord.wait()
        self._sweep()

    def _ask(self) -> list[dict[str, Any]]:
        from supervisor.xmlrpc import SupervisorTransport  # noqa: PLC0415 - only a running stack needs it

        transport = SupervisorTransport(None, None, f"unix://{self.places.socket}")
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
                answer: Any = server.supervisor.getAllProcessInfo()
        except (OSError, HTTPException, xmlrpc.client.Error):
            return []
        return list(answer)

    def _sweep(self) -> None:
        # Only a killed supervisord leaves processes behind.
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [group for group in self._groups if _signal_group(group, number)]
            end_s = time.monotonic() + _SWEEP_S
            while any(_signal_group(group, 0) for group in left) and time.monotonic() < end_s:
                time.sleep(_LOOK_S)


@contextlib.contextmanager
def running_stack(programs: Sequence[Program], state_dir: Path, environ: Mapping[str, str]) -> Iterator[Stack]:
    """Run programs in a claimed state folder; at the exit of the context none of them is left."""
    with _socket_folder() as folder:
        places = Places(ROOT, state_dir / "logs", state_dir / "run", folder / "s")
        config = places.run / "supervisord.conf"
        config.write_text(supervisor_config(programs, places))
        stack = Stack(places, _start(config, folder, environ), programs)
        try:
            yield stack
        finally:
            stack.stop()


def tail_of(log: Path) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (nothing)"


def _start(config: Path, socket_folder: Path, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "deploy.local.supervise", str(config), str(socket_folder)]
    with (config.parent / "supervisord.out").open("wb") as output:
        # In a session of its own: Ctrl-C and a closed terminal reach this process, which then stops things in order.
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@contextlib.contextmanager
def _socket_folder() -> Iterator[Path]:
    # The path of a socket may have 104 characters at most; that of a state folder may have more.
    folder = Path(tempfile.mkdtemp(prefix="pawqueue-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _service(info: Mapping[str, Any]) -> Service:
    return Service(info["name"], info["pid"], info["start"], given_up=info["statename"] == "FATAL")


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that has just ended
        return False
    return True
