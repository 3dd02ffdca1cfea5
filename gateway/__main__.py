"""`python -m gateway` runs the gateway: gunicorn with one gevent process. To scale, run more gateways."""

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from contract.settings import SettingsError, load_settings
from contract.web.limits import Refusals, WebLimits
from gateway import GROUP_MAX_BYTES

if TYPE_CHECKING:
    from flask import Flask


def main(limits: WebLimits | None = None, **options: Any) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status.

    Args:
        limits: What the web server accepts; derived from the settings if missing.
        options: gunicorn settings that override those from `server_options`.
    """
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    # Until gunicorn installs its own handlers, there is nothing to finish.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # In a separate process: redis-py must not be imported before gevent has patched the standard library.
    check = subprocess.run([sys.executable, "-m", "contract.ledger.requirements", "gateway"], check=False)
    if check.returncode:
        return check.returncode
    # gunicorn is needed only by this entry point.
    from contract.web.server import Server  # noqa: PLC0415

    server = {
        "bind": f"{settings.gateway_host}:{settings.gateway_port}",
        "graceful_timeout": int(settings.drain_s),
        "proc_name": "pawqueue-gateway",
    }
    # A request keeps at most one image and a group of images in memory.
    limits = limits or WebLimits.of(settings, settings.upload_max_bytes + GROUP_MAX_BYTES)
    Server(server | options, limits, settings.trusted_networks(), _make_app, _end_waits).run()
    return 0


def _make_app(refusals: Refusals) -> "Flask":
    from gunicorn.errors import AppImportError  # noqa: PLC0415 - makes gunicorn print the message and exit

    # Imported only after gevent has replaced the sockets of the standard library.
    from gateway.app import make_app, serve_metrics_of  # noqa: PLC0415

    app = make_app(refusals)
    try:
        serve_metrics_of(app)
    except OSError as error:
        settings = app.config["SERVICES"].settings
        raise AppImportError(
            f"Cannot listen on {settings.gateway_metrics_host}, port {settings.gateway_metrics_port} "
            f"({error.strerror}). Choose another port with PAWQUEUE_GATEWAY_METRICS_PORT."
        ) from None
    return app


def _end_waits(app: "Flask") -> None:
    app.config["SERVICES"].end_waits()


if __name__ == "__main__":
    sys.exit(main())
