"""One worker process from start to stop: consumes tickets, drains on SIGTERM, releases unfinished jobs."""

import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import Celery, signals

from contract.broker import declare
from contract.errors import UnavailableError
from contract.ledger.ledger import Ledger
from contract.log import get_logger
from contract.tracing import Tracer
from worker.pipeline.pipeline import Pipeline
from worker.runtime.models import Models
from worker.upkeep.health import Health, check_threads
from worker.upkeep.leases import LeaseKeeper
from worker.upkeep.reconciler import Reconciler
from worker.upkeep.thumbnails import Thumbnailer
from worker.upkeep.watchdog import Watchdog

_log = get_logger(__name__)

#: If one of these threads stops, the worker holds jobs that never finish.
_THREADS = ("predict", "commit", "leases", "reconciler", "watchdog", "costly", "fetch", "shadow", "models", "load")


@dataclass(frozen=True)
class Worker:
    """The parts of a worker, ready to run."""

    celery: Celery
    ledger: Ledger
    models: Models
    pipeline: Pipeline
    leases: LeaseKeeper
    reconciler: Reconciler
    watchdog: Watchdog
    thumbnailer: Thumbnailer
    health: Health
    #: None unless traces are exported.
    tracer: Tracer | None
    drain_s: float

    def run(self) -> int:
        """Consume tickets until SIGTERM or SIGINT, then finish the held jobs; returns the exit status."""
        for part in (self.thumbnailer, self.pipeline, self.leases, self.reconciler, self.watchdog):
            part.start()
        with suppress(UnavailableError):
            self.models.refresh()
        queues = self.models.queue_names()
        for queue in queues:
            declare(self.celery, queue)
        signals.worker_shutting_down.connect(self._drain, weak=False)
        signals.setup_logging.connect(_keep_logging, weak=False)
        consumer = self.celery.Worker(
            pool="threads",
            concurrency=1,
            hostname=f"pawqueue@{socket.gethostname()}",
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            quiet=True,
            queues=queues,
        )
        self.models.before_load = self.pipeline.postpone_waiting
        self.models.changed = partial(self._models_changed, consumer, set(queues))
        self.models.start()
        signals.worker_ready.connect(partial(self._go_live, consumer), weak=False)
        consumer.start()
        self.models.stop()
        for part in (self.watchdog, self.reconciler, self.pipeline, self.thumbnailer):
            part.stop()
        self._release()
        self.leases.stop()
        if self.tracer:
            self.tracer.close()
        return int(consumer.exitcode or 0)

    def _go_live(self, consumer: Any, **_: Any) -> None:
        self.health.go_live(
            alive=lambda: check_threads(_THREADS) or self.watchdog.problem(),
            ready=lambda: self._connection_problem(consumer),
            models=lambda: (f"{held.name}@{held.version} {held.state}" for held in self.models.held()),
        )

    def _models_changed(self, consumer: Any, subscribed: set[str]) -> None:
        """Take jobs of models that the worker now serves; `Pipeline.wants` leaves out those that it cannot load."""
        self.pipeline.models_changed()
        for queue in self.models.queue_names():
            if queue not in subscribed and getattr(consumer, "consumer", None):
                declare(self.celery, queue)
                consumer.consumer.call_soon(consumer.consumer.add_task_queue, queue)
                subscribed.add(queue)

    def _connection_problem(self, consumer: Any) -> str:
        """Why the worker receives no tickets; empty if it receives them."""
        if problem := self.leases.connection_problem():
            return problem
        connection = getattr(consumer.consumer, "connection", None)
        return "" if connection and connection.connected else "The queue (Redis) is not connected."

    def _drain(self, **_: Any) -> None:
        """Stop claiming jobs; exit after `drain_s` even if some jobs are not finished."""
        self.health.drain()
        self.pipeline.drain()
        timer = threading.Timer(self.drain_s, self._exit_now)
        timer.daemon = True
        timer.start()

    def _exit_now(self) -> None:
        _log.warning("Jobs were not finished in time; they return to the queue", drain_s=self.drain_s)
        self.models.stop()
        self._release()
        os._exit(0)

    def _release(self) -> None:
        """Return the held jobs to their queues."""
        claims = self.leases.held()
        try:
            if claims:
                self.ledger.release(claims)
        except UnavailableError:
            _log.warning(
                "Redis is unavailable; held jobs return to the queue when their leases expire", jobs=len(claims)
            )


def _keep_logging(**_: Any) -> None:
    """Replace Celery's logging setup, which would overwrite ours."""
