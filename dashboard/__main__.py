"""`python -m dashboard`: the dashboard under gunicorn, one process with threads and one background reader."""

import os
import sys
from typing import Any

from contract.settings import Settings, SettingsError, load_settings

_THREADS = 8


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    from gunicorn.app.base import BaseApplication  # noqa: PLC0415 - only this entry point needs the server

    class Dashboard(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in server_options(settings).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            from dashboard.wsgi import make_app  # noqa: PLC0415 - threads are to start after the fork

            return make_app()

    Dashboard().run()
    return 0


def server_options(settings: Settings) -> dict[str, Any]:
    """Gunicorn's settings."""
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
        "control_socket_disable": True,  # nobody asks it, and a read-only disk has no place for it
    }


if __name__ == "__main__":
    sys.exit(main())
