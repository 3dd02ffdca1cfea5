"""The lists beside the jobs of the ledger in memory: workers, dead letters, discarded images, who listens."""

import queue
import threading
from collections.abc import Iterator

from contract.job import now_ms as wall_ms
from contract.ledger.types import Heartbeat


class MemoryLists:
    """Everything that is not a job's state."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._beats: dict[str, tuple[Heartbeat, int]] = {}
        self._leader = ""
        #: Job id -> reference of its image, in order of death.
        self._dead: dict[str, str] = {}
        self._discarded: list[str] = []
        #: Ids of ended jobs, newest last.
        self._events: list[str] = []
        self._followers: list[queue.SimpleQueue[list[str] | None]] = []

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

    def dead(self, count: int) -> list[str]:
        with self._lock:
            return list(reversed(self._dead))[:count]

    def dead_image(self, job_id: str) -> str | None:
        with self._lock:
            return self._dead.get(job_id)

    def unbury(self, job_id: str) -> str | None:
        with self._lock:
            return self._dead.pop(job_id, None)

    def discard(self, image: str) -> None:
        with self._lock:
            self._discarded.append(image)

    def take_discarded(self, count: int) -> list[str]:
        with self._lock:
            taken, self._discarded = self._discarded[:count], self._discarded[count:]
            return taken

    def ended(self) -> Iterator[list[str] | None]:
        follower: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        with self._lock:
            self._followers.append(follower)
        yield None
        while True:
            yield follower.get()

    def recent(self, count: int, after: str = "") -> list[tuple[str, str]]:
        with self._lock:
            numbered = list(enumerate(self._events, 1))[int(after or 0) :]
            return [(str(number), job_id) for number, job_id in reversed(numbered)][:count]

    def _tell(self, ended_id: str) -> None:
        for follower in self._followers:
            follower.put([ended_id])
