"""The wiring of one worker process, the only place where its parts are put together."""

import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from contract.broker import QUEUES, make_celery, oldest_message_ms, publish
from contract.images.store import open_image_store
from contract.images.thumbnails import ThumbnailStore
from contract.job import new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat
from contract.settings import Settings
from worker.batcher import Batcher
from worker.committer import ResultCommitter
from worker.decoding import DecodeWatch
from worker.gate import Gate
from worker.health import Health
from worker.leases import LeaseKeeper
from worker.message import Item
from worker.metrics import WorkerMetrics
from worker.model import Model
from worker.pipeline import Pipeline
from worker.predictor import Predictor
from worker.process import Worker
from worker.reconciler import Reconciler
from worker.tasks import register_task
from worker.thumbnails import Thumbnailer
from worker.turnstile import Turnstile
from worker.watchdog import Watchdog

#: Batches in hand at once, by queue: one that is predicted, one that is decoded.
_BATCHES_HELD = 2
#: Where the shipped bundle lies, beside the packages.
_SHIPPED_MODEL = Path(__file__).parent.parent / "models" / "cats-dogs"


def model_folder(settings: Settings) -> Path:
    """The bundle to serve: the one set, else the promoted one, else the one shipped."""
    champion = settings.state_dir / "models" / "champion"
    return settings.model or (champion if champion.exists() else _SHIPPED_MODEL)


def build_worker(settings: Settings, model: Model, metrics: WorkerMetrics, health: Health, address: str) -> Worker:
    """Put the parts of a worker together around a loaded model; its metrics are read at `address`."""
    client = connect(settings.redis_address())
    ledger = Ledger(client)
    images = open_image_store(settings.image_store_address(), settings.image_ttl_s)
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{new_job_id()[-6:]}"

    leases = LeaseKeeper(ledger, settings.lease_s, heartbeat_of(model, worker_id, address, metrics.busy.read))
    thumbnail_store = ThumbnailStore(client, settings.thumbnail_ttl_s)
    thumbnails = Thumbnailer(thumbnail_store, settings.thumbnails_per_s, settings.thumbnail_pixels)
    committer = ResultCommitter(ledger, images, leases, metrics, settings.result_ttl_s, show=thumbnails.offer)
    batcher: Batcher[Item] = Batcher(settings.batch_size, settings.batch_wait_ms / 1000, ranks=len(QUEUES))
    predictor = Predictor(model, batcher, committer, metrics)
    pipeline = Pipeline(
        ledger=ledger,
        images=images,
        leases=leases,
        committer=committer,
        predictor=predictor,
        gate=Gate(_BATCHES_HELD * settings.batch_size, ranks=len(QUEUES)),
        turnstile=Turnstile(),
        decoders=ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode"),
        decoding=DecodeWatch(settings.decode_threads),
        input_size=(model.height, model.width),
        lease_s=settings.lease_s,
        result_ttl_s=settings.result_ttl_s,
        decode_limit_s=settings.decode_limit_s,
    )
    celery = make_celery(settings.redis_address())
    register_task(celery, pipeline)
    reconciler = Reconciler(
        ledger=ledger,
        images=images,
        publish=partial(publish, celery),
        oldest_message_ms=partial(oldest_message_ms, client),
        worker_id=worker_id,
        sweep_s=settings.sweep_s,
        grace_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        result_ttl_s=settings.result_ttl_s,
        image_ttl_s=settings.image_ttl_s,
    )
    watchdog = Watchdog(predictor.running_s, settings.predict_limit_s, pipeline.give_up_slow_images)
    return Worker(celery, ledger, pipeline, leases, reconciler, watchdog, thumbnails, health, settings.drain_s)


def heartbeat_of(
    model: Model, worker_id: str, metrics_address: str, busy_ratio: Callable[[], float]
) -> Callable[[], Heartbeat]:
    """What makes this worker's heartbeats, each with the time of its making."""
    started_ms = now_ms()

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
