"""One worker process from start to stop: consume, drain on SIGTERM, give back what cannot be finished."""

import os
import socket
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import Celery, signals

from contract.broker import MESSAGE_MAX_JOBS, QUEUES, publish
from contract.errors import UnavailableError
from contract.ledger.ledger import Ledger
from contract.log import get_logger
from worker.health import Health, check_threads
from worker.leases import LeaseKeeper
from worker.pipeline import Pipeline
from worker.reconciler import Reconciler
from worker.thumbnails import Thumbnailer
from worker.watchdog import Watchdog

_log = get_logger(__name__)

#: Messages in hand at once. Each holds up to a batch; more would only keep work from other workers.
_MESSAGES = 16
#: What must run for jobs to come to their end.
_THREADS = ("predict", "commit", "leases", "reconciler", "watchdog")


@dataclass(frozen=True)
class Worker:
    """A wired worker, ready to run."""

    celery: Celery
    ledger: Ledger
    pipeline: Pipeline
    leases: LeaseKeeper
    reconciler: Reconciler
    watchdog: Watchdog
    thumbnails: Thumbnailer
    health: Health
    drain_s: float

    def run(self) -> int:
        """Consume until SIGTERM or SIGINT, finish what is in hand; returns the exit status."""
        for part in (self.thumbnails, self.pipeline, self.leases, self.reconciler, self.watchdog):
            part.start()
        signals.worker_shutting_down.connect(self._drain, weak=False)
        signals.setup_logging.connect(_keep_logging, weak=False)
        consumer = self.celery.Worker(
            pool="threads",
            concurrency=_MESSAGES,
            hostname=f"pawqueue@{socket.gethostname()}",
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            quiet=True,
        )
        signals.worker_ready.connect(partial(self._serve, consumer), weak=False)
        consumer.start()
        for stopped in (self.watchdog, self.reconciler, self.pipeline, self.thumbnails):
            stopped.stop()
        self._give_back()
        self.leases.stop()
        return int(consumer.exitcode or 0)

    def _serve(self, consumer: Any, **_: Any) -> None:
        """Say from now on how it is."""
        self.health.serve(lambda: check_threads(_THREADS) or self.watchdog.hang(), lambda: self._deafness(consumer))

    def _deafness(self, consumer: Any) -> str:
        """Why no messages come in; empty while they do."""
        if not self.leases.is_heard():
            return "The job ledger (Redis) does not answer."
        connection = getattr(consumer.consumer, "connection", None)
        return "" if connection and connection.connected else "The queue (Redis) is not connected."

    def _drain(self, **_: Any) -> None:
        """Take no more; if what is in hand takes too long, give it back and leave."""
        self.health.drain()
        self.pipeline.drain()
        timer = threading.Timer(self.drain_s, self._leave)
        timer.daemon = True
        timer.start()

    def _leave(self) -> None:
        _log.warning("What is in hand was not finished in time and goes back to the queue", drain_s=self.drain_s)
        self._give_back()
        os._exit(0)

    def _give_back(self) -> None:
        """Put claimed jobs back in their queues, with a message for each queue."""
        claims = self.leases.held()
        try:
            released = self.ledger.release(claims) if claims else []
            for queue in QUEUES:
                pairs = zip(claims, released, strict=True)
                ids = [claim.job.id for claim, given in pairs if given and claim.job.queue == queue]
                for at in range(0, len(ids), MESSAGE_MAX_JOBS):
                    publish(self.celery, queue, ids[at : at + MESSAGE_MAX_JOBS])
        except UnavailableError:
            _log.warning("What is in hand goes back to the queue when its leases end", jobs=len(claims))


def _keep_logging(**_: Any) -> None:
    """Stand in for Celery's own set-up of logging, which would undo ours."""
