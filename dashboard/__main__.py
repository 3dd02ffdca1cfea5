"""`python -m dashboard`: serves the dashboard in one process with a background reader thread."""

import logging
import os
import sys
from typing import TYPE_CHECKING

from contract.log import configure_logging
from contract.proxy import behind_proxy
from contract.settings import Settings, SettingsError, load_settings
from contract.web.limits import WebLimits
from dashboard import BODY_MAX_BYTES

if TYPE_CHECKING:
    from flask import Flask

#: Memory for request bodies that is left for other viewers while one uploads as much as allowed.
_OTHERS_BYTES = 50_000_000


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    server = {
        "bind": f"{settings.dashboard_host}:{settings.dashboard_port}",
        "graceful_timeout": 5,
        "proc_name": "pawqueue-dashboard",
    }
    bodies_max_bytes = max(settings.bodies_max_bytes, BODY_MAX_BYTES + _OTHERS_BYTES)
    limits = WebLimits(
        BODY_MAX_BYTES,
        bodies_max_bytes,
        bodies_max_bytes - _OTHERS_BYTES,
        connections_per_address=settings.connections_per_address,
    )
    # gunicorn is not needed by tests of `make_app`.
    from contract.web.server import Server  # noqa: PLC0415

    Server(server, limits, settings.trusted_networks(), lambda _: make_app(settings), _end_streams).run()
    return 0


def _end_streams(app: "Flask") -> None:
    app.config["SERVICES"].gateway.end_streams()


def make_app(settings: Settings) -> "Flask":
    """Create the application and start its reader.

    Called after gunicorn forks, because threads do not survive a fork, and after gevent has replaced the sockets.
    """
    from dashboard.app import create_app  # noqa: PLC0415
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


if __name__ == "__main__":
    sys.exit(main())
