"""Builds a worker from its parts and a loaded model."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import redis

from bundle.decode import decode as decode_image
from contract.broker import fetch_only_wanted, make_celery
from contract.fetch import Fetcher
from contract.images.store import ImageStore, open_image_store
from contract.images.thumbnails import ThumbnailStore
from contract.job import new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.ledger.reviews import REVIEW_PART, ReviewLimits
from contract.ledger.types import LABELS_REPORTED, Heartbeat
from contract.queues import QUEUES
from contract.settings import Settings
from contract.tracing import Tracer
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.decode import CostlyDecoder, Decode, Decoder
from worker.pipeline.fetch import FetchThreads
from worker.pipeline.gate import Gate
from worker.pipeline.guard import Guard
from worker.pipeline.item import Item
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.predict import Predictor
from worker.pipeline.release import Releaser
from worker.pipeline.shadow import ShadowPredictor
from worker.pipeline.spans import JobSpans
from worker.process import Worker
from worker.runtime.keras import KerasModel
from worker.runtime.models import Models
from worker.tasks import register_task
from worker.upkeep.health import Health
from worker.upkeep.leases import LeaseKeeper
from worker.upkeep.metrics import WorkerMetrics
from worker.upkeep.reconciler import Reconciler
from worker.upkeep.thumbnails import Thumbnailer
from worker.upkeep.watchdog import Watchdog

#: Batches held per queue: one is predicted while the next one is decoded.
_BATCHES_HELD = 2


def build_worker(  # noqa: PLR0913 - every part that a test may replace is an argument
    settings: Settings,
    model: KerasModel,
    *,
    models: Models | None = None,
    metrics: WorkerMetrics | None = None,
    health: Health | None = None,
    metrics_address: str = "",
    client: "redis.Redis | None" = None,
    ledger: Ledger | None = None,
    images: ImageStore | None = None,
    thumbnails: ThumbnailStore | None = None,
    decode: Decode = decode_image,
    guard: Guard | None = None,
    tracer: Tracer | None = None,
    fetcher: Fetcher | None = None,
    end_process: Callable[[int], object] = os._exit,
) -> Worker:
    """Build a worker that serves `models`, of which `model` is loaded; without `models` it serves only `model`.

    A part that is not passed is built from the settings.
    """
    models = models or Models.of(model)
    metrics = metrics or WorkerMetrics(settings.batch_size)
    metrics.add_model(model.name)
    client = client or connect(settings.redis_address())
    ledger = ledger or Ledger(client)
    images = images or open_image_store(settings.image_store_address(), settings.image_ttl_s)
    thumbnails = thumbnails or ThumbnailStore(client, settings.thumbnail_ttl_s)
    celery = make_celery(settings.redis_address())
    heartbeat = _heartbeat(model, metrics_address)

    report = partial(_report, models)
    leases = LeaseKeeper(ledger, settings.lease_s, heartbeat, metrics.busy.sample, report)
    thumbnailer = Thumbnailer(thumbnails, settings.thumbnails_per_s, settings.thumbnail_pixels)
    gate = Gate(_BATCHES_HELD * settings.batch_size)
    limits = ReviewLimits(settings.review_ttl_s, settings.review_max_images, settings.review_max_bytes)
    kept = _kept_images(settings)
    releaser = Releaser(ledger, images, kept, settings.review_below, limits)
    batcher: Batcher[Item] = Batcher(
        settings.batch_size, settings.batch_wait_ms / 1000, ranks=len(QUEUES), is_ready=models.is_ready
    )
    # Costly images are in no gate and, once they are decoded, in the batcher.
    shadow = ShadowPredictor(
        models,
        ledger.shadows,
        metrics,
        is_idle=lambda: gate.is_empty() and not len(batcher) and costly.is_idle(),
        keep_for_review=releaser.keep_disagreement if kept else None,
        decode=decode,
    )
    spans = JobSpans(tracer) if tracer else None
    after = [lambda item, _: thumbnailer.offer(item.claim, item.pixels, item.features), shadow.offer]
    if spans:
        after.append(spans.add_job)
    committer = Committer(gate, ledger, releaser, leases, after, metrics, settings.result_ttl_s)
    predictor = Predictor(models, batcher, committer, metrics, spans)
    decoder = Decoder(
        batcher,
        committer,
        threads=settings.decode_threads,
        limit_s=settings.decode_limit_s,
        decode=decode,
    )
    costly = CostlyDecoder(
        gate,
        ledger,
        images,
        batcher,
        committer,
        guard=guard or Guard(settings.decode_limit_s, settings.upload_max_pixels),
        threads=settings.decode_threads,
    )
    rules = settings.fetch_rules()
    fetch = FetchThreads(
        gate,
        ledger,
        images,
        costly,
        committer,
        fetcher=fetcher or Fetcher(rules, settings.upload_max_bytes, settings.fetch_timeout_s),
        threads=settings.fetch_threads if rules else 1,
    )
    pipeline = Pipeline(
        ledger=ledger,
        images=images,
        leases=leases,
        models=models,
        gate=gate,
        decoder=decoder,
        batcher=batcher,
        costly=costly,
        fetch=fetch,
        predictor=predictor,
        committer=committer,
        shadow=shadow,
        batch_size=settings.batch_size,
        lease_s=settings.lease_s,
        result_ttl_s=settings.result_ttl_s,
    )
    register_task(celery, pipeline)
    fetch_only_wanted(celery, pipeline.wants)
    reconciler = Reconciler(
        ledger=ledger,
        images=images,
        kept=kept,
        review_limits=limits,
        worker_id=heartbeat.id,
        sweep_s=settings.sweep_s,
        grace_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        result_ttl_s=settings.result_ttl_s,
        image_ttl_s=settings.image_ttl_s,
    )
    watchdog = Watchdog(
        lambda: max(predictor.running_s(), shadow.running_s()),
        settings.predict_limit_s,
        fail_slow_images=decoder.fail_slow_images,
        decoders_stuck=decoder.is_stuck,
        end_process=end_process,
    )
    return Worker(
        celery=celery,
        ledger=ledger,
        models=models,
        pipeline=pipeline,
        leases=leases,
        reconciler=reconciler,
        watchdog=watchdog,
        thumbnailer=thumbnailer,
        health=health or Health(),
        tracer=tracer,
        drain_s=settings.drain_s,
    )


def _kept_images(settings: Settings) -> ImageStore | None:
    """The part of the image store for images that are kept for review; None if none are kept."""
    if not settings.review_below:
        return None
    return open_image_store(settings.image_store_address(), settings.review_ttl_s, part=REVIEW_PART)


def _heartbeat(model: KerasModel, metrics_address: str) -> Heartbeat:
    """The first heartbeat of this worker; the lease keeper updates its load and time."""
    return Heartbeat(
        id=f"{socket.gethostname()}-{os.getpid()}-{new_job_id()[-6:]}",
        host=socket.gethostname(),
        model_name=model.name,
        model_version=model.version,
        labels=list(model.labels[:LABELS_REPORTED]),
        backend=model.backend,
        precision=model.precision,
        busy_ratio=0.0,
        metrics_address=metrics_address,
        started_ms=now_ms(),
        seen_ms=now_ms(),
        strategies=model.strategies,
    )


def _report(models: Models, heartbeat: Heartbeat) -> Heartbeat:
    """A heartbeat with the current models."""
    return replace(
        heartbeat,
        serves=models.served_names(),
        models=models.held(),
        prepared=models.prepared(),
        shadows=models.shadows(),
    )
