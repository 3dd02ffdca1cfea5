"""Dynamic batching: collects decoded images and decides when to release a batch."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """A buffer with one reader. Items of a lower rank come first, items of the same rank in order of arrival.

    A batch is released when it is full, when no more items are expected, or when its oldest item has waited `wait_s`.
    """

    def __init__(self, size: int, wait_s: float, ranks: int = 2, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._wait_s = wait_s
        self._clock = clock
        self._changed = threading.Condition()
        #: By rank: (time of arrival, item).
        self._waiting: tuple[deque[tuple[float, T]], ...] = tuple(deque() for _ in range(ranks))
        self._expected = 0
        self._closed = False

    def expect(self, count: int) -> None:
        """Announce `count` items; each must be followed by one `put` or one `withdraw`."""
        with self._changed:
            self._expected += count

    def put(self, item: T, rank: int) -> None:
        """Add one announced item."""
        with self._changed:
            self._waiting[rank].append((self._clock(), item))
            self._arrived()

    def withdraw(self) -> None:
        """Withdraw one announced item."""
        with self._changed:
            self._arrived()

    def take(self) -> list[T]:
        """Wait for a batch of 1 to `size` items; returns an empty list once the batcher is closed and empty."""
        with self._changed:
            while not self._is_due():
                self._changed.wait(self._time_left_s())
            return self._pop()

    def close(self) -> None:
        """Release the waiting items to the reader without further delay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return self._count()

    def _arrived(self) -> None:
        self._expected -= 1
        # The first item wakes the reader even if no batch is due, because it starts the reader's timeout.
        if self._is_due() or self._count() == 1:
            self._changed.notify_all()

    def _count(self) -> int:
        return sum(map(len, self._waiting))

    def _is_due(self) -> bool:
        count = self._count()
        if self._closed or count >= self._size:
            return True
        return count > 0 and (self._expected <= 0 or self._time_left_s() == 0)

    def _time_left_s(self) -> float | None:
        """Seconds until the oldest item has waited long enough; None if no item is waiting."""
        oldest = min((items[0][0] for items in self._waiting if items), default=None)
        return None if oldest is None else max(0.0, oldest + self._wait_s - self._clock())

    def _pop(self) -> list[T]:
        batch: list[T] = []
        for items in self._waiting:
            while items and len(batch) < self._size:
                batch.append(items.popleft()[1])
        return batch
