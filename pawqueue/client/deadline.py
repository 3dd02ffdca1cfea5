"""Deadlines, and the pauses between retries."""

import random
import threading
import time

_FIRST_PAUSE_S = 0.2
_MAX_PAUSE_S = 10.0
#: Pauses are lengthened by up to this share, so that many clients do not retry at the same moment.
_JITTER = 0.25


class Deadline:
    """A time limit that starts now; thread-safe.

    A call has a fixed deadline. A bulk run renews its deadline whenever it makes progress and cancels it to
    stop early.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._ends_s = time.monotonic() + limit_s
        self._canceled = threading.Event()

    def remaining_s(self) -> float:
        """Seconds left; 0 after the deadline has passed or was canceled."""
        return 0.0 if self._canceled.is_set() else max(0.0, self._ends_s - time.monotonic())

    def renew(self) -> None:
        """Restart the full time limit."""
        self._ends_s = time.monotonic() + self.limit_s

    def cancel(self) -> None:
        """End the time limit now and wake up the threads in `pause`."""
        self._canceled.set()

    @property
    def canceled(self) -> bool:
        return self._canceled.is_set()

    def pause(self, seconds: float) -> bool:
        """Sleep for `seconds` and return True; return False if less time is left, or as soon as it is canceled."""
        if seconds >= self.remaining_s():
            return False
        return not self._canceled.wait(seconds)


def retry_pause_s(tries: int, retry_after_s: float | None) -> float:
    """Seconds to wait after the `tries`-th failure: exponential backoff with jitter, never less than `Retry-After`."""
    backoff_s = min(_FIRST_PAUSE_S * 2 ** min(tries - 1, 10), _MAX_PAUSE_S)
    pause_s = backoff_s if retry_after_s is None else max(retry_after_s, _FIRST_PAUSE_S)
    return pause_s * random.uniform(1, 1 + _JITTER)  # noqa: S311 - not used for security
