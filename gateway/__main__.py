"""`python -m gateway`: the gateway under gunicorn, one process with a gevent worker; scale it by replicas."""

import os
import sys
from typing import Any

from contract.settings import Settings, SettingsError, load_settings

#: Requests that may be open at once, waiting ones included.
_CONNECTIONS = 4000


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    from gunicorn.app.base import BaseApplication  # noqa: PLC0415 - only this entry point needs the server

    class Gateway(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in server_options(settings).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # Imported after the gevent worker has patched the standard library.
            from gateway.wsgi import make_app  # noqa: PLC0415

            return make_app()

    Gateway().run()
    return 0


def server_options(settings: Settings) -> dict[str, Any]:
    """Gunicorn's settings."""
    return {
        "bind": f"{settings.gateway_host}:{settings.gateway_port}",
        "workers": 1,
        "worker_class": "gateway.server.Worker",
        "worker_connections": _CONNECTIONS,
        "keepalive": 75,
        "graceful_timeout": int(settings.drain_s),
        "timeout": 60,
        "proc_name": "pawqueue-gateway",
        "loglevel": "warning",
        "control_socket_disable": True,  # nobody asks it, and a read-only disk has no place for it
    }


if __name__ == "__main__":
    sys.exit(main())
