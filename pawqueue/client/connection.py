"""HTTP requests to one gateway, with retries until a deadline."""

import io
import ssl
import threading
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx

from pawqueue.client.deadline import Deadline, retry_pause_s
from pawqueue.client.errors import ClientError, RefusedError, TimedOutError, UnreachableError
from pawqueue.client.traces import call_span

Parsed = TypeVar("Parsed")

_CONNECT_S = 5.0
#: Subtracted from the long-poll time, so that the response arrives before the deadline.
_TRAVEL_S = 0.5
#: Time allowed for a response in addition to its long-poll time.
_RESPONSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the gateway."""

    method: str
    path: str
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/octet-stream"
    accept: str = "application/json, application/problem+json"
    #: Further header fields.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Error statuses that are returned instead of raised, because their body has to be read.
    accepted_errors: frozenset[int] = frozenset()
    #: Long polling: seconds for which the gateway may hold the response until the job has finished.
    wait_s: float = 0


class Connection:
    """Sends calls to one gateway; thread-safe.

    Each thread has a transport with its own connection. A connection pool shared by 32 threads took 1.5 times the CPU
    time per request, and one shared by 128 threads five times.
    """

    def __init__(self, url: str, api_key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = _checked(url)
        #: The gateway skips system files in archives, except in those from this user agent.
        self._headers = {"User-Agent": "pawqueue"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._open_transport = _transport_factory(self.url) if transport is None else _shared(transport)
        self._local = threading.local()
        # Weak references, so that the connection of a finished thread is closed.
        self._transports: weakref.WeakSet[httpx.BaseTransport] = weakref.WeakSet()

    def send(self, call: Call, deadline: Deadline) -> httpx.Response:
        """Return the successful response; retries lost connections and temporary failures until the deadline.

        Raises:
            RefusedError: the gateway rejected the request, or was still busy at the deadline.
            UnreachableError: nothing responded before the deadline.
            TimedOutError: the response did not arrive before the deadline.
        """
        tries = 0
        while True:
            try:
                return self._send_once(call, deadline)
            except ClientError as error:
                tries += 1
                if not error.retryable or not deadline.pause(retry_pause_s(tries, error.retry_after_s)):
                    raise

    def fetch(self, call: Call, deadline: Deadline, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed:
        """Send a call and return its JSON response, converted by `parse`; raises like `send`."""
        return self.parsed(self.send(call, deadline), parse)

    def purge(self, path: str, deadline: Deadline) -> None:
        """Purge the job or submission at a path; raises like `send`, and ClientError if the gateway is too old."""
        response = self.send(Call("DELETE", path, {"purge": "true"}), deadline)
        if response.status_code != HTTPStatus.NO_CONTENT:
            raise self.too_old("cannot purge", "It only canceled unfinished jobs.")

    def parsed(self, response: httpx.Response, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed:
        """Apply `parse` to a JSON object; UnreachableError if the body does not come from a gateway."""
        try:
            return parse(response.json())
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self.not_a_gateway() from error

    def lines(self, call: Call, deadline: Deadline) -> Iterator[str]:
        """Yield the lines of one response as they arrive; raises like `send`, but never retries."""
        with _translated_errors(self.url):
            response = self._transport().handle_request(self._request(call, deadline))
            try:
                if not response.is_success:
                    response.read()
                    self._check(response, call)
                yield from response.iter_lines()
            finally:
                response.close()

    def not_a_gateway(self) -> UnreachableError:
        """The error for a response that does not come from a gateway."""
        return UnreachableError(f"The server at {self.url} is not a Pawqueue gateway. Check the address.")

    def too_old(self, problem: str, advice: str) -> ClientError:
        """The error for a gateway that ignores a parameter."""
        return ClientError(f"The gateway at {self.url} {problem}: its version is too old. {advice}")

    def close(self) -> None:
        """Close every connection."""
        while self._transports:
            self._transports.pop().close()
        self._local = threading.local()

    def _send_once(self, call: Call, deadline: Deadline) -> httpx.Response:
        with _translated_errors(self.url), call_span(call.method, f"{self.url}{call.path}") as span:
            response = self._transport().handle_request(self._request(call, deadline, span.headers))
            try:
                response.read()
            finally:
                response.close()
            span.respond(response.status_code)
        return self._check(response, call)

    def _transport(self) -> httpx.BaseTransport:
        transport: httpx.BaseTransport | None = getattr(self._local, "transport", None)
        if transport is None:
            transport = self._local.transport = self._open_transport()
            self._transports.add(transport)
        return transport

    def _request(
        self, call: Call, deadline: Deadline, trace: Mapping[str, str] = MappingProxyType({})
    ) -> httpx.Request:
        remaining_s = deadline.remaining_s()
        wait_s = max(0, int(min(call.wait_s, remaining_s - _TRAVEL_S)))
        headers = {**self._headers, **trace, **call.headers, "Accept": call.accept}
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        query = f"?{urlencode(call.query, doseq=True, quote_via=quote)}" if call.query else ""
        url = f"{self.url}{call.path}{query}"
        # httpx sends a file in chunks. A bytes body would be copied again for each write to the socket.
        body = None if call.body is None else io.BytesIO(call.body)
        timeouts = _timeouts(remaining_s, wait_s)
        return httpx.Request(call.method, url, headers=headers, content=body, extensions={"timeout": timeouts})

    def _check(self, response: httpx.Response, call: Call) -> httpx.Response:
        if response.is_success or response.status_code in call.accepted_errors:
            return response
        if not response.is_error:
            raise UnreachableError(
                f"{self.url} redirects elsewhere (HTTP {response.status_code}). Use the gateway's own address."
            )
        raise RefusedError(response.status_code, _problem(response, len(call.body or b"")), retry_after_s(response))


def retry_after_s(response: httpx.Response) -> float | None:
    """The `Retry-After` of a response in seconds; None if it is absent or a date, which Pawqueue never sends."""
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isdecimal() else None


def _checked(url: str) -> str:
    example = "Use an address such as http://127.0.0.1:8000."
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ClientError(f"Invalid gateway address {url!r}: {error}. {example}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query or parsed.fragment:
        raise ClientError(f"Invalid gateway address {url!r}. {example}")
    return url.rstrip("/")


def _shared(transport: httpx.BaseTransport) -> Callable[[], httpx.BaseTransport]:
    return lambda: transport


def _transport_factory(url: str) -> Callable[[], httpx.BaseTransport]:
    """Create transports that share one TLS context, which is slow to build."""
    options = transport_options(url)
    return lambda: httpx.HTTPTransport(**options)


def transport_options(url: str) -> dict[str, Any]:
    """The arguments of a transport of httpx: how it verifies the server, and the environment's proxy."""
    verify: ssl.SSLContext | bool = httpx.create_ssl_context() if url.startswith("https:") else False
    return {"verify": verify, "proxy": _proxy_for(httpx.URL(url))}


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    if url.host in {"localhost", "127.0.0.1", "::1"} or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    return httpx.Proxy(address) if address else None


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimedOutError(f"{url} did not respond in time. Try again later.", retryable=True) from error
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        text = (
            f"Cannot reach {url} ({reason}). Check that the gateway is running and that the address is correct "
            "(--url, PAWQUEUE_URL)."
        )
        raise UnreachableError(text, retryable=True) from error


def _timeouts(remaining_s: float, wait_s: int) -> dict[str, float]:
    """The timeouts of httpx in seconds; none is longer than the time left."""
    max_s = max(remaining_s, 0.001)
    response_s = min(max_s, wait_s + _RESPONSE_S)
    return {"connect": min(max_s, _CONNECT_S), "pool": max_s, "write": response_s, "read": response_s}


def _problem(response: httpx.Response, sent_bytes: int) -> dict[str, str]:
    """The problem details of a response; those of a proxy have none, so they are described by their status."""
    try:
        values = response.json() if "json" in response.headers.get("content-type", "") else None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return {"title": response.reason_phrase, "detail": _proxy_detail(response, sent_bytes)}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _proxy_detail(response: httpx.Response, sent_bytes: int) -> str:
    """The cause of an error status from a proxy between client and gateway, and what to change there."""
    product = response.headers.get("server", "").partition("/")[0].strip()
    is_nginx = product.lower() == "nginx"
    proxy = f"A proxy in front of the gateway{f' ({product})' if product else ''}"
    match response.status_code:
        case 413:
            limit = "client_max_body_size" if is_nginx else "its limit for request bodies"
            return (
                f"{proxy} refused a request of {_size_text(sent_bytes)}. Raise {limit} there, or send smaller images."
            )
        case 502 | 503:
            return f"{proxy} cannot reach the gateway. Check that the gateway runs, and its address in the proxy."
        case 504:
            limit = "proxy_read_timeout" if is_nginx else "its timeout"
            return f"{proxy} stopped waiting for the gateway's response. Raise {limit} there."
    return f"The server returned {response.reason_phrase} without problem details; it may be a proxy."


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes:,} bytes"
