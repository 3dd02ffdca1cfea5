"""Serves metrics and health checks on a port of their own, apart from what clients can reach."""

import threading
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

#: A client that sends or reads nothing for this long is disconnected.
_STALLED_S = 10.0
#: Connections served at a time, by a thread each. A further one makes room for itself: the oldest one is closed.
_CONNECTIONS_MAX = 32


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
    request_queue_size = 128  # with the default of 5, a burst of connections waits a second for its retransmission

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()
        self._open: dict[Any, None] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread."""
        with self._lock:
            self._open[request] = None
            if len(self._open) > _CONNECTIONS_MAX:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(SHUT_RDWR)  # ends its thread
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Log nothing about a client that disconnects or stalls."""


class _Handler(WSGIRequestHandler):
    timeout = _STALLED_S

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes arrive every few seconds."""
