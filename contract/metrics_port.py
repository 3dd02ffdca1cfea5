"""Serves metrics and health checks on a port of their own, apart from what clients can reach."""

import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

#: A client that sends or reads nothing for this long is disconnected.
_STALLED_S = 10.0


def serve_metrics(host: str, port: int, application: Callable[..., Any]) -> int:
    """Serve a WSGI application in background threads; returns the port, which the system chooses if `port` is 0.

    Raises:
        OSError: the port is in use.
    """
    server = make_server(host, port, application, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Log nothing about a client that disconnects or stalls."""


class _Handler(WSGIRequestHandler):
    timeout = _STALLED_S

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes arrive every few seconds."""
