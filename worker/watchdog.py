"""Ends a process whose model call hangs, so that its jobs go elsewhere and a supervisor starts another."""

import os
import threading
from collections.abc import Callable

from contract.log import get_logger

_log = get_logger(__name__)

_LOOK_S = 0.5
#: EX_SOFTWARE of sysexits.h: an internal error.
_EXIT_STATUS = 70


class Watchdog:
    """Looks at how long the current model call has been running."""

    def __init__(self, running_s: Callable[[], float], limit_s: float, end: Callable[[int], None] = os._exit) -> None:
        self._running_s = running_s
        self._limit_s = limit_s
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
            if self._running_s() > self._limit_s:
                _log.error("The model hangs: this worker ends itself", action="model_hangs", limit_s=self._limit_s)
                self._end(_EXIT_STATUS)
                return
