"""What a worker answers when it is asked how it is: `/healthz`, `/readyz` and `/metrics` on its metrics port."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

#: A check: empty when all is well, else what is wrong.
Check = Callable[[], str]
_LOADING = "The model is being loaded."


class Health:
    """How a worker is, from the start of its process to the end; safe to ask from any thread."""

    def __init__(self) -> None:
        self._stage = _LOADING
        self._alive: Check = lambda: ""
        self._ready: Check = lambda: ""

    def serve(self, alive: Check, ready: Check) -> None:
        """It has begun to work; from now on these are asked."""
        self._alive, self._ready, self._stage = alive, ready, ""

    def drain(self) -> None:
        """It takes no more."""
        self._stage = "The worker is stopping: it takes no more jobs and finishes what it holds."

    def why_not_alive(self) -> str:
        """Why the process should be replaced; empty while it should not: also during a long start or stop."""
        return self._alive()

    def why_not_ready(self) -> str:
        """Why no jobs are taken; empty while they are."""
        return self._stage or self._alive() or self._ready()


def check_threads(names: Iterable[str]) -> str:
    """What is wrong when one of these threads has ended: without it jobs would be held and never finished."""
    living = {thread.name for thread in threading.enumerate()}
    ended = [name for name in names if name not in living]
    return f"These threads have ended: {', '.join(ended)}." if ended else ""


def serve_health(host: str, port: int, registry: CollectorRegistry, health: Health) -> int:
    """Answer in threads of its own from now on; returns the port (of its own choice for port 0).

    Raises:
        OSError: the port is taken.
    """
    server = make_server(host, port, _application(registry, health), _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return int(server.server_port)


def _application(registry: CollectorRegistry, health: Health) -> Callable[..., Any]:
    metrics = make_wsgi_app(registry)
    checks: dict[str, Check] = {"/healthz": health.why_not_alive, "/readyz": health.why_not_ready}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            return metrics(environ, start_response)
        wrong = check()
        status = "503 Service Unavailable" if wrong else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{wrong or 'ok'}\n".encode()]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds: no line for each."""
