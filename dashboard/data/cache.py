"""Computes what pages show once per snapshot, however many viewers there are."""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from dashboard.data.snapshot import Snapshot

T = TypeVar("T")
#: Results kept for one snapshot.
_KEPT_MAX = 64


class SnapshotCache:
    """Results by snapshot and key; safe to share between threads.

    `renew` computes what viewers asked for last from a new snapshot before they see it, so that they never wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Sequence of a snapshot -> its results by key.
        self._slots: dict[int, dict[tuple[str, ...], _Slot]] = {}
        #: How to compute what was asked for since the last `renew`.
        self._asked: dict[tuple[str, ...], Callable[[Snapshot], Any]] = {}

    def get(self, snapshot: Snapshot, key: tuple[str, ...], compute: Callable[[Snapshot], T]) -> T:
        """The result of `compute` for a snapshot, computed once per key."""
        with self._lock:
            self._asked[key] = compute
            slot = self._slot(snapshot.sequence, key)
        result: T = slot.get(lambda: compute(snapshot))  # outside the lock, so that a slow one blocks no other
        return result

    def renew(self, snapshot: Snapshot) -> None:
        """Compute for a new snapshot what was asked for since the last call."""
        with self._lock:
            wanted, self._asked = list(self._asked.items())[-_KEPT_MAX:], {}
            slots = [(self._slot(snapshot.sequence, key), compute) for key, compute in wanted]
        for slot, compute in slots:
            with suppress(Exception):  # raised again for the viewer who asks for it
                slot.get(partial(compute, snapshot))

    def _slot(self, sequence: int, key: tuple[str, ...]) -> "_Slot":
        # The snapshot before stays: some requests may still be reading it.
        self._slots = {one: slots for one, slots in self._slots.items() if sequence - one in (0, 1, -1)}
        slots = self._slots.setdefault(sequence, {})
        if len(slots) >= _KEPT_MAX and key not in slots:
            slots.clear()
        return slots.setdefault(key, _Slot())


class _Slot:
    """One result: the first caller computes it, others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: list[Any] = []

    def get(self, compute: Callable[[], Any]) -> Any:
        with self._lock:
            if not self._results:
                self._results.append(compute())
            return self._results[0]
