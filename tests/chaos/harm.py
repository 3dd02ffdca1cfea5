"""What goes wrong, when, and how long it takes until the work goes on."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from contract.broker import QUEUES
from contract.ledger import keys
from tests.chaos.clients import Clients
from tests.chaos.cluster import FAULT_POINTS, Cluster

_LOOK_S = 0.05


@dataclass(frozen=True)
class Plan:
    """How much is to go wrong."""

    jobs: int = 10_000
    clients: int = 16
    workers: int = 2
    worker_kills: int = 30
    gateway_kills: int = 5
    redis_kills: int = 3
    cut_s: float = 20.0
    #: Longest wait for the right moment of one deed.
    patience_s: float = 60.0
    #: Longest time for everything together.
    limit_s: float = 1200.0
    lease_s: float = 10.0
    sweep_s: float = 2.0
    seed: int = 1
    #: Whether workers serve a model that needs no framework.
    light: bool = False

    def deeds(self) -> list[str]:
        """Everything that is to be done, in order of chance."""
        deeds = ["worker"] * self.worker_kills + ["gateway"] * self.gateway_kills + ["redis"] * self.redis_kills
        deeds += ["cut"] if self.cut_s else []
        random.Random(self.seed).shuffle(deeds)
        return deeds


@dataclass
class Harm:
    """Does the deeds of a plan, spread over the upload of all jobs."""

    plan: Plan
    cluster: Cluster
    clients: Clients
    done: Counter[str] = field(default_factory=Counter)
    #: From a worker's death, or from when another served, until all that it had held was in work again or had ended.
    recoveries_s: list[float] = field(default_factory=list)
    #: Those of them during which no other worker died.
    undisturbed_s: list[float] = field(default_factory=list)
    _outages: int = 0
    _watches: list[threading.Thread] = field(default_factory=list)

    def run(self) -> None:
        """Do them all; between two of them some more jobs are uploaded."""
        chance, deeds = random.Random(self.plan.seed), self.plan.deeds()
        share = self.plan.jobs // (len(deeds) + 1)
        for deed in deeds:
            enough = self.clients.accepted + chance.random() * share
            self.clients.allow(share)
            self._until(lambda enough=enough: self.clients.accepted >= enough)
            time.sleep(chance.random())
            self._do(deed, chance)
        self._until(self._faults_are_over)
        self.clients.allow(self.plan.jobs)

    def _faults_are_over(self) -> bool:
        """Whether each fault point was reached; if not, some more work leads there."""
        is_over = set(self.cluster.faults_reached) == set(FAULT_POINTS)
        if not is_over:
            self.clients.allow(1)
        return is_over

    def watch_to_the_end(self) -> None:
        """Wait for the last recovery."""
        for watch in self._watches:
            watch.join(self.plan.limit_s)

    def _do(self, deed: str, chance: random.Random) -> None:
        if deed == "worker":
            self.kill_a_worker(chance)
        elif deed == "cut":
            self._outages += 1
            self.cluster.line.cut()
            time.sleep(self.plan.cut_s)
            self.cluster.line.mend()
            self.done[deed] += 1
        else:
            service = self.cluster.redis if deed == "redis" else self.cluster.gateway
            self._outages += deed == "redis"
            self._until(service.kill)
            self.done[deed] += 1

    def kill_a_worker(self, chance: random.Random) -> None:
        """Kill one that serves, while jobs are in hand, and watch what becomes of them."""
        self._until(lambda: bool(self.cluster.serving()))
        held: dict[str, str] = {}

        def is_busy() -> bool:
            if not held:
                held.update(self._held())
                self.clients.allow(not held)
            return bool(held)

        self._until(is_busy, 3.0)
        killed = chance.choice(self.cluster.serving() or self.cluster.workers)
        self.done["worker"] += killed.kill()
        if held:
            self._watch(held)

    def _until(self, condition: Callable[[], object], patience_s: float | None = None) -> None:
        """Wait for `condition`, within reason: the harm must go on."""
        end_s = time.monotonic() + (patience_s or self.plan.patience_s)
        while not condition() and time.monotonic() < end_s:
            time.sleep(_LOOK_S)

    def _watch(self, held: dict[str, str]) -> None:
        watch = threading.Thread(target=self._recovery, args=(held, self._outages), daemon=True)
        self._watches.append(watch)
        watch.start()

    def _recovery(self, held: dict[str, str], outages: int) -> None:
        from_s, starts = time.monotonic(), self._starts()
        while held and self._outages == outages:
            if not self.cluster.serving():
                from_s = time.monotonic()
            held = self._left_of(held)
            time.sleep(_LOOK_S)
        if self._outages == outages:  # else the outage is what was waited for
            self.recoveries_s.append(time.monotonic() - from_s)
            if self._starts() <= starts + 1:  # that of its own replacement
                self.undisturbed_s.append(self.recoveries_s[-1])

    def _starts(self) -> int:
        return sum(worker.starts for worker in self.cluster.workers)

    def _held(self) -> dict[str, str]:
        """The jobs that workers hold: id to fence."""
        try:
            with redis.Redis.from_url(self.cluster.redis_url, decode_responses=True) as client:
                ids = [job_id for queue in QUEUES for job_id in client.zrange(keys.running(queue), 0, -1)]
                return {job_id: client.hget(keys.job(job_id), "fence") or "" for job_id in ids}
        except redis.RedisError:
            return {}

    def _left_of(self, held: dict[str, str]) -> dict[str, str]:
        """Those that neither have ended nor been claimed again."""
        try:
            with redis.Redis.from_url(self.cluster.redis_url, decode_responses=True) as client:
                now = {job_id: client.hmget(keys.job(job_id), "status", "fence") for job_id in held}
        except redis.RedisError:
            return held
        return {i: fence for i, fence in held.items() if now[i] == ["running", fence] or now[i][0] == "queued"}
