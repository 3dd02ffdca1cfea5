"""`python -m dashboard`: serves the dashboard with gunicorn, in one process with a background reader thread."""

import logging
import os
import sys
from typing import Any

from flask import Flask

from contract.log import configure_logging
from contract.proxy import behind_proxy
from contract.settings import Settings, SettingsError, load_settings

_THREADS = 8


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    from gunicorn.app.base import BaseApplication  # noqa: PLC0415 - not needed by tests of `make_app`

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in _gunicorn_options(settings).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return make_app(settings)

    Server().run()
    return 0


def make_app(settings: Settings) -> Flask:
    """Create the application and start its reader. Called after gunicorn forks: threads do not survive a fork."""
    from dashboard.app import create_app  # noqa: PLC0415 - the parent process stays small
    from dashboard.services import build_services  # noqa: PLC0415

    configure_logging(settings.log_level, "dashboard")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every URL, including passwords
    services = build_services(settings)
    app = create_app(services)
    app.wsgi_app = behind_proxy(  # type: ignore[method-assign]
        app.wsgi_app, settings.dashboard_prefix, settings.trusted_networks()
    )
    services.reader.start()
    return app


def _gunicorn_options(settings: Settings) -> dict[str, Any]:
    return {
        "bind": f"{settings.dashboard_host}:{settings.dashboard_port}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": _THREADS,
        "keepalive": 75,
        "graceful_timeout": 5,
        "timeout": 60,
        "proc_name": "pawqueue-dashboard",
        "loglevel": "warning",
        "forwarded_allow_ips": "",  # `contract/proxy.py` reads these headers; gunicorn would trust every local client
        "control_socket_disable": True,  # not used, and the disk may be read-only
    }


if __name__ == "__main__":
    sys.exit(main())
