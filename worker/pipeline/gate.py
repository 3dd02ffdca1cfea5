"""Locks at the entrance of the pipeline: they limit how many jobs a worker holds, and let a suspect job run alone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from contract.errors import UnavailableError

R = TypeVar("R")

#: Pause before a call is retried while the ledger or the image store is unavailable.
_RETRY_S = 0.5


class ClosedError(Exception):
    """The worker is stopping and accepts no more jobs."""


class Gate:
    """Limits how many jobs a worker holds: enough to keep the model busy, few enough to leave work for other workers.

    The limit applies to each rank separately, so bulk jobs never keep an interactive job waiting.
    """

    def __init__(self, capacity: int, ranks: int = 2) -> None:
        self._capacity = capacity
        self._held = [0] * ranks
        self._changed = threading.Condition()
        self._closed = False

    def enter(self, count: int, rank: int) -> None:
        """Wait until `count` more jobs fit; a message larger than the capacity waits until its rank is empty.

        Raises:
            ClosedError: the worker is stopping.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(count, rank))
            if self._closed:
                raise ClosedError
            self._held[rank] += count

    def leave(self, count: int, rank: int) -> None:
        """Free the capacity of `count` jobs that have left the pipeline."""
        with self._changed:
            self._held[rank] -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Raise `ClosedError` in all current and future calls of `enter`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the gate to close; returns whether it is closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout_s)

    def retry(self, method: Callable[..., R], *arguments: Any) -> R:
        """Call a method of the ledger or the image store, and retry while it is unavailable.

        Raises:
            ClosedError: the worker is stopping.
        """
        while True:
            try:
                return method(*arguments)
            except UnavailableError:
                if self.wait_closed(_RETRY_S):
                    raise ClosedError from None

    def _fits(self, count: int, rank: int) -> bool:
        return self._held[rank] == 0 or self._held[rank] + count <= self._capacity


class SoloLock:
    """A shared/exclusive lock. A thread waiting for exclusive access takes precedence.

    A job that may have killed a worker is processed alone: if it kills this worker too, no other job is affected.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False
        self._waiting_alone = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other threads."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting_alone)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone: wait until all other threads have released it, and keep them out."""
        with self._changed:
            self._waiting_alone += 1
            self._changed.wait_for(lambda: not self._alone and not self._sharing)
            self._waiting_alone -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
