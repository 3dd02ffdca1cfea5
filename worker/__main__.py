"""`python -m worker`: load the model, warm it up, then process jobs until SIGTERM."""

import os
import signal
import sys
from collections.abc import Callable

from bundle.locate import bundle_to_serve
from bundle.manifest import BundleError
from contract.ledger.requirements import require_redis
from contract.log import configure_logging, get_logger
from contract.metrics_port import serve_metrics
from contract.settings import Settings, SettingsError, load_settings, usable_cores
from worker.app import build_worker
from worker.process import Worker
from worker.runtime.keras import KerasModel, choose_backend, load_model
from worker.upkeep.health import Health, health_app
from worker.upkeep.metrics import WorkerMetrics

_log = get_logger(__name__)


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
    folder = bundle_to_serve(settings.model, settings.state_dir)
    try:
        model = load(
            folder,
            settings.precision,
            settings.batch_size,
            cores,
            settings.model_checksum,
            measure_s=settings.measure_s,
            memory=settings.state_dir / "strategies",
        )
    except BundleError as error:
        _log.error("The model cannot be served", reason=str(error))
        return 1
    _log.info("Model loaded", model=model.name, version=model.version, precision=model.precision, backend=model.backend)
    if not has_redis:
        health.wait("Redis is not responding.")
        try:
            require_redis(settings, "worker", wait=True)
        except SettingsError as error:
            print(error, file=sys.stderr)
            return 2
    metrics_address = f"http://{host}:{port}/metrics"
    return build(settings, model, metrics=metrics, health=health, metrics_address=metrics_address).run()


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
