"""The part of the ledger in memory that knows the workers."""

import threading

from contract.job import now_ms as wall_ms
from contract.ledger import Heartbeat, Ledger


class MemoryWorkers(Ledger):
    """Heartbeats and the lead."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._beats: dict[str, tuple[Heartbeat, int]] = {}
        self._leader = ""

    def lead(self, worker_id: str, ttl_ms: int) -> bool:
        with self._lock:
            self._leader = self._leader or worker_id
            return self._leader == worker_id

    def beat(self, heartbeat: Heartbeat, ttl_ms: int, now_ms: int = 0) -> None:
        with self._lock:
            self._beats[heartbeat.id] = (heartbeat, (now_ms or wall_ms()) + ttl_ms)

    def retire(self, worker_id: str) -> None:
        with self._lock:
            self._beats.pop(worker_id, None)

    def workers(self, now_ms: int = 0) -> list[Heartbeat]:
        with self._lock:
            alive = [beat for beat, end_ms in self._beats.values() if end_ms > (now_ms or wall_ms())]
            return sorted(alive, key=lambda beat: (beat.started_ms, beat.id))
