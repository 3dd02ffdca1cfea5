"""Limits how many jobs a worker holds: enough to keep the model busy, few enough to leave work for other workers."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from contract.errors import UnavailableError

R = TypeVar("R")

#: Pause before a call is retried while the ledger or the image store is unavailable.
_RETRY_S = 0.5


class ClosedError(Exception):
    """The worker is stopping and accepts no more jobs."""


class Gate:
    """Counts the jobs in the pipeline by queue. Jobs of one queue take no room from another."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        #: By name of the queue.
        self._held: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    def room(self, queue: str) -> int:
        """How many more jobs of a queue the pipeline can hold."""
        with self._changed:
            return self._capacity - self._held[queue]

    def is_empty(self) -> bool:
        """Whether the pipeline holds no jobs."""
        with self._changed:
            return not self._held.total()

    def enter(self, counts: Counter[str]) -> None:
        """Count jobs that enter the pipeline, by name of the queue."""
        with self._changed:
            self._held.update(counts)

    def leave(self, counts: Counter[str]) -> None:
        """Free the room of jobs that have left the pipeline."""
        with self._changed:
            self._held.subtract(counts)
            self._changed.notify_all()

    def wait_empty(self) -> None:
        """Wait until the pipeline holds no jobs.

        Raises:
            ClosedError: the worker is stopping.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._held.total())
            self._check()

    def pause(self, seconds: float) -> None:
        """Pause, but not for longer than the pipeline holds jobs.

        Raises:
            ClosedError: the worker is stopping.
        """
        with self._changed:
            was_empty = not self._held.total()
            self._changed.wait_for(lambda: self._closed or (not was_empty and not self._held.total()), seconds)
            self._check()

    def close(self) -> None:
        """Raise `ClosedError` in all current and future calls that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raise `ClosedError` if the worker is stopping."""
        with self._changed:
            self._check()

    def retry(self, method: Callable[..., R], *arguments: Any) -> R:
        """Call a method of the ledger or the image store, and retry while it is unavailable.

        Raises:
            ClosedError: the worker is stopping.
        """
        while True:
            try:
                return method(*arguments)
            except UnavailableError:
                with self._changed:
                    if self._changed.wait_for(lambda: self._closed, _RETRY_S):
                        raise ClosedError from None

    def _check(self) -> None:
        if self._closed:
            raise ClosedError
