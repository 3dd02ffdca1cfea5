"""The web server: gunicorn's gevent worker, with limits on slow clients, JSON errors and a prompt shutdown."""

import gc
import json
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.http import parser
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.ggevent import GeventWorker

from contract.errors import HeadersTooLargeError, UploadError, UrlTooLongError
from gateway import BROKEN_BODY

#: A client that neither sends nor reads for this long is disconnected.
_STALLED_S = 30.0
#: During shutdown, idle connections are closed only after this time, because a request may still be on its way.
_IDLE_S = 1.0
#: Limits for discarding input after the last response of a connection: total time, time without input, and size.
_LINGER_S, _LINGER_IDLE_S, _LINGER_MAX_BYTES = 30.0, 5.0, 100_000_000
_LINGER_BYTES = 262_144
_DETAIL_MAX = 300
#: Allocations between garbage collections; a request keeps a few hundred objects alive until its response is sent.
_GC_THRESHOLD = 10_000
_CODES = {500: "internal", 501: "not_implemented"}


def write_problem(sock: Any, status: int, reason: str, message: str) -> None:
    """Reply to a request that is not valid HTTP with problem details, instead of gunicorn's HTML page."""
    detail = f"The request is not valid HTTP/1.1: {message[:_DETAIL_MAX] or reason}."
    _send_problem(sock, status, reason, _CODES.get(status, "bad_request"), detail)


def _send_problem(sock: Any, status: int, reason: str, code: str, detail: str) -> None:
    body = {
        "type": f"urn:pawqueue:error:{code}",
        "title": reason,
        "status": status,
        "detail": detail,
        "code": code,
    }
    data = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("latin-1") + data)
    _linger(sock)


def _linger(sock: Any) -> None:
    """Discard what the client is still sending, until it closes the connection.

    Many clients send the whole request before they read. Closing a socket with unread input resets the connection, and
    the client or a proxy in between may lose the response: nginx turned a third of the refusals of large uploads into
    502.
    """
    end_s, left_bytes = time.monotonic() + _LINGER_S, _LINGER_MAX_BYTES
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while left_bytes > 0 and (left_s := end_s - time.monotonic()) > 0:
            sock.settimeout(min(left_s, _LINGER_IDLE_S))
            if not (data := sock.recv(_LINGER_BYTES)):
                break
            left_bytes -= len(data)


def _closing_after_broken_bodies(application: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `application` to close the connection after an incomplete body: what follows is not a new request."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        def start(status: str, *arguments: Any) -> Any:
            if BROKEN_BODY in environ or status.startswith("413"):
                start_response.__self__.force_close()  # type: ignore[attr-defined]  # gunicorn's own response
            return start_response(status, *arguments)

        # gunicorn's wrapper around this reader copies 1 kB at a time.
        environ["wsgi.input"] = environ["wsgi.input"].reader
        return application(environ, start)

    return call


class _Unreader(SocketUnreader):  # type: ignore[misc]  # gunicorn is untyped
    """Reads from a connection, and raises an error for a body that arrives too slowly."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._is_body = False
        self._time_left_s = self._bytes_per_s = 0.0

    def expect_body(self, base_time_s: float, bytes_per_s: float) -> None:
        """Limit the time spent waiting for the next body to `base_time_s`, plus 1 s for every `bytes_per_s` bytes."""
        self._is_body, self._time_left_s, self._bytes_per_s = True, base_time_s, bytes_per_s

    def expect_head(self) -> None:
        """Apply no limits while waiting for the next request."""
        self._is_body = False

    def chunk(self) -> bytes:
        """Read the bytes that have arrived. Only the time spent waiting here counts towards the limit.

        Raises:
            TimeoutError: nothing arrived for too long, or the body is too slow on average.
        """
        start_s = time.monotonic()
        data: bytes = super().chunk()
        if self._is_body:
            self._time_left_s += len(data) / self._bytes_per_s - (time.monotonic() - start_s)
            if self._time_left_s < 0:
                raise TimeoutError("The request body arrives too slowly.")
        return data


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn is untyped
    """The process that serves requests."""

    #: A body may take `body_base_time_s`, plus the time it needs at this average rate. A client therefore cannot hold a
    #: connection by sending a byte now and then.
    body_base_time_s, body_bytes_per_s = 30.0, 1000.0

    def init_process(self) -> None:
        """Start the process; gunicorn has no settings for its error format or its reader."""
        # Until gunicorn installs its handlers, the ones inherited from the parent would swallow a signal.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self.handle_exit)
        util.write_error = write_problem
        parser.SocketUnreader = _Unreader
        #: Idle connections, and when each became idle.
        self._idle_since_s: dict[Any, float] = {}
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and exclude it from garbage collection: it lives as long as the process."""
        super().load_wsgi()
        self.wsgi: Any = _closing_after_broken_bodies(self.wsgi)
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)

    def notify(self) -> None:
        """Report once a second that the process is alive; during shutdown, close idle connections."""
        super().notify()
        if not self.alive:
            for sock, since_s in list(self._idle_since_s.items()):
                if time.monotonic() - since_s > _IDLE_S:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Handle the requests of one connection."""
        self._idle_since_s[client] = time.monotonic()
        try:
            super().handle(listener, client, addr)
        finally:
            self._idle_since_s.pop(client, None)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Respond to a request that could not be read; names the limit if one was exceeded."""
        error: UploadError | None = None
        if isinstance(exc, LimitRequestLine):
            error = UrlTooLongError(
                f"The URL is longer than the limit of {self.cfg.limit_request_line:,} bytes. Shorten it; "
                "a long file name can be sent in a form, as in `curl -F file=@cat.jpg`."
            )
        elif isinstance(exc, LimitRequestHeaders):
            error = HeadersTooLargeError(
                f"The request has more than {self.cfg.limit_request_fields} header fields, or one that is longer than "
                f"{self.cfg.limit_request_field_size:,} bytes. Send fewer or shorter ones; cookies are often the cause."
            )
        if error is None:
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("Refused a request: %s", error.detail)
        with suppress(OSError):
            _send_problem(client, error.http_status, error.title, error.code, error.detail)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Handle one request, with timeouts for reading its body and sending its response."""
        self._idle_since_s.pop(sock, None)
        req.unreader.expect_body(self.body_base_time_s, self.body_bytes_per_s)
        sock.settimeout(_STALLED_S)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        except StopIteration:  # this was the last response
            self._idle_since_s[sock] = time.monotonic()
            _linger(sock)
            raise
        finally:
            sock.settimeout(None)
            req.unreader.expect_head()
            self._idle_since_s[sock] = time.monotonic()
