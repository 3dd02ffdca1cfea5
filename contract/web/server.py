"""The web server: gunicorn's gevent worker, with limits on clients, JSON errors and a prompt shutdown.

It must import nothing that opens sockets: gevent replaces the standard library's sockets when the process starts.
"""

import errno
import gc
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http import message as http_message
from gunicorn.http import parser, wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    InvalidChunkExtension,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.ggevent import GeventWorker, StreamServer

from contract.errors import (
    HeadersTooLargeError,
    HeadTooSlowError,
    PawqueueError,
    UnavailableError,
    UrlTooLongError,
)
from contract.proxy import Network, TrustedProxies
from contract.web.bodies import BODY, Body, BodyBudget
from contract.web.connections import SPARE, Connections, caller_of, is_check
from contract.web.limits import Refusal, Refusals, WebLimits
from contract.web.turns import start_turns, take_turns_of, yield_turn

#: A client that reads nothing of its response for this long is disconnected.
_STALLED_S = 30.0
#: During shutdown, idle connections are closed only after this time, because a request may still be on its way.
_IDLE_S = 1.0
#: Limits for discarding input after the last response of a connection: total time, time without input, and size.
_LINGER_S, _LINGER_IDLE_S, _LINGER_MAX_BYTES = 30.0, 5.0, 100_000_000
#: Into this memory all connections read what they discard.
_DISCARDED = bytearray(262_144)
#: What the application leaves unread of a body is discarded up to this size to keep the connection.
_REST_MAX_BYTES = 1_000_000
_PIECE_BYTES = 65_536
#: Read from a socket at once, of a head and of a body.
_HEAD_READ_BYTES, _BODY_READ_BYTES = 8192, 131_072
#: The same of a body in chunks: gunicorn takes 5 us for each, and they may have one byte.
_CHUNKED_READ_BYTES = 8_192
#: To return some bytes of a chunked body, this many times as many may be read, and some more: chunks of one byte.
_CHUNK_OVERHEAD, _CHUNK_FREE_BYTES = 8, 131_072
_DETAIL_MAX = 300
#: Allocations between garbage collections; a request keeps a few hundred objects alive until its response is sent.
_GC_THRESHOLD = 10_000
#: Connections accepted before the event loop serves others. gevent's default is 100, which takes 20 ms.
_ACCEPTED_AT_ONCE = 8
#: Connections that gevent accepts in addition to those that `Connections` allows, while closed ones are cleaned up.
_CLOSING = 512
#: Open files for everything but the connections of clients.
_OTHER_FILES = 256
_STATUS = {UnsupportedTransferCoding: 501, ConfigurationProblem: 500, ExpectationFailed: 417}
_CODES = {500: "internal", 501: "not_implemented"}


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """A service on this server; `run` serves until SIGTERM or SIGINT.

    Args:
        options: gunicorn settings.
        limits: What the server accepts.
        trusted: The networks of trusted proxies.
        make_app: Creates the WSGI application in the serving process, once gevent has replaced the sockets. Receives
            the counts of what the server refused.
        on_stop: Called with the application when the process begins to stop.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        limits: WebLimits,
        trusted: tuple[Network, ...],
        make_app: Callable[[Refusals], Any],
        on_stop: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._make_app = make_app
        self.limits = _within_open_files(limits)
        self.proxies = TrustedProxies(trusted)
        self.refusals = Refusals()
        self.on_stop = on_stop
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's settings; called by gunicorn."""
        common = {
            "workers": 1,
            "worker_class": Worker,
            "worker_connections": self.limits.connections + SPARE + _CLOSING,
            "timeout": 60,
            "loglevel": "warning",
            "forwarded_allow_ips": "",  # `contract/proxy.py` reads these headers; gunicorn would trust local clients
            "control_socket_disable": True,  # unused, and creating it fails on a read-only file system
            "logger_class": _Logger,
            "sendfile": False,  # `_Response` sends the head together with the body
        }
        for name, value in (common | dict(self._options)).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Create the application; called by gunicorn."""
        return self._make_app(self.refusals)


def _within_open_files(limits: WebLimits) -> WebLimits:
    """Raise the process's limit of open files as far as allowed, and accept fewer connections if it is too low."""
    needed = limits.connections + SPARE + _CLOSING + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            return replace(limits, connections=max(1, soft - SPARE - _CLOSING - _OTHER_FILES))
    return limits


def write_problem(sock: Any, status: int, reason: str, message: str) -> None:
    """Reply to a request that is not valid HTTP with problem details, instead of gunicorn's HTML page."""
    detail = f"The request is not valid HTTP/1.1: {message[:_DETAIL_MAX] or reason}."
    _send_problem(sock, status, reason, _CODES.get(status, "bad_request"), detail)


def _send_error(sock: Any, error: PawqueueError) -> None:
    _send_problem(sock, error.http_status, error.title, error.code, error.detail, error.retry_after_s)


def _send_problem(
    sock: Any, status: int, reason: str, code: str, detail: str, retry_after_s: int | None = None
) -> None:
    body = {
        "type": f"urn:pawqueue:error:{code}",
        "title": reason,
        "status": status,
        "detail": detail,
        "code": code,
    }
    data = json.dumps(body).encode()
    retry = f"Retry-After: {retry_after_s}\r\n" if retry_after_s else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"X-Content-Type-Options: nosniff\r\n{retry}Content-Length: {len(data)}\r\n\r\n"
    )
    with suppress(OSError):
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
            if not (size := sock.recv_into(_DISCARDED)):
                break
            left_bytes -= size


def _sends(sock: Any, time_s: float) -> bool:
    """Whether anything arrives in time. Creating gunicorn's parser for silent connections would take longer."""
    sock.settimeout(time_s)
    with suppress(OSError):
        return bool(sock.recv(1, socket.MSG_PEEK))
    return False


class _Logger(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's log without an access log: the services count and log requests themselves."""

    def access(self, *_: Any) -> None:
        """Do nothing; gunicorn would look up a logger for each request."""


class _Response(wsgi.Response):  # type: ignore[misc]  # gunicorn is untyped
    """A response whose head is sent together with the first part of its body, which saves a packet."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.headers_sent: bool
        self._head = b""

    def send_headers(self) -> None:
        """Prepare the head; `_emit_body` or `close` sends it."""
        if not self.headers_sent:
            lines = (*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n")
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def close(self) -> None:
        """End the response, which may have no body."""
        self.send_headers()
        if self._head:
            self._emit_head()
        super().close()

    def _emit_body(self, data: bytes) -> None:
        if self._head and not self.chunked:
            data, self._head = self._head + data, b""
        elif self._head:
            self._emit_head()
        super()._emit_body(data)

    def _emit_head(self) -> None:
        util.write(self.sock, self._head)
        self._head = b""


class _Unreader(SocketUnreader):  # type: ignore[misc]  # gunicorn is untyped
    """Reads from a connection, within the limits for the head of a request and then for its body."""

    def __init__(self, limits: WebLimits, refusals: Refusals, sock: Any) -> None:
        super().__init__(sock, _HEAD_READ_BYTES)
        self._limits = limits
        self._refusals = refusals
        #: The body of the request in progress; None while its head is expected.
        self.body: Body | None = None
        self.expects_continue = False
        self._is_body = self._is_chunked = False
        self._received = 0
        self._end_s = time.monotonic() + limits.head_s
        #: How much longer the body may keep the server waiting, and how many bytes may arrive in this read.
        self._pause_s = 0.0
        self._read_max = 0

    def expect_body(self, *, expects_continue: bool, is_chunked: bool) -> None:
        """The head is complete: apply the limits for bodies.

        Args:
            expects_continue: Whether the client sends the body only after an interim response.
            is_chunked: Whether it arrives in chunks, which may be tiny.
        """
        self._is_chunked = is_chunked
        self.expects_continue = expects_continue
        self._is_body = True
        self.mxchunk = _CHUNKED_READ_BYTES if is_chunked else _BODY_READ_BYTES
        self._received = 0
        self._end_s = time.monotonic() + self._limits.body_s
        self._pause_s = self._limits.body_pause_s

    def expect_head(self) -> None:
        """The request is finished: apply the limits for the next head."""
        if self.body is not None:
            self.body.release()
            self.body = None
        self._is_body = False
        self.mxchunk = _HEAD_READ_BYTES
        self._received = self.buf.seek(0, os.SEEK_END)  # the client may have sent it already
        self._end_s = time.monotonic() + (self._limits.head_s if self._received else self._limits.idle_s)

    def expect_bytes(self, size: int) -> None:
        """Limit what may arrive before the next `size` bytes of the body are complete."""
        self._read_max = _CHUNK_OVERHEAD * size + _CHUNK_FREE_BYTES

    def chunk(self) -> bytes:
        """Read the bytes that have arrived; none at the end, or if the connection stays idle for too long.

        Raises:
            TimeoutError: the body arrives too slowly.
            InvalidChunkExtension: much more than the body itself arrives.
            LimitRequestHeaders: the head is too large.
            HeadTooSlowError: it is not complete in time.
        """
        return self._body_chunk() if self._is_body else self._head_chunk()

    def _head_chunk(self) -> bytes:
        if self._received >= self._limits.head_max_bytes:
            raise LimitRequestHeaders("the head of the request is too large")
        self.sock.settimeout(max(0.001, self._end_s - time.monotonic()))
        try:
            data: bytes = super().chunk()
        except TimeoutError:
            if not self._received:
                return b""
            raise HeadTooSlowError(
                f"The head of the request was not complete within {self._limits.head_s:g} s. Send it at once."
            ) from None
        except OSError as error:
            if error.errno == errno.EBADF:  # how gevent reports that the server closed an idle connection
                return b""
            raise
        if not self._received:
            self._end_s = min(self._end_s, time.monotonic() + self._limits.head_s)
        self._received += len(data)
        return data

    def _body_chunk(self) -> bytes:
        if self._is_chunked:
            yield_turn()  # gunicorn takes milliseconds for the chunks in one read
        start_s = time.monotonic()
        left_s = self._end_s + self._received / self._limits.body_average_bytes_per_s - start_s
        self.sock.settimeout(max(0.001, min(self._pause_s, left_s)))
        try:
            data: bytes = super().chunk()
        except TimeoutError:
            self._refusals.count(Refusal.BODY_TOO_SLOW)
            raise TimeoutError("The request body arrives too slowly.") from None
        finally:
            self.sock.settimeout(_STALLED_S)
        self._received += len(data)
        self._read_max -= len(data)
        if self._read_max < 0:
            raise InvalidChunkExtension("too long")
        # Bytes pay back pauses, but buy none in advance: otherwise a fast start would allow a long silence.
        pause_s = self._pause_s + len(data) / self._limits.body_bytes_per_s - (time.monotonic() - start_s)
        self._pause_s = min(pause_s, self._limits.body_pause_s)
        return data


class _ChunkedReader(ChunkedReader):  # type: ignore[misc]  # gunicorn is untyped
    """Reads a body in chunks, whose sizes must end with CR and LF.

    gunicorn takes a single LF as part of a chunk extension. A proxy for which it ends the line would find other
    requests in the same bytes.
    """

    def parse_chunk_size(self, unreader: Any, data: bytes | None = None) -> Any:
        """Read the size of the next chunk."""
        data = data or b""
        while (end := data.find(b"\n")) < 0 and (more := unreader.read()):
            data += more
        if end >= 0 and not data.startswith(b"\r\n", max(0, end - 1)):
            raise InvalidChunkExtension("bare LF not allowed")
        return super().parse_chunk_size(unreader, data)


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn is untyped
    """The process that serves requests."""

    def init_process(self) -> None:
        """Start the process; gunicorn has no settings for its error format or its reader."""
        # Until gunicorn installs its handlers, the ones inherited from the parent would swallow a signal.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self.handle_exit)
        server: Server = self.app
        self._refusals = server.refusals
        self._limits = server.limits
        self._proxies = server.proxies
        self._connections = Connections(server.limits, server.proxies, server.refusals)
        self._is_stopping = False
        util.write_error = write_problem
        parser.SocketUnreader = partial(_Unreader, server.limits, server.refusals)
        wsgi.Response = _Response
        http_message.ChunkedReader = _ChunkedReader
        # gunicorn looks up a dozen settings for each request, which are then plain attributes.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        StreamServer.max_accept = _ACCEPTED_AT_ONCE
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and exclude it from garbage collection: it lives as long as the process."""
        super().load_wsgi()
        self._application = self.wsgi
        self._budget = BodyBudget(self._limits, self._refusals)
        self.wsgi: Any = self._call
        start_turns()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)

    def notify(self) -> None:
        """Report once a second that the process is alive; during shutdown, end waits and close idle connections."""
        super().notify()
        self._refusals.log()
        if self.alive:
            return
        if not self._is_stopping:
            self._is_stopping = True
            self.app.on_stop(self._application)
        for sock in self._connections.idle_for(_IDLE_S):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """Nothing: `_Unreader` limits the time."""
        return nullcontext()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Handle the requests of one connection."""
        self._connections.add(client, addr[0])
        take_turns_of(caller_of(addr[0]))
        try:
            if _sends(client, self._limits.head_s):
                super().handle(listener, client, addr)
            yield_turn()  # thousands of connections may be closed at once
        finally:
            self._connections.remove(client)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Respond to a request that could not be read; names the limit if one was exceeded."""
        if isinstance(exc, LimitRequestLine):
            self._refusals.count(Refusal.HEAD_TOO_LARGE)
            _send_error(
                client,
                UrlTooLongError(
                    f"The URL is longer than the limit of {self.cfg.limit_request_line:,} bytes. Shorten it; "
                    "a long file name can be sent in a form, as in `curl -F file=@cat.jpg`."
                ),
            )
        elif isinstance(exc, LimitRequestHeaders):
            self._refusals.count(Refusal.HEAD_TOO_LARGE)
            _send_error(
                client,
                HeadersTooLargeError(
                    f"The request has more than {self.cfg.limit_request_fields} header fields, or one that is longer "
                    f"than {self.cfg.limit_request_field_size:,} bytes, or more than {self._limits.head_max_bytes:,} "
                    "bytes of them in all. Send fewer or shorter ones; cookies are often the cause."
                ),
            )
        elif isinstance(exc, HeadTooSlowError):
            self._refusals.count(Refusal.HEAD_TOO_SLOW)
            _send_error(client, exc)
        elif isinstance(exc, ParseException):
            self._refusals.count(Refusal.MALFORMED)
            status = HTTPStatus(_STATUS.get(type(exc), 400))
            write_problem(client, status, status.phrase, str(exc))
        else:
            super().handle_error(req, client, addr, exc)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Handle one request, with limits for reading its body and sending its response."""
        client = self._client_address(req, addr[0])
        is_health_check = is_check(req.path, req.headers)
        if not self._connections.begin(sock, client, is_check=is_health_check):
            _send_error(
                sock,
                UnavailableError(
                    "The server has as many requests in progress as it accepts, or as it accepts from one address. "
                    "Try again, and send fewer at the same time.",
                    retry_after_s=1,
                ),
            )
            raise StopIteration
        take_turns_of(caller_of(client))
        if not is_health_check:
            yield_turn()  # thousands of requests may have arrived at once
        unreader: _Unreader = req.unreader
        # gunicorn would ask for the body before the application has decided whether to read it.
        is_chunked = isinstance(req.body.reader, ChunkedReader)
        unreader.expect_body(expects_continue=req._expected_100_continue, is_chunked=is_chunked)
        req._expected_100_continue = False
        sock.settimeout(_STALLED_S)
        try:
            super().handle_request(listener_name, req, sock, addr)
            is_last = not _discard_rest(req)
        except StopIteration:
            is_last = True
        except TimeoutError:
            self._refusals.count(Refusal.READER_TOO_SLOW)
            raise StopIteration from None
        finally:
            unreader.expect_head()
            self._connections.rest(sock)
        if is_last:
            _linger(sock)
            raise StopIteration
        yield_turn()  # the next request may already be there

    def _client_address(self, req: Any, peer: str) -> str:
        if not self._proxies.trusts(peer):
            return peer
        forwarded_for = ",".join(value for name, value in req.headers if name == "X-FORWARDED-FOR")
        return self._proxies.client_address(peer, forwarded_for)

    def _call(self, environ: dict[str, Any], start_response: Any) -> Any:
        """The application, with a body that is within the limits."""
        response = start_response.__self__  # gunicorn's own
        req, sock = response.req, environ["gunicorn.socket"]

        def begin() -> None:
            if req.unreader.expects_continue:
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        body = Body(
            partial(_read, req),
            None if "HTTP_TRANSFER_ENCODING" in environ else int(environ.get("CONTENT_LENGTH") or 0),
            environ,
            self._budget,
            max_bytes=self._limits.body_max_bytes,
            begin=begin,
        )
        req.unreader.body = environ["wsgi.input"] = environ[BODY] = body

        def start(status: str, *arguments: Any) -> Any:
            # What follows an incomplete body is not a new request, and discarding a large rest is not worth it.
            if body.is_broken or body.left_bytes > _REST_MAX_BYTES or status.startswith("413"):
                response.force_close()
            return start_response(status, *arguments)

        return self._application(environ, start)


def _read(req: Any, size: int) -> bytes:
    """Read up to `size` bytes of the body; fewer only at the end.

    Raises:
        OSError: the client is too slow or disconnected, or the chunks are malformed.
    """
    req.unreader.expect_bytes(size)
    try:
        data: bytes = req.body.reader.read(size)  # gunicorn's wrapper around this reader copies 1 kB at a time
    except ParseException as error:  # of a trailer
        raise InvalidChunkExtension(str(error)) from error
    return data


def _discard_rest(req: Any) -> bool:
    """Discard what the application left unread of the body; False if that is too much, or does not arrive."""
    left_bytes = _REST_MAX_BYTES
    with suppress(OSError):
        while left_bytes > 0:
            if not (data := _read(req, _PIECE_BYTES)):
                return True
            left_bytes -= len(data)
    return False
