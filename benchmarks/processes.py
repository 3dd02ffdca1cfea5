"""Starts processes, and reads their CPU time and memory."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
_START_S = 180.0
_STOP_S = 40.0
_POLL_S = 0.01


class BenchmarkError(Exception):
    """A measured process exited or did not respond."""


@dataclass
class Process:
    """A running process."""

    name: str
    handle: "subprocess.Popen[str]"
    log: Path
    started_s: float
    #: Seconds from its start until it was ready.
    ready_s: float = 0.0

    @property
    def pid(self) -> int:
        """The process id."""
        return self.handle.pid

    def check(self) -> None:
        """Raise `BenchmarkError` if the process has exited."""
        if self.handle.poll() is not None:
            raise BenchmarkError(f"{self.name} has exited. The end of its log:\n{self.log.read_text()[-2000:]}")


@contextmanager
def running(name: str, command: list[str], folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run `command` with its log in `folder`; stop it when the context exits."""
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
    process = Process(name, handle, log, began_s)
    try:
        yield process
    finally:
        descendants = process_tree(handle.pid)[1:]
        handle.terminate()
        try:
            handle.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            handle.kill()
            handle.wait()
        for left in descendants:
            with suppress(psutil.NoSuchProcess):
                left.kill()  # some servers leave processes behind, which would disturb the next measurement


def wait_until(condition: Callable[[], bool], *processes: Process) -> float:
    """Wait until `condition` is true and return the time. Fails if one of the processes exits first."""
    end_s = time.perf_counter() + _START_S
    while not condition():
        for process in processes:
            process.check()
        if time.perf_counter() > end_s:
            raise BenchmarkError(f"{processes[-1].name} was not ready within {_START_S:g} s: {processes[-1].log}")
        time.sleep(_POLL_S)
    return time.perf_counter()


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds that processes have used, including threads that have ended."""
    used_s = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used_s += times.user + times.system
    return used_s


def threads_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds of a process by thread id."""
    return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Proportional set size of processes: memory that they share is counted once."""
    return sum(process.memory_full_info().pss for process in processes)
