"""A cache of page contents, so that the work per snapshot does not grow with the number of viewers."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from dashboard.data.snapshot import Snapshot

T = TypeVar("T")
#: Results kept at a time. Viewers can combine filters in any number of ways.
_KEPT_MAX = 64


class SnapshotCache:
    """Results computed from the newest snapshot, by key. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = -1
        self._results: dict[tuple[str, ...], Any] = {}

    def get(self, snapshot: Snapshot, key: tuple[str, ...], compute: Callable[[], T]) -> T:
        """Return the result of `compute`, which is called once per snapshot and key."""
        with self._lock:  # held while computing: no page takes longer than about 50 ms
            if snapshot.sequence != self._sequence or len(self._results) >= _KEPT_MAX:
                self._sequence, self._results = snapshot.sequence, {}
            if key not in self._results:
                self._results[key] = compute()
            result: T = self._results[key]
            return result
