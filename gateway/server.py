"""The server under the application: gunicorn's gevent worker, made to refuse in our form and to give up who stalls."""

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
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.ggevent import GeventWorker

from gateway import BROKEN_BODY

#: A sender who lets that long pass without a byte is given up; a slow one who sends on is not.
_STALLED_S = 30.0
#: A body may take that long, and beyond it as long as it comes at this rate on average: nobody holds a connection by
#: sending a byte now and then.
_BODY_PATIENCE_S, _BODY_BYTES_PER_S = 30.0, 1000.0
#: While the gateway stops, a connection without a request is closed after that long: one may be on its way.
_IDLE_S = 1.0
_DETAIL_MAX = 300
#: Objects made and not freed before the collector runs; a request leaves some hundred until its answer is sent.
_COLLECT_AFTER = 10_000
#: Read from a socket at once.
_CHUNK_BYTES = 131_072
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

        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return application(environ, start)

    return call


class _Body:
    """The body of a request, read in pieces as large as asked for: gunicorn's own reads 1 kB at a time."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        """Read up to `size` bytes, all that is left without it."""
        if size is None or size < 0 or self._body.buf.tell():
            data: bytes = self._body.read(size)
        else:
            data = self._body.reader.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


class _Line:
    """A socket that sends the head of an answer together with the body that follows: half the system calls."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._head = b""

    def sendall(self, data: bytes) -> None:
        """Send, or keep a head until more comes or `flush` is called."""
        if data.startswith(b"HTTP/1.") and data.endswith(b"\r\n\r\n"):
            self._head = data
            return
        head, self._head = self._head, b""
        self._sock.sendall(head + data)

    def sendfile(self, *arguments: Any, **options: Any) -> Any:
        """Send a file behind the head that was kept."""
        self.flush()
        return self._sock.sendfile(*arguments, **options)

    def flush(self) -> None:
        """Send what was kept: the head of an answer without a body."""
        head, self._head = self._head, b""
        if head:
            with suppress(OSError):  # gunicorn may have closed it after an error
                self._sock.sendall(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Unreader(SocketUnreader):  # type: ignore[misc]  # gunicorn is untyped
    """Takes what has come of an image at once, not 8 kB at a time; a body that only drips in is given up."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, _CHUNK_BYTES)
        self._is_body = False
        self._waited_s, self._received_bytes = 0.0, 0

    def expect_body(self) -> None:
        """What comes from now on is the body of a request."""
        self._is_body, self._waited_s, self._received_bytes = True, 0.0, 0

    def expect_head(self) -> None:
        """What comes from now on is the next request, which may be long in coming."""
        self._is_body = False

    def chunk(self) -> bytes:
        """Read what has come; only the time spent waiting for it counts.

        Raises:
            TimeoutError: nothing came for long, or too little over all.
        """
        began_s = time.monotonic()
        data: bytes = super().chunk()
        if self._is_body:
            self._waited_s += time.monotonic() - began_s
            self._received_bytes += len(data)
            if self._waited_s > _BODY_PATIENCE_S + self._received_bytes / _BODY_BYTES_PER_S:
                raise TimeoutError("The body comes too slowly.")
        return data


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gives up senders that stall or drip, answers what is no HTTP in our form, stops without waiting for the idle."""

    def init_process(self) -> None:
        """Start; gunicorn offers no setting for the form of its own errors, nor for how much it reads at once."""
        # Until gunicorn sets its own, a signal would go to the copy of its parent's handlers, and be lost.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self.handle_exit)
        util.write_error = write_problem
        parser.SocketUnreader = _Unreader
        #: Connections without a request, and since when, in seconds.
        self._idle_since_s: dict[Any, float] = {}
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, which stays: the collector need not look through it again and again."""
        super().load_wsgi()
        self.wsgi: Any = _closing(self.wsgi)
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)

    def notify(self) -> None:
        """Say that the process lives, each second; while it stops, close what only waits for a next request."""
        super().notify()
        if not self.alive:
            for sock, since_s in list(self._idle_since_s.items()):
                if time.monotonic() - since_s > _IDLE_S:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Answer the requests of one connection."""
        self._idle_since_s[client] = time.monotonic()
        try:
            super().handle(listener, client, addr)
        finally:
            self._idle_since_s.pop(client, None)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Answer one request; reading its body or writing its answer may not stall."""
        self._idle_since_s.pop(sock, None)
        req.unreader.expect_body()
        sock.settimeout(_STALLED_S)
        line = _Line(sock)
        try:
            return super().handle_request(listener_name, req, line, addr)
        finally:
            line.flush()
            sock.settimeout(None)
            req.unreader.expect_head()
            self._idle_since_s[sock] = time.monotonic()
