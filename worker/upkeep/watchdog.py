"""Ends a worker process that hangs: the supervisor starts a new one, and other workers retry its jobs."""

import os
import threading
from collections.abc import Callable

from contract.log import get_logger

_log = get_logger(__name__)

_PERIOD_S = 0.5
#: EX_SOFTWARE of sysexits.h: an internal error.
_EXIT_STATUS = 70


class Watchdog:
    """A thread that fails slow images, and ends the process when the model or every decoding thread hangs."""

    def __init__(
        self,
        predict_running_s: Callable[[], float],
        predict_limit_s: float,
        *,
        fail_slow_images: Callable[[], None],
        decoders_stuck: Callable[[], bool],
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._predict_running_s = predict_running_s
        self._predict_limit_s = predict_limit_s
        self._fail_slow_images = fail_slow_images
        self._decoders_stuck = decoders_stuck
        self._end_process = end_process
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()

    def problem(self) -> str:
        """What is hanging; empty if nothing is."""
        if self._predict_running_s() > self._predict_limit_s:
            return f"A model call has been running for more than {self._predict_limit_s:g} s."
        return "Every decoding thread is stuck on an image." if self._decoders_stuck() else ""

    def _run(self) -> None:
        while not self._stopping.wait(min(_PERIOD_S, self._predict_limit_s / 4)):
            if problem := self.problem():
                _log.error("The worker is hanging and will exit", action="worker_hangs", reason=problem)
                self._end_process(_EXIT_STATUS)
                return
            # After the check, so that these errors are committed before the next check can end the process.
            self._fail_slow_images()
