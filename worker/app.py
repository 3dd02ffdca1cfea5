"""The wiring of one worker process, the only place where its parts are put together."""

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery, signals
from prometheus_client import start_http_server

from contract.broker import QUEUES, make_celery
from contract.image_store import open_image_store
from contract.job import new_job_id, now_ms
from contract.ledger import Heartbeat
from contract.ledger_redis import RedisLedger, connect
from contract.settings import Settings
from worker.batcher import Batcher
from worker.committer import OutcomeCommitter
from worker.gate import Gate
from worker.leases import LeaseKeeper
from worker.message import Item
from worker.metrics import WorkerMetrics
from worker.model import Model
from worker.pipeline import Pipeline
from worker.predictor import Predictor
from worker.tasks import register_task

#: Messages in hand at once. Each holds up to a batch; more would only keep work from other workers.
_MESSAGES = 16
#: Batches in hand at once, by queue: one that is predicted, one that is decoded.
_BATCHES_HELD = 2
#: Where the shipped bundle lies, beside the packages.
_SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "cats-dogs"


@dataclass(frozen=True)
class Worker:
    """A wired worker, ready to run."""

    celery: Celery
    pipeline: Pipeline
    leases: LeaseKeeper

    def run(self) -> int:
        """Consume until SIGTERM or SIGINT, finish what is in hand; returns the exit status."""
        self.pipeline.start()
        self.leases.start()
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
        consumer.start()
        self.pipeline.stop()
        self.leases.stop()
        return int(consumer.exitcode or 0)

    def _drain(self, **_: Any) -> None:
        self.pipeline.drain()


def _keep_logging(**_: Any) -> None:
    """Stand in for Celery's own set-up of logging, which would undo ours."""


def model_folder(settings: Settings) -> Path:
    """The bundle to serve: the one set, else the promoted one, else the one shipped."""
    champion = settings.state_dir / "models" / "champion"
    return settings.model or (champion if champion.exists() else _SHIPPED_MODEL)


def build_worker(settings: Settings, model: Model) -> Worker:
    """Put the parts of a worker together around a loaded model."""
    ledger = RedisLedger(connect(settings.redis_address()))
    images = open_image_store(settings.image_store_address(), settings.image_ttl_s)
    metrics = WorkerMetrics(settings.batch_size)
    server, _ = start_http_server(settings.worker_metrics_port, settings.worker_metrics_host, metrics.registry)
    address = f"http://{settings.worker_metrics_host}:{server.server_port}/metrics"
    batcher: Batcher[Item] = Batcher(settings.batch_size, settings.batch_wait_ms / 1000, ranks=len(QUEUES))

    def busy_ratio() -> float:
        return predictor.busy_ratio()

    leases = LeaseKeeper(ledger, settings.lease_s, heartbeat_of(model, address, busy_ratio))
    committer = OutcomeCommitter(ledger, images, leases, metrics, settings.result_ttl_s)
    predictor = Predictor(model, batcher, committer, metrics)
    pipeline = Pipeline(
        ledger=ledger,
        images=images,
        leases=leases,
        committer=committer,
        predictor=predictor,
        gate=Gate(_BATCHES_HELD * settings.batch_size, ranks=len(QUEUES)),
        decoders=ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode"),
        input_size=(model.height, model.width),
        lease_s=settings.lease_s,
    )
    celery = make_celery(settings.redis_address())
    register_task(celery, pipeline)
    return Worker(celery, pipeline, leases)


def heartbeat_of(model: Model, metrics_address: str, busy_ratio: Callable[[], float]) -> Callable[[], Heartbeat]:
    """What makes this worker's heartbeats, each with the time of its making."""
    worker_id, started_ms = f"{socket.gethostname()}-{os.getpid()}-{new_job_id()[-6:]}", now_ms()

    def make() -> Heartbeat:
        return Heartbeat(
            id=worker_id,
            host=socket.gethostname(),
            model_name=model.name,
            model_version=model.version,
            labels=list(model.labels),
            backend=model.backend,
            precision=model.precision,
            busy_ratio=round(busy_ratio(), 3),
            metrics_address=metrics_address,
            started_ms=started_ms,
            seen_ms=now_ms(),
        )

    return make
