"""How many jobs a worker holds at once: enough to keep the model busy, few enough that others find work too."""

import threading


class ClosedError(Exception):
    """The worker is stopping and takes no more."""


class Gate:
    """Room for `capacity` jobs of each rank, so that a folder in hand never keeps an interactive job out."""

    def __init__(self, capacity: int, ranks: int = 2) -> None:
        self._capacity = capacity
        self._held = [0] * ranks
        self._changed = threading.Condition()
        self._closed = False

    def enter(self, count: int, rank: int) -> None:
        """Wait until there is room for `count` jobs; a message larger than all the room enters an empty gate.

        Raises:
            ClosedError: the worker is stopping.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(count, rank))
            if self._closed:
                raise ClosedError
            self._held[rank] += count

    def leave(self, count: int, rank: int) -> None:
        """Give room back."""
        with self._changed:
            self._held[rank] -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Turn away all who wait and all who come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether the worker is stopping."""
        return self._closed

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the gate to close."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout_s)

    def _fits(self, count: int, rank: int) -> bool:
        return self._held[rank] == 0 or self._held[rank] + count <= self._capacity
