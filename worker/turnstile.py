"""Lets jobs be tried together, or one alone: an image that may have killed a worker must not take others with it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turnstile:
    """A lock for many at once or for one alone; whoever wants to be alone goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False
        self._alone_waiting = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Enter beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._alone_waiting)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Enter when all others have left, and keep them out."""
        with self._changed:
            self._alone_waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._together)
            self._alone_waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
