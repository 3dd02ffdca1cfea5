"""Locks at the entrance of the pipeline: they limit how many jobs a worker holds, and let a suspect job run alone."""

import threading
from collections import Counter
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

    The limit applies to each queue separately, so the jobs of one never keep those of another waiting.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        #: By name of the queue: jobs, and messages.
        self._held: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    def enter(self, count: int, queue: str) -> None:
        """Wait until `count` more jobs fit; a message larger than the capacity waits until its queue has none here.

        Raises:
            ClosedError: the worker is stopping.
        """
        with self._changed:
            self._messages[queue] += 1
            self._changed.wait_for(lambda: self._closed or self._fits(count, queue))
            if self._closed:
                raise ClosedError
            self._held[queue] += count

    def leave(self, count: int, queue: str) -> None:
        """Free the capacity of `count` jobs that have left the pipeline."""
        with self._changed:
            self._held[queue] -= count
            self._messages[queue] -= 1
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

    def messages(self, queue: str) -> int:
        """The number of messages of a queue that are in the pipeline or wait to enter it."""
        with self._changed:
            return self._messages[queue]

    def _fits(self, count: int, queue: str) -> bool:
        return self._held[queue] == 0 or self._held[queue] + count <= self._capacity


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
