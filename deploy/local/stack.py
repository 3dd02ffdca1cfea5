"""Starts the services under supervisord, lists them, and stops them without leaving a process behind.

`python -m deploy.local.stack CONFIG SOCKET_FOLDER` runs supervisord itself.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from deploy.local.errors import LocalError, UsageError

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("supervisord.conf")
_FOLDERS = ("run", "logs", "redis")
_POLL_S = 0.05
_TAIL_LINES = 20
_KILL_WAIT_S = 5.0
_PARENT_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Service:
    """The state of one service."""

    name: str
    #: 0 while it is not running.
    pid: int
    #: Time of the last start, in seconds since 1970; 0 before the first.
    started_s: int
    #: Whether supervisord has stopped restarting it.
    given_up: bool


@contextlib.contextmanager
def claimed(state_dir: Path) -> Iterator[None]:
    """Lock the state folder for this process; the operating system releases the lock when the process ends.

    Raises:
        UsageError: another process holds the lock, the folder is not writable, or its disk is full.
    """
    with _lock_file(state_dir) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise UsageError(
                f"The services of {state_dir} are already running (process {lock.readline().strip()}). Stop them "
                "first. To start a second set of services, set PAWQUEUE_STATE_DIR, PAWQUEUE_GATEWAY_PORT, "
                "PAWQUEUE_GATEWAY_METRICS_PORT, PAWQUEUE_NOTIFIER_METRICS_PORT, PAWQUEUE_DASHBOARD_PORT and "
                "PAWQUEUE_WORKER_METRICS_PORT."
            ) from None
        lock.truncate(0)
        try:
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        except OSError as error:
            raise _unusable(state_dir, error) from None
        yield


@contextlib.contextmanager
def running_stack(
    state_dir: Path, environ: Mapping[str, str], stop_limit_s: float, config: Path = CONFIG
) -> Iterator["Stack"]:
    """Run the programs of `config` in a claimed state folder; all of them are stopped on exit."""
    with _socket_folder() as folder:
        socket = folder / "s"
        expanded = {**environ, "UP_ROOT": str(ROOT), "UP_SOCKET": str(socket)}
        stack = Stack(state_dir, socket, _start_supervisord(state_dir, socket, expanded, config), stop_limit_s)
        try:
            yield stack
        finally:
            stack.stop()


class Stack:
    """The services of one state folder; `running_stack` creates it."""

    def __init__(
        self, state_dir: Path, socket: Path, supervisord: "subprocess.Popen[bytes]", stop_limit_s: float
    ) -> None:
        self._logs = state_dir / "logs"
        self._socket = socket
        self._supervisord = supervisord
        self._stop_limit_s = stop_limit_s
        #: The process groups of the services, as of the last call of `services`.
        self._groups: set[int] = set()

    @property
    def supervisord_pid(self) -> int:
        """Process id of supervisord."""
        return self._supervisord.pid

    def log_of(self, name: str) -> Path:
        """Log file of a service."""
        return self._logs / f"{name}.log"

    def services(self) -> list[Service]:
        """All services; empty while supervisord is starting.

        Raises:
            LocalError: supervisord has exited.
        """
        if self._supervisord.poll() is not None:
            output = self._logs.parent / "run" / "supervisord.out"
            log = output if output.exists() and output.stat().st_size else self.log_of("supervisord")
            raise LocalError(f"supervisord has exited. The last lines of {log}:\n{tail_of(log)}")
        services = [_service(info) for info in self._process_infos()]
        if services:
            self._groups = {service.pid for service in services if service.pid}
        return services

    def stop(self) -> None:
        """Stop the services in reverse order of their start; kill a service that exceeds its limit."""
        with contextlib.suppress(LocalError):
            self.services()  # updates the process groups
        if self._supervisord.poll() is None:
            self._supervisord.terminate()
        try:
            self._supervisord.wait(self._stop_limit_s)
        except subprocess.TimeoutExpired:
            self._supervisord.kill()
            self._supervisord.wait()
        self._kill_leftovers()

    def _process_infos(self) -> list[dict[str, Any]]:
        from supervisor.xmlrpc import SupervisorTransport  # noqa: PLC0415 - only a running stack needs it

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
                answer: Any = server.supervisor.getAllProcessInfo()
        except (OSError, HTTPException, xmlrpc.client.Error):
            return []
        return list(answer)

    def _kill_leftovers(self) -> None:
        # Only a killed supervisord leaves processes behind.
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [group for group in self._groups if _signal_group(group, number)]
            end_s = time.monotonic() + _KILL_WAIT_S
            while any(_signal_group(group, 0) for group in left) and time.monotonic() < end_s:
                time.sleep(_POLL_S)


def tail_of(log: Path) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (empty)"


def supervise(config: str, socket_folder: str) -> None:
    """Run supervisord in this process until a signal arrives or the parent process is gone."""
    _stop_with_parent()
    from supervisor.supervisord import main  # noqa: PLC0415 - only this process needs it

    from deploy.local.log_file import use_safe_log_files  # noqa: PLC0415

    use_safe_log_files()
    try:
        main(["--configuration", config])
    finally:
        shutil.rmtree(socket_folder, ignore_errors=True)  # the parent may be gone


def _stop_with_parent() -> None:
    # A timer rather than a thread, because supervisord forks.
    parent = os.getppid()

    def check(_signal: int, _frame: object) -> None:
        if os.getppid() != parent:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, _PARENT_POLL_S, _PARENT_POLL_S)


def _start_supervisord(
    state_dir: Path, socket: Path, environ: Mapping[str, str], config: Path
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "deploy.local.stack", str(config), str(socket.parent)]
    with _open_private(state_dir / "run" / "supervisord.out", "wb") as output:
        # In a new session: Ctrl-C and a closed terminal reach only this process, which stops the services in order.
        return subprocess.Popen(
            command,
            cwd=state_dir,
            env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,  # results, names and thumbnails are in the files of the services
        )


def _lock_file(state_dir: Path) -> IO[str]:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if state_dir.stat().st_mode & stat.S_ISVTX:
            raise UsageError(f"{state_dir} is a folder of all users. Set PAWQUEUE_STATE_DIR to a folder of its own.")
        for folder in (state_dir, *(state_dir / name for name in _FOLDERS)):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
        return _open_private(state_dir / "run" / "lock", "a+")
    except OSError as error:
        raise _unusable(state_dir, error) from None


def _open_private(path: Path, mode: str) -> IO[Any]:
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _unusable(state_dir: Path, error: OSError) -> UsageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(
            f"The disk of {state_dir} is full. Free some space, or set PAWQUEUE_STATE_DIR to another disk."
        )
    return UsageError(f"{state_dir} cannot be used ({error.strerror}). Set PAWQUEUE_STATE_DIR to a folder of your own.")


@contextlib.contextmanager
def _socket_folder() -> Iterator[Path]:
    # Not in the state folder: the path of a socket is limited to 104 characters.
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
    except (ProcessLookupError, PermissionError):  # macOS raises the latter for a group that has just ended
        return False
    return True


if __name__ == "__main__":
    supervise(*sys.argv[1:])
