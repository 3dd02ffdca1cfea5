"""Sends requests to URLs that clients choose.

A name is resolved once. Each of its addresses is checked, and the connection is made to the very address that was
checked, so a name server that changes its answer gains nothing. Redirects are never followed, and proxies of the
environment are not used. Start reading at `Outbound`; `destinations.py` has the rules.
"""

import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import ip_address
from typing import Any, TypeVar

from contract.destinations import Destinations, Target

#: How much of a response is read.
REPLY_MAX_BYTES = 4096
_RETRY_AFTER_MAX_S = 86_400
_OK = 200

#: Returns the addresses of a host: what `socket.getaddrinfo` returns.
Resolve = Callable[..., Sequence[tuple[Any, ...]]]
Response = TypeVar("Response")


class OutboundError(Exception):
    """A request has no valid response; the message says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to a request, as far as it was read."""

    status: int
    #: The start of the body, unless the request succeeded.
    text: str
    #: Seconds in `Retry-After`; None if it is missing or a date.
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A response to a GET request."""

    status: int
    #: Of a redirect: where it leads.
    location: str
    #: The start of the body if the status is 200, else empty.
    body: bytes


class Outbound:
    """Sends requests to the destinations that are allowed; safe to share between threads."""

    def __init__(
        self,
        destinations: Destinations,
        resolve: Resolve = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destinations = destinations
        self._resolve = resolve
        self._clock = clock

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Reply:
        """Send a POST request; `timeout_s` limits everything together, from resolving the name to the response.

        Raises:
            ForbiddenUrlError: the URL, or an address of its host, is not allowed.
            OutboundError: there was no valid response in time.
        """
        return self._exchange("POST", url, body, headers, timeout_s, _reply)

    def get(self, url: str, max_bytes: int, timeout_s: float) -> Page:
        """Send a GET request and read at most `max_bytes` of the body; raises like `post`."""

        def read(response: HTTPResponse) -> Page:
            body = response.read(max_bytes) if response.status == _OK else b""
            return Page(response.status, response.getheader("Location") or "", body)

        headers = {"User-Agent": "pawqueue", "Accept": "image/*, */*"}
        return self._exchange("GET", url, None, headers, timeout_s, read)

    def _exchange(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        read: Callable[[HTTPResponse], Response],
    ) -> Response:
        """Send a request, and return what `read` returns for the response."""
        end_s = self._clock() + timeout_s
        target = self._destinations.target(url)
        try:
            with self._connect(target, end_s) as connected:
                connection = HTTPConnection(target.host, target.port)
                # HTTPConnection would resolve the name again.
                connection.sock = _Timed(connected, end_s, self._clock)
                fixed = {"Host": target.authority, "Connection": "close"}
                connection.request(method, target.path, body, {**headers, **fixed})
                return read(connection.getresponse())
        except TimeoutError:
            raise OutboundError(f"No response within {timeout_s:g} s.") from None
        except ssl.SSLError as error:
            raise OutboundError(f"TLS failed: {error.reason or error}.") from None
        except OSError as error:
            raise OutboundError(f"The connection failed: {error.strerror or error}.") from None
        except HTTPException as error:
            raise OutboundError(f"Not a valid HTTP response ({type(error).__name__}).") from None

    def _connect(self, target: Target, end_s: float) -> socket.socket:
        """Connect to the first address of the host that accepts, after all of them were checked."""
        addresses = self._addresses(target)
        for _, address in addresses:
            self._destinations.check_address(target, ip_address(address))
        problem: OSError = TimeoutError()
        for number, (family, address) in enumerate(addresses):
            connected = socket.socket(family, socket.SOCK_STREAM)
            try:
                # An address that does not answer leaves time for the others.
                connected.settimeout(_left_s(end_s, self._clock) / (len(addresses) - number))
                connected.connect((address, target.port))
                connected.settimeout(_left_s(end_s, self._clock))
                return self._tls.wrap_socket(connected, server_hostname=target.host) if target.is_https else connected
            except OSError as error:
                connected.close()
                problem = error
        raise problem

    def _addresses(self, target: Target) -> list[tuple[int, str]]:
        try:
            found = self._resolve(target.host, target.port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a part of the name is too long
            raise OutboundError(f"{target.host} is not a valid name.") from None
        if not found:
            raise OutboundError(f"{target.host} has no address.")
        return list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _left_s(end_s: float, clock: Callable[[], float]) -> float:
    left_s = end_s - clock()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class _Timed:
    """What HTTPConnection needs of a socket. Sending and receiving end at one time, however slow the other side is."""

    def __init__(self, connected: socket.socket, end_s: float, clock: Callable[[], float]) -> None:
        self._connected, self._end_s, self._clock = connected, end_s, clock

    def sendall(self, data: bytes) -> None:
        """Send all of the data."""
        self._connected.settimeout(_left_s(self._end_s, self._clock))
        self._connected.sendall(data)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """A reader of what is received."""
        return io.BufferedReader(_Received(self._connected, self._end_s, self._clock))

    def close(self) -> None:
        """Do nothing: the socket is closed by the code that opened it."""


class _Received(io.RawIOBase):
    def __init__(self, connected: socket.socket, end_s: float, clock: Callable[[], float]) -> None:
        self._connected, self._end_s, self._clock = connected, end_s, clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connected.settimeout(_left_s(self._end_s, self._clock))
        return self._connected.recv_into(buffer)


def _reply(response: HTTPResponse) -> Reply:
    text = ""
    if not 200 <= response.status < 300:
        with suppress(OSError, HTTPException):  # the status is known
            text = response.read(REPLY_MAX_BYTES).decode(errors="replace")
    after = (response.getheader("Retry-After") or "").strip()
    seconds = min(int(after), _RETRY_AFTER_MAX_S) if re.fullmatch(r"[0-9]{1,9}", after) else None
    return Reply(response.status, text, seconds)
