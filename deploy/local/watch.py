"""Watches the services: reports restarts, fails when a service keeps exiting, and detects when to stop."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from deploy.local.errors import LocalError
from deploy.local.stack import Service, Stack, tail_of

_POLL_S = 0.2
_READY_LIMIT_S = 300.0
_STARTS_BEFORE_READY = 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Watch:
    """Follows the services of a stack; call `check` regularly."""

    def __init__(self, stack: Stack, starts_before_ready: int = _STARTS_BEFORE_READY) -> None:
        self._stack = stack
        #: Until the stack is ready, a service that starts more often than this counts as one that keeps exiting.
        self._starts_before_ready = starts_before_ready
        self._started_s: dict[str, int] = {}
        self._starts: Counter[str] = Counter()
        self.ready = False

    def check(self) -> None:
        """Report restarts since the last call.

        Raises:
            LocalError: a service keeps exiting.
        """
        for service in self._stack.services():
            if service.started_s and service.started_s != self._started_s.get(service.name):
                self._note_start(service)
            if service.given_up or (not self.ready and self._starts[service.name] > self._starts_before_ready):
                log = self._stack.log_of(service.name)
                raise LocalError(f"{service.name} keeps exiting. The last lines of {log}:\n{tail_of(log)}")

    def _note_start(self, service: Service) -> None:
        if self.ready and service.name in self._started_s:
            say(f"{service.name} exited and was restarted. Its log: {self._stack.log_of(service.name)}")
        self._started_s[service.name] = service.started_s
        self._starts[service.name] += 1


class Stop:
    """Set when it is time to stop: a signal arrived, or the `make` that started this process was killed."""

    def __init__(self) -> None:
        self._event = threading.Event()
        #: Whether Ctrl-C was pressed, which reaches every process of the terminal.
        self.from_terminal = False
        # A killed make cannot forward a signal, so a new parent process is the only indication. Without make, it means
        # nothing: the old parent may be a shell that has exited.
        self._make = os.getppid() if "MAKELEVEL" in os.environ else None

    def set(self) -> None:
        """Stop now."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; returns True as soon as it is time to stop."""
        if self._make not in (None, os.getppid()):
            self.set()
        return self._event.wait(seconds)

    def handle(self, number: int, _frame: object) -> None:
        """Handle a signal."""
        self.from_terminal = number == signal.SIGINT
        self.set()


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into a `Stop`; signals that are ignored (nohup) stay ignored."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until_ready(is_ready: Callable[[], bool], watch: Watch, stop: Stop, limit_s: float = _READY_LIMIT_S) -> bool:
    """Wait for `is_ready`; returns False if it is time to stop first.

    Raises:
        LocalError: a service keeps exiting, or the limit has passed.
    """
    started_s = time.monotonic()
    try:
        while not is_ready():
            if stop.wait(_POLL_S):
                return False
            watch.check()
            waited_s = time.monotonic() - started_s
            if waited_s > limit_s:
                raise LocalError(
                    f"The services were not ready after {limit_s:.0f} s. See the logs in the state folder."
                )
            _show(f"Starting the services ... {waited_s:.0f} s")
        watch.ready = True
    finally:
        _show("")
    say(f"Services started: {time.monotonic() - started_s:.0f} s")
    return True


def say(line: str, end: str = "\n") -> None:
    """Print a line. If that fails, because the output is a file on a full disk, the services keep running."""
    with contextlib.suppress(OSError):
        print(line, end=end, flush=True)


def _show(line: str) -> None:
    if sys.stdout.isatty():
        say("\r\033[K" + line, end="")
