"""`python -m gateway` runs the gateway: gunicorn with one gevent process. To scale, run more gateways."""

import os
import signal
import subprocess
import sys
from typing import Any

from contract.settings import Settings, SettingsError, load_settings

#: Maximum number of open connections, including those of requests waiting for a result.
_CONNECTIONS = 4000


def main(**options: Any) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status.

    `options` are gunicorn settings that override those from `server_options`.
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
    from gunicorn.app.base import BaseApplication  # noqa: PLC0415 - only this entry point needs gunicorn
    from gunicorn.errors import AppImportError  # noqa: PLC0415 - makes gunicorn print the message and exit

    class Gateway(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in (server_options(settings) | options).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            # Imported only after the gevent worker has patched the standard library.
            from gateway.app import make_app, serve_metrics_of  # noqa: PLC0415

            app = make_app()
            try:
                serve_metrics_of(app)
            except OSError as error:
                raise AppImportError(
                    f"Cannot listen on {settings.gateway_metrics_host}, port {settings.gateway_metrics_port} "
                    f"({error.strerror}). Choose another port with PAWQUEUE_GATEWAY_METRICS_PORT."
                ) from None
            return app

    Gateway().run()
    return 0


def server_options(settings: Settings) -> dict[str, Any]:
    """The gunicorn settings."""
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
        "forwarded_allow_ips": "",  # `contract/proxy.py` reads these headers; gunicorn would trust every local client
        "control_socket_disable": True,  # unused, and creating it fails on a read-only file system
    }


if __name__ == "__main__":
    sys.exit(main())
