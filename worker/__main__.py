"""`python -m worker`: load the model, warm it up, then consume jobs until SIGTERM."""

import os
import sys

from bundle.manifest import BundleError
from contract.log import configure_logging, get_logger
from contract.settings import SettingsError, load_settings
from worker.runtime import load_model, quiet_backend

_log = get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    quiet_backend()
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(settings.log_level, "worker")
    from worker.app import build_worker, model_folder  # noqa: PLC0415 - after the log is set up

    folder = model_folder(settings)
    try:
        model = load_model(folder, settings.precision, settings.batch_size)
    except BundleError as error:
        _log.error("The model cannot be served", reason=str(error))
        return 1
    _log.info("Model loaded", model=model.name, version=model.version, precision=model.precision, backend=model.backend)
    return build_worker(settings, model).run()


if __name__ == "__main__":
    sys.exit(main())
