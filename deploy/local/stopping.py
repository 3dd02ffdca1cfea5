"""When to stop: Ctrl-C, SIGTERM, a closed terminal, or the end of the `make` that started this process."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Told once that it is time to stop."""

    def __init__(self) -> None:
        self._told = threading.Event()
        #: The terminal has told every process of this command, not just this one.
        self.from_terminal = False
        # A make that is killed cannot pass the signal on; without make, a lost parent may be a shell that went home.
        self._make = os.getppid() if "MAKELEVEL" in os.environ else None

    def tell(self) -> None:
        """It is time."""
        self._told.set()

    def take(self, number: int, _frame: object) -> None:
        """A signal said so."""
        self.from_terminal = number == signal.SIGINT
        self.tell()

    def wait(self, seconds: float) -> bool:
        """Wait that long at most; True as soon as it is time to stop."""
        if self._make not in (None, os.getppid()):
            self.tell()
        return self._told.wait(seconds)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turn the signals that end a process into a `Stop`; those that were ignored (nohup) stay so."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.take)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
