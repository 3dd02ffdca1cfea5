"""Causes the faults of a chaos run, and measures how long the service takes to recover."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from contract.ledger import keys
from contract.queues import QUEUES, queue_name
from tests.chaos.clients import Clients
from tests.chaos.cluster import FAULT_POINTS, Cluster
from tests.chaos.models import MODELS

_POLL_S = 0.05


@dataclass(frozen=True)
class Plan:
    """The size of a chaos run."""

    jobs: int = 10_000
    clients: int = 16
    workers: int = 2
    worker_kills: int = 30
    gateway_kills: int = 5
    redis_kills: int = 3
    notifiers: int = 2
    notifier_kills: int = 6
    #: Share of the events that the receiver of webhooks does not take.
    receiver_fails: float = 0.2
    cut_s: float = 20.0
    #: Maximum wait for the conditions of a fault, such as a running worker.
    wait_s: float = 60.0
    #: Maximum duration of the run.
    limit_s: float = 1200.0
    lease_s: float = 10.0
    sweep_s: float = 2.0
    #: `PAWQUEUE_MAX_ATTEMPTS`.
    max_attempts: int = 3
    seed: int = 1
    #: Whether workers serve a trivial model, with which they start within a second.
    light: bool = False

    def faults(self) -> list[str]:
        """All faults, in random order."""
        faults = ["worker"] * self.worker_kills + ["gateway"] * self.gateway_kills + ["redis"] * self.redis_kills
        faults += ["notifier"] * self.notifier_kills + (["cut"] if self.cut_s else [])
        random.Random(self.seed).shuffle(faults)
        return faults


@dataclass
class FaultInjector:
    """Causes the faults of a plan, spread over the upload of all jobs."""

    plan: Plan
    cluster: Cluster
    clients: Clients
    done: Counter[str] = field(default_factory=Counter)
    #: Seconds until the jobs of a killed worker were claimed again or finished, counted from when a worker was ready.
    recoveries_s: list[float] = field(default_factory=list)
    #: The recoveries during which no other worker died.
    undisturbed_s: list[float] = field(default_factory=list)
    _outages: int = 0
    _measurements: list[threading.Thread] = field(default_factory=list)

    def run(self) -> None:
        """Cause all faults, and allow some uploads before each."""
        rng, faults = random.Random(self.plan.seed), self.plan.faults()
        share = self.plan.jobs // (len(faults) + 1)
        for fault in faults:
            target = self.clients.accepted + rng.random() * share
            self.clients.allow(share)
            self._until(lambda target=target: self.clients.accepted >= target)
            time.sleep(rng.random())
            self._cause(fault, rng)
        self._until(self._all_points_reached)
        self.clients.allow(self.plan.jobs)

    def _all_points_reached(self) -> bool:
        """Whether each fault point was reached; if not, allow another upload."""
        is_done = set(self.cluster.faults_reached) == set(FAULT_POINTS)
        if not is_done:
            self.clients.allow(1)
        return is_done

    def wait_for_recoveries(self) -> None:
        """Wait until the last recovery is measured."""
        for thread in self._measurements:
            thread.join(self.plan.limit_s)

    def _cause(self, fault: str, rng: random.Random) -> None:
        if fault == "worker":
            self.kill_a_worker(rng)
        elif fault == "cut":
            self._outages += 1
            self.cluster.proxy.cut()
            time.sleep(self.plan.cut_s)
            self.cluster.proxy.restore()
            self.done[fault] += 1
        else:
            services = {"redis": [self.cluster.redis], "gateway": [self.cluster.gateway]}
            self._outages += fault == "redis"
            self._until(lambda: rng.choice(services.get(fault, self.cluster.notifiers)).kill())
            self.done[fault] += 1

    def kill_a_worker(self, rng: random.Random) -> None:
        """Kill a worker while jobs are running, and measure the recovery of those jobs."""
        self._until(lambda: bool(self.cluster.serving()))
        held: dict[str, str] = {}

        def are_jobs_running() -> bool:
            held.update(self._held())
            if not held:
                self.clients.allow(1)
            return bool(held)

        self._until(are_jobs_running, 3.0)
        # A worker may have died at a fault point just now.
        self._until(lambda: rng.choice(self.cluster.serving() or self.cluster.workers).kill())
        self.done["worker"] += 1
        if held:
            self._start_measuring(held)

    def _until(self, condition: Callable[[], object], wait_s: float | None = None) -> None:
        """Wait for `condition`, but at most `wait_s` (default: the limit of the plan)."""
        end_s = time.monotonic() + (wait_s or self.plan.wait_s)
        while not condition() and time.monotonic() < end_s:
            time.sleep(_POLL_S)

    def _start_measuring(self, held: dict[str, str]) -> None:
        thread = threading.Thread(target=self._measure_recovery, args=(held, self._outages), daemon=True)
        self._measurements.append(thread)
        thread.start()

    def _measure_recovery(self, held: dict[str, str], outages: int) -> None:
        from_s, starts = time.monotonic(), self._starts()
        while held and self._outages == outages:
            if not self.cluster.serving():
                from_s = time.monotonic()
            held = self._unrecovered(held)
            time.sleep(_POLL_S)
        if self._outages == outages:  # otherwise the time would include the outage
            self.recoveries_s.append(time.monotonic() - from_s)
            if self._starts() <= starts + 1:  # only the replacement of the killed worker
                self.undisturbed_s.append(self.recoveries_s[-1])

    def _starts(self) -> int:
        return sum(worker.starts for worker in self.cluster.workers)

    def _held(self) -> dict[str, str]:
        """The running jobs: fence by id."""
        try:
            with redis.Redis.from_url(self.cluster.redis_url, decode_responses=True) as client:
                queues = [queue_name(queue, model) for queue in QUEUES for model in MODELS]
                ids = [job_id for queue in queues for job_id in client.zrange(keys.running(queue), 0, -1)]
                return {job_id: client.hget(keys.job(job_id), "fence") or "" for job_id in ids}
        except redis.RedisError:
            return {}

    def _unrecovered(self, held: dict[str, str]) -> dict[str, str]:
        """The jobs that are neither finished nor claimed again."""
        try:
            with redis.Redis.from_url(self.cluster.redis_url, decode_responses=True) as client:
                now = {job_id: client.hmget(keys.job(job_id), "status", "fence") for job_id in held}
        except redis.RedisError:
            return held
        return {
            job_id: fence
            for job_id, fence in held.items()
            if now[job_id] == ["running", fence] or now[job_id][0] == "queued"
        }
