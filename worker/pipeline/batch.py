"""Dynamic batching: collects decoded images and decides when to release a batch."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """A buffer with one reader. Items of a lower rank come first, items of the same rank in order of arrival.

    Each item has a key, the version of a model that predicts it. A batch contains items of one key. It is released when
    it is full, when no more items of its key are expected, or when its oldest item has waited `wait_s`, but only while
    `is_ready(key)`. Of several such batches, those with items of a lower rank come first, and then the key whose last
    batch was released the longest time ago.
    """

    def __init__(
        self,
        size: int,
        wait_s: float,
        ranks: int = 2,
        clock: Callable[[], float] = time.monotonic,
        is_ready: Callable[[Hashable], bool] = lambda _: True,
    ) -> None:
        self._size = size
        self._wait_s = wait_s
        self._ranks = ranks
        self._clock = clock
        self._is_ready = is_ready
        self._changed = threading.Condition()
        self._buffers: dict[Hashable, _Buffer[T]] = {}
        #: Number of the last batch of each key.
        self._numbers: dict[Hashable, int] = {}
        self._batches = 0
        self._closed = False

    def expect(self, count: int, key: Hashable = None) -> None:
        """Announce `count` items; each must be followed by one `put` or one `withdraw`."""
        with self._changed:
            self._buffer(key).expected += count

    def put(self, item: T, rank: int, key: Hashable = None) -> None:
        """Add one announced item."""
        with self._changed:
            buffer = self._buffer(key)
            buffer.waiting[rank].append((self._clock(), item))
            self._arrived(key, buffer)

    def withdraw(self, key: Hashable = None) -> None:
        """Withdraw one announced item."""
        with self._changed:
            self._arrived(key, self._buffer(key))

    def take(self) -> list[T]:
        """Wait for a batch of 1 to `size` items; returns an empty list once the batcher is closed and empty."""
        with self._changed:
            while (key := self._next_key()) is _NONE and not self._is_drained():
                self._changed.wait(self._time_left_s())
            return [] if key is _NONE else self._pop(key)

    def waiting(self, is_wanted: Callable[[Hashable], bool]) -> list[T]:
        """The waiting items of the wanted keys."""
        with self._changed:
            wanted = [buffer for key, buffer in self._buffers.items() if buffer.count() and is_wanted(key)]
            return [item for buffer in wanted for waiting in buffer.waiting for _, item in waiting]

    def remove(self, is_unusable: Callable[[Hashable], bool]) -> list[T]:
        """Remove the waiting items of all keys that are unusable, and return them."""
        with self._changed:
            items: list[T] = []
            for key, buffer in list(self._buffers.items()):
                if is_unusable(key):
                    items += [item for waiting in buffer.waiting for _, item in waiting]
                    for waiting in buffer.waiting:
                        waiting.clear()
                    self._drop_if_unused(key, buffer)
            return items

    def wake(self) -> None:
        """Let the reader look again at which keys are ready."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Release the waiting items to the reader without further delay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return sum(buffer.count() for buffer in self._buffers.values())

    def _buffer(self, key: Hashable) -> "_Buffer[T]":
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = _Buffer(self._ranks)
        return buffer

    def _arrived(self, key: Hashable, buffer: "_Buffer[T]") -> None:
        buffer.expected -= 1
        # The first item wakes the reader even if no batch is due, because it starts the reader's timeout.
        if self._is_due(buffer) or buffer.count() == 1:
            self._changed.notify_all()
        self._drop_if_unused(key, buffer)

    def _drop_if_unused(self, key: Hashable, buffer: "_Buffer[T]") -> None:
        if not buffer.expected and not buffer.count():
            del self._buffers[key]

    def _is_due(self, buffer: "_Buffer[T]") -> bool:
        count = buffer.count()
        if count >= self._size:
            return True
        return count > 0 and (self._closed or buffer.expected <= 0 or self._left_s(buffer) == 0)

    def _next_key(self) -> Hashable:
        """The key of the next batch; `_NONE` if none is due."""
        due = [key for key, buffer in self._buffers.items() if self._is_due(buffer) and self._is_ready(key)]
        return min(due, key=lambda key: (self._buffers[key].rank(), self._numbers.get(key, 0)), default=_NONE)

    def _is_drained(self) -> bool:
        return self._closed and not any(buffer.count() and self._is_ready(key) for key, buffer in self._buffers.items())

    def _time_left_s(self) -> float | None:
        """Seconds until the oldest item has waited long enough; None if no item is waiting."""
        ready = (buffer for key, buffer in self._buffers.items() if buffer.count() and self._is_ready(key))
        return min(map(self._left_s, ready), default=None)

    def _left_s(self, buffer: "_Buffer[T]") -> float:
        oldest = min(waiting[0][0] for waiting in buffer.waiting if waiting)
        return max(0.0, oldest + self._wait_s - self._clock())

    def _pop(self, key: Hashable) -> list[T]:
        buffer = self._buffers[key]
        self._batches += 1
        self._numbers[key] = self._batches
        batch: list[T] = []
        for waiting in buffer.waiting:
            while waiting and len(batch) < self._size:
                batch.append(waiting.popleft()[1])
        self._drop_if_unused(key, buffer)
        return batch


_NONE = object()


class _Buffer(Generic[T]):
    """The items of one key."""

    def __init__(self, ranks: int) -> None:
        #: By rank: (time of arrival, item).
        self.waiting: tuple[deque[tuple[float, T]], ...] = tuple(deque() for _ in range(ranks))
        self.expected = 0

    def count(self) -> int:
        """The number of waiting items."""
        return sum(map(len, self.waiting))

    def rank(self) -> int:
        """The lowest rank of a waiting item."""
        return next(rank for rank, waiting in enumerate(self.waiting) if waiting)
