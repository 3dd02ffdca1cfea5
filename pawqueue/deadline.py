"""How long a call may still take, and how long it pauses between two tries."""

import random
import threading
import time

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
#: Share of a pause by which it is spread, so that many clients do not come back at once.
_SPREAD = 0.25


class Deadline:
    """The end of a call or of a run's patience, in seconds from now; safe to share between threads."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._ends_s = _now_s() + patience_s
        self._canceled = threading.Event()

    def remaining_s(self) -> float:
        """Seconds left; 0 when it has passed or was canceled."""
        return 0.0 if self._canceled.is_set() else max(0.0, self._ends_s - _now_s())

    def renew(self) -> None:
        """Grant the full time again, because something went forward."""
        self._ends_s = _now_s() + self.patience_s

    def cancel(self) -> None:
        """End every pause and let nothing more begin."""
        self._canceled.set()

    @property
    def canceled(self) -> bool:
        return self._canceled.is_set()

    def pause(self, seconds: float) -> bool:
        """Sleep `seconds`; False, at once, when they are not left, or as soon as it is canceled."""
        if seconds >= self.remaining_s():
            return False
        _sleep(self._canceled, seconds)
        return not self._canceled.is_set()


def pause_s(tries: int, retry_after_s: float | None) -> float:
    """Seconds to pause after `tries` failed ones: never less than the server asked for, else growing; with jitter."""
    growing_s = min(_FIRST_PAUSE_S * 2 ** min(tries - 1, 10), _LONGEST_PAUSE_S)
    least_s = growing_s if retry_after_s is None else max(retry_after_s, _FIRST_PAUSE_S)
    return least_s * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - no secret


def _now_s() -> float:
    return time.monotonic()


def _sleep(wake: threading.Event, seconds: float) -> None:
    wake.wait(seconds)
