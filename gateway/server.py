"""The server under the application: gunicorn's gevent worker, made to refuse in our form and to give up who stalls."""

import json
from collections.abc import Callable
from typing import Any

from gunicorn import util
from gunicorn.workers.ggevent import GeventWorker

from gateway import BROKEN_BODY

#: A sender who lets that long pass without a byte is given up; a slow one who sends on is not.
_STALLED_S = 30.0
_DETAIL_MAX = 300
_CODES = {431: "headers_too_large", 500: "internal", 501: "not_implemented"}


def write_problem(sock: Any, status: int, reason: str, message: str) -> None:
    """Answer a request that never reached the application, as `gunicorn.util.write_error` does in HTML."""
    code = _CODES.get(status, "bad_request")
    body = {
        "type": f"urn:pawqueue:error:{code}",
        "title": reason,
        "status": status,
        "detail": f"The request could not be read: {message[:_DETAIL_MAX] or reason}. Send it as HTTP/1.1.",
        "code": code,
    }
    data = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("latin-1") + data)


def _closing(application: Callable[..., Any]) -> Callable[..., Any]:
    """`application`, whose connection ends after a request whose body was broken: what follows it is no request."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        def start(*arguments: Any) -> Any:
            if BROKEN_BODY in environ:
                start_response.__self__.force_close()  # type: ignore[attr-defined]  # gunicorn's own response
            return start_response(*arguments)

        return application(environ, start)

    return call


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gives up senders that stall, and answers what is no HTTP with a problem."""

    def init_process(self) -> None:
        """Start; gunicorn offers no setting for the form of its own errors."""
        util.write_error = write_problem
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application."""
        super().load_wsgi()
        self.wsgi: Any = _closing(self.wsgi)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Answer one request; reading its body or writing its answer may not stall."""
        sock.settimeout(_STALLED_S)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            sock.settimeout(None)
