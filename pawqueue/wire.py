"""One HTTP request to the gateway, tried again while that may help and its deadline allows."""

import ssl
import threading
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import httpx

from pawqueue.deadline import Deadline, pause_s
from pawqueue.errors import ClientError, RefusedError, TimedOutError, UnreachableError

Content = bytes | BinaryIO | Iterable[bytes]
#: Opens what is sent, anew for every try.
Body = Callable[[], AbstractContextManager[Content | None]]

_CONNECT_S = 5.0
#: Time for an answer to travel, taken off the wait that is asked for.
_TRAVEL_S = 0.5
#: How much longer than the granted wait an answer may take.
_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """What to ask of the gateway."""

    method: str
    path: str
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: Body = nullcontext
    content_type: str = "application/octet-stream"
    #: Bytes of a body that comes in pieces; None: httpx can tell.
    content_length: int | None = None
    #: What the caller understands; sent in place of JSON and problem details.
    accept: str = "application/json, application/problem+json"
    #: Statuses of refusals that are handed back like a success, because the caller has to read them.
    takes: frozenset[int] = frozenset()
    #: Seconds for which the gateway may hold the answer back until the job has ended; whole, 0 for none.
    wait_s: int = 0


class Wire:
    """Sends calls to one gateway; safe to share between threads.

    A thread keeps a transport, and with it a connection, of its own: a pool shared by 32 threads cost each request
    half as much again in CPU, and five times as much with 128.
    """

    def __init__(self, url: str, api_key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = _checked(url)
        self._headers = {"User-Agent": "pawqueue"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._open_transport = _always(transport) if transport else _transports(self.url)
        self._of_thread = threading.local()
        # Weak: the connection of a thread that has ended goes with it.
        self._opened: weakref.WeakSet[httpx.BaseTransport] = weakref.WeakSet()

    def send(self, call: Call, deadline: Deadline) -> httpx.Response:
        """Return the successful answer.

        Raises:
            RefusedError: the gateway said no, or was still busy when the deadline passed.
            UnreachableError: nothing answered before the deadline.
            TimedOutError: an answer did not come before the deadline.
            OSError: the body cannot be read.
        """
        tries = 0
        while True:
            try:
                return self._send_once(call, deadline)
            except ClientError as error:
                tries += 1
                if not error.retryable or not deadline.pause(pause_s(tries, error.retry_after_s)):
                    raise

    def lines(self, call: Call, deadline: Deadline) -> Iterator[str]:
        """Yield the lines of one answer as they come, none of them kept; asked once, since a part may be used already.

        Raises what `send` raises, also between two lines.
        """
        with self._translating():
            response = self._transport().handle_request(self._request(call, None, deadline))
            try:
                if not response.is_success:
                    response.read()
                    self._judge(response, call)
                yield from response.iter_lines()
            finally:
                response.close()

    def stranger(self) -> UnreachableError:
        """The error for an answer that makes no sense."""
        return UnreachableError(f"{self.url} answers, but not as a Pawqueue gateway does; is this its address?")

    def close(self) -> None:
        """Close every connection."""
        while self._opened:
            self._opened.pop().close()
        self._of_thread = threading.local()

    def _send_once(self, call: Call, deadline: Deadline) -> httpx.Response:
        with self._translating():
            with call.body() as content:
                response = self._transport().handle_request(self._request(call, content, deadline))
            try:
                response.read()
            finally:
                response.close()
        return self._judge(response, call)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise TimedOutError(f"{self.url} gave no answer in time; try again later.", retryable=True) from error
        except httpx.TransportError as error:
            raise UnreachableError(self._unreachable(error), retryable=True) from error

    def _request(self, call: Call, content: Content | None, deadline: Deadline) -> httpx.Request:
        headers = {**self._headers, "Accept": call.accept}
        if call.wait_s:
            headers["Prefer"] = f"wait={call.wait_s}"
        if content is not None:
            headers["Content-Type"] = call.content_type
        if call.content_length is not None:
            headers["Content-Length"] = str(call.content_length)
        query = f"?{urlencode(call.query, doseq=True, quote_via=quote)}" if call.query else ""
        timeouts = _timeouts(deadline.remaining_s(), call.wait_s)
        url = f"{self.url}{call.path}{query}"
        return httpx.Request(call.method, url, headers=headers, content=content, extensions={"timeout": timeouts})

    def _transport(self) -> httpx.BaseTransport:
        mine: httpx.BaseTransport | None = getattr(self._of_thread, "transport", None)
        if mine is None:
            mine = self._of_thread.transport = self._open_transport()
            self._opened.add(mine)
        return mine

    def _judge(self, response: httpx.Response, call: Call) -> httpx.Response:
        if response.is_success or response.status_code in call.takes:
            return response
        if not response.is_error:
            raise UnreachableError(
                f"{self.url} answers with a redirect (HTTP {response.status_code}), which no Pawqueue gateway does; "
                "give the gateway's own address."
            )
        raise RefusedError(response.status_code, _problem(response), retry_after_s(response))

    def _unreachable(self, error: httpx.TransportError) -> str:
        reason = str(error) or type(error).__name__
        asked = "is the gateway running, and is this its address (--url, PAWQUEUE_URL)?"
        return f"Nothing answers at {self.url} ({reason}); {asked}"


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ClientError(f"{url!r} is no address ({error}); give one such as http://127.0.0.1:8000.") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ClientError(f"{url!r} is no address of a gateway; give one such as http://127.0.0.1:8000.")
    return url.rstrip("/")


def _always(transport: httpx.BaseTransport) -> Callable[[], httpx.BaseTransport]:
    return lambda: transport


def _transports(url: str) -> Callable[[], httpx.BaseTransport]:
    """Make transports that share one TLS context, which is slow to build, and go through the environment's proxy."""
    verify: ssl.SSLContext | bool = httpx.create_ssl_context() if url.startswith("https:") else False
    proxy = _proxy_for(httpx.URL(url))
    return lambda: httpx.HTTPTransport(verify=verify, proxy=proxy)


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    if url.host in {"localhost", "127.0.0.1", "::1"} or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    return httpx.Proxy(address) if address else None


def _timeouts(remaining_s: float, wait_s: int) -> dict[str, float]:
    """Limits for httpx, in seconds: none reaches beyond the deadline."""
    most_s = max(remaining_s, 0.001)
    answer_s = min(most_s, wait_s + _ANSWER_S)
    return {"connect": min(most_s, _CONNECT_S), "pool": most_s, "write": answer_s, "read": answer_s}


def _problem(response: httpx.Response) -> dict[str, str]:
    """Read problem details; of an answer that has none, what its status says."""
    try:
        values = response.json() if "json" in response.headers.get("content-type", "") else None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return {
            "title": response.reason_phrase,
            "detail": f"The server answered {response.reason_phrase}, and not as a gateway does.",
        }
    return {name: value for name, value in values.items() if isinstance(value, str)}


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds asked for; None when absent or a date, which Pawqueue never sends."""
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isdecimal() else None


def granted_s(wait_s: float, deadline: Deadline) -> int:
    """A wait in whole seconds that ends before the deadline does."""
    return max(0, int(min(wait_s, deadline.remaining_s() - _TRAVEL_S)))


def object_of(response: httpx.Response) -> dict[str, Any]:
    """Read a JSON object; ValueError or TypeError when it is none."""
    values = response.json()
    if not isinstance(values, dict):
        raise TypeError
    return values
