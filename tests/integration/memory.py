"""Measures the memory of a gateway while a test sends large requests."""

import threading
from contextlib import suppress

import psutil

from tests.support.services import Stack


class MemoryWatch:
    """Resident memory of a stack's gateway, in bytes: at the start, and at its peak while the context is open."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.before = self.peak = self._read()

    @property
    def growth(self) -> int:
        """Increase from `before` to `peak`, in bytes."""
        return self.peak - self.before

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.02):
            with suppress(psutil.NoSuchProcess):
                self.peak = max(self.peak, self._read())

    def _read(self) -> int:
        parent = psutil.Process(self._stack.gateway.handle.pid)
        return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))
