"""`python -m worker`: load the model, warm it up, then consume jobs until SIGTERM."""

import os
import signal
import sys

from bundle.manifest import BundleError
from contract.cores import usable_cores
from contract.log import configure_logging, get_logger
from contract.settings import SettingsError, load_settings
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
    cores = settings.worker_cores or usable_cores()
    choose_backend(settings.backend, cores)
    configure_logging(settings.log_level, "worker")
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


if __name__ == "__main__":
    sys.exit(main())
