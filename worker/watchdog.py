"""Ends a process that hangs, so that its jobs go elsewhere and a supervisor starts another."""

import os
import threading
from collections.abc import Callable

from contract.log import get_logger

_log = get_logger(__name__)

_LOOK_S = 0.5
#: EX_SOFTWARE of sysexits.h: an internal error.
_EXIT_STATUS = 70


class Watchdog:
    """Looks at how long the current model call has been running, and whether images can still be decoded."""

    def __init__(
        self,
        running_s: Callable[[], float],
        limit_s: float,
        can_decode: Callable[[], bool] = lambda: True,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._running_s = running_s
        self._limit_s = limit_s
        self._can_decode = can_decode
        self._end = end
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no longer."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(min(_LOOK_S, self._limit_s / 4)):
            if wrong := self.hang():
                _log.error("This worker hangs and ends itself", action="worker_hangs", reason=wrong)
                self._end(_EXIT_STATUS)
                return

    def hang(self) -> str:
        """What hangs; empty when nothing does."""
        if self._running_s() > self._limit_s:
            return f"The model has been called longer than {self._limit_s:g} s ago and has not answered."
        return "" if self._can_decode() else "Every decoder is busy with an image that was given up."
