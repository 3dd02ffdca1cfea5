"""Which images are being decoded, and since when: one that takes too long is given up, its thread cannot be."""

import threading
import time
from collections.abc import Callable

from worker.message import Item


class DecodeWatch:
    """Knows every decode in work; each item ends by `end` or by `overdue`, never by both."""

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        #: Claimed item by its identity, with the time of its begin, in seconds.
        self._since_s: dict[int, tuple[Item, float]] = {}
        self._stuck: set[int] = set()

    def begin(self, item: Item) -> None:
        """A thread begins to decode."""
        with self._lock:
            self._since_s[id(item)] = (item, self._clock())

    def end(self, item: Item) -> bool:
        """It is done; False when the item was given up meanwhile."""
        with self._lock:
            self._stuck.discard(id(item))
            return self._since_s.pop(id(item), None) is not None

    def overdue(self, limit_s: float) -> list[Item]:
        """Give up what has been decoded for longer than that."""
        with self._lock:
            before_s = self._clock() - limit_s
            late = [item for item, since_s in self._since_s.values() if since_s < before_s]
            for item in late:
                del self._since_s[id(item)]
                self._stuck.add(id(item))
            return late

    def is_stuck(self) -> bool:
        """Whether every thread is busy with an image that was given up."""
        with self._lock:
            return len(self._stuck) >= self._threads
