"""`python -m worker`: load the model, warm it up, then process jobs until SIGTERM."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import redis

from bundle.manifest import BundleError
from contract.errors import UnavailableError
from contract.job import ModelRef
from contract.ledger.connection import connect
from contract.ledger.models import ModelRegistry
from contract.ledger.requirements import require_redis
from contract.log import configure_logging, get_logger
from contract.metrics_port import serve_metrics
from contract.settings import Settings, SettingsError, load_settings, usable_cores
from contract.tracing import open_tracer
from worker.app import build_worker
from worker.process import Worker
from worker.runtime.keras import KerasModel, choose_backend, load_model
from worker.runtime.models import Models, models_to_serve
from worker.upkeep.health import Health, health_app
from worker.upkeep.metrics import WorkerMetrics

_log = get_logger(__name__)

#: Pause between two looks for a model, while there is none.
_FIND_S = 2.0


def main(load: Callable[..., KerasModel] = load_model, build: Callable[..., Worker] = build_worker) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log_level, "worker")
        has_redis = require_redis(settings, "worker")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    cores = model_cores(settings, usable_cores())
    choose_backend(settings.backend, cores)
    # Until Celery installs its own handler, no job is held and the process can exit immediately.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    metrics, health = WorkerMetrics(settings.batch_size), Health()
    host = settings.worker_metrics_host
    try:
        port = serve_metrics(host, settings.worker_metrics_port, health_app(metrics.registry, health))
    except OSError as error:
        print(
            f"Cannot listen on {host}, port {settings.worker_metrics_port} ({error.strerror}). "
            "Choose another port with PAWQUEUE_WORKER_METRICS_PORT.",
            file=sys.stderr,
        )
        return 2

    def load_bundle(folder: Path, checksum: str | None, turn: AbstractContextManager[None]) -> KerasModel:
        return load(
            folder,
            settings.precision,
            settings.batch_size,
            cores,
            checksum,
            measure_s=settings.measure_s,
            turn=turn,
            memory=settings.state_dir / "strategies",
            trust_code=settings.trust_bundle_code,
        )

    try:
        registry = ModelRegistry(connect(settings.redis_address()))
        models = models_to_serve(settings, load_bundle, registry, by=socket.gethostname())
    except BundleError as error:
        _log.error("The model cannot be served", reason=str(error))
        return 1
    model = _load_first(models, health)
    if model is None:
        return 1
    if not has_redis:
        health.wait("Redis is not responding.")
        try:
            require_redis(settings, "worker", wait=True)
        except SettingsError as error:
            print(error, file=sys.stderr)
            return 2
    metrics_address = f"http://{host}:{port}/metrics"
    worker = build(
        settings,
        model,
        models=models,
        metrics=metrics,
        health=health,
        metrics_address=metrics_address,
        tracer=open_tracer("worker"),
    )
    del model  # otherwise its memory would never be freed
    return worker.run()


def _load_first(models: Models, health: Health) -> KerasModel | None:
    """Load the live version of the first model that can be loaded; None if none can.

    While no model is there that the worker may serve, it waits for one.
    """
    while not (refs := _find(models)):
        health.wait("There is no model that this worker may serve.")
        time.sleep(_FIND_S)
    for ref in refs:
        if models.has_failed(ref):
            continue
        try:
            return models.load(ref)
        except BundleError:
            continue  # it is logged
    return None


def _find(models: Models) -> list[ModelRef]:
    # A Redis that started after this worker is not checked yet; `require_redis` reports what is wrong with it.
    with suppress(UnavailableError, redis.ResponseError):
        models.refresh()
    return models.live_versions()


def model_cores(settings: Settings, usable: int) -> int:
    """How many CPU cores the model uses: `PAWQUEUE_WORKER_CORES`, at most `usable`. Warns if cores would stay idle."""
    if settings.worker_cores and settings.worker_cores > usable:
        _log.warning(
            "PAWQUEUE_WORKER_CORES is higher than the number of usable cores",
            cores=settings.worker_cores,
            usable=usable,
        )
    cores = min(settings.worker_cores or usable, usable)
    if cores > settings.batch_size:
        _log.warning(
            "A batch has fewer images than the worker has cores: raise PAWQUEUE_BATCH_SIZE or run more workers",
            cores=cores,
            batch_size=settings.batch_size,
        )
    return cores


if __name__ == "__main__":
    sys.exit(main())
