"""How much memory a gateway uses while a test sends it something large."""

import threading
from contextlib import suppress

import psutil

from tests.support.services import Stack


class MemoryWatch:
    """Resident memory of a stack's gateway, in bytes, before and at its peak while the context is open."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.before = self.peak = self._read()

    @property
    def growth(self) -> int:
        """From before to the peak."""
        return self.peak - self.before

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            with suppress(psutil.NoSuchProcess):
                self.peak = max(self.peak, self._read())

    def _read(self) -> int:
        parent = psutil.Process(self._stack.gateway.handle.pid)
        return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))
