"""`python -m worker`: load the model, warm it up, then consume jobs until SIGTERM."""

import os
import signal
import sys

from bundle.manifest import BundleError
from contract.log import configure_logging, get_logger
from contract.settings import Settings, SettingsError, load_settings, usable_cores
from worker.health import Health, serve_health
from worker.metrics import WorkerMetrics
from worker.runtime import choose_backend, load_model

_log = get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings.log_level, "worker")
    cores = _cores_of(settings)
    choose_backend(settings.backend, cores)
    # Until Celery takes over, nothing is in hand yet.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from worker.app import build_worker, model_folder  # noqa: PLC0415 - after the log is set up

    metrics, health = WorkerMetrics(settings.batch_size), Health()
    host = settings.worker_metrics_host
    try:
        port = serve_health(host, settings.worker_metrics_port, metrics.registry, health)
    except OSError as error:
        print(
            f"Port {settings.worker_metrics_port} of {host} cannot be listened on ({error.strerror}): "
            "choose another with PAWQUEUE_WORKER_METRICS_PORT.",
            file=sys.stderr,
        )
        return 2
    folder = model_folder(settings)
    try:
        model = load_model(folder, settings.precision, settings.batch_size, cores)
    except BundleError as error:
        _log.error("The model cannot be served", reason=str(error))
        return 1
    _log.info("Model loaded", model=model.name, version=model.version, precision=model.precision, backend=model.backend)
    return build_worker(settings, model, metrics, health, f"http://{host}:{port}/metrics").run()


def _cores_of(settings: Settings) -> int:
    """Cores for the model; what cannot be meant is said."""
    usable = usable_cores()
    if settings.worker_cores and settings.worker_cores > usable:
        _log.warning(
            "PAWQUEUE_WORKER_CORES is more than this process may use", cores=settings.worker_cores, usable=usable
        )
    cores = min(settings.worker_cores or usable, usable)
    if cores > settings.batch_size:
        _log.warning(
            "A batch has fewer images than the worker has cores: set PAWQUEUE_BATCH_SIZE higher, or run more workers",
            cores=cores,
            batch_size=settings.batch_size,
        )
    return cores


if __name__ == "__main__":
    sys.exit(main())
