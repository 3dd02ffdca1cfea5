"""The load generator: many clients in one process, on raw sockets to use little CPU.

`python -m benchmarks.load PORT --clients 32 --seconds 5 --mode wait` prints a line of JSON. Modes: `wait` (submit with
`Prefer: wait`), `poll` (submit, then get the job with `Prefer: wait`), `submit` (submit only), `plain` (any 200).
"""

import argparse
import json
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.image import large_image, small_image

_WAIT_S = 30
_CHUNK = 262_144
_BOUNDARY = "pawqueue-benchmark"


@dataclass
class Load:
    """The request that every client sends."""

    port: int
    mode: str
    path: str
    body: bytes
    #: The field of a multipart form that contains the image; if empty, the image is the body of the request.
    form: str = ""

    def __post_init__(self) -> None:
        prefer = f"Prefer: wait={_WAIT_S}\r\n" if self.mode == "wait" else ""
        media_type = "image/jpeg"
        if self.form:
            media_type, self.body = f"multipart/form-data; boundary={_BOUNDARY}", _multipart(self.form, self.body)
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\n{prefer}Content-Type: {media_type}\r\n"
        self.request = f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body

    def get_job(self, response: bytes) -> bytes:
        """The request that gets the job of a response."""
        job_id = json.loads(response)["id"]
        return f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait={_WAIT_S}\r\n\r\n".encode()


@dataclass
class Tally:
    """The results of all clients."""

    latencies_ms: list[float] = field(default_factory=list)
    #: Images sent, including the warm-up.
    sent: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        """Count a failed image."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


class Client:
    """One connection, which sends an image when the previous one is finished."""

    def __init__(self, load: Load, tally: Tally) -> None:
        self.socket = socket.create_connection(("127.0.0.1", load.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(load.request))
        self._load, self._tally = load, tally
        self._received = b""
        self._polling = False
        self.busy = False

    def send(self) -> None:
        """Send the next image."""
        self.busy, self._polling = True, False
        self._tally.sent += 1
        self._began_s = time.perf_counter()
        self.socket.sendall(self._load.request)

    def receive(self) -> bool:
        """Read from the connection; returns True when the image is finished."""
        data = self.socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the server has closed a connection")
        self._received += data
        status, body = self._response()
        if not status:
            return False
        if self._load.mode == "poll" and not self._polling and status == 202:
            self._polling = True
            self.socket.sendall(self._load.get_job(body))
            return False
        self._end(status, body)
        return True

    def _response(self) -> tuple[int, bytes]:
        """Status and body of the response; (0, b"") until it is complete."""
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return 0, b""
        head = self._received[:head_end].lower()
        body = self._received[head_end + 4 :]
        _, has_length, rest = head.partition(b"content-length:")
        # Without a length, the body is sent in chunks, of which the last one is empty.
        if len(body) < int(rest.split(b"\r\n", 1)[0]) if has_length else not body.endswith(b"\r\n0\r\n\r\n"):
            return 0, b""
        self._received = b""
        return int(head[9:12]), body

    def _end(self, status: int, body: bytes) -> None:
        self.busy = False
        expected = 202 if self._load.mode == "submit" else 200
        if status != expected or (self._load.mode in ("wait", "poll") and b'"succeeded"' not in body):
            self._tally.fail(f"{status} {body[:120]!r}")
            return
        self._tally.latencies_ms.append((time.perf_counter() - self._began_s) * 1000)


def run(load: Load, clients: int, seconds: float, warm_up_s: float) -> dict[str, object]:
    """Keep `clients` requests in flight for `seconds`, after a warm-up; returns the figures.

    If no image finishes in that time, the measurement continues until one does.
    """
    tally = Tally()
    with selectors.DefaultSelector() as selector:
        connections = [Client(load, tally) for _ in range(clients)]
        for client in connections:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send()
        _exchange(selector, warm_up_s)
        tally.latencies_ms.clear()
        started_s, cpu_s = time.perf_counter(), time.process_time()
        _exchange(selector, seconds)
        limit_s = started_s + seconds + _WAIT_S
        while not (tally.latencies_ms or tally.failures) and time.perf_counter() < limit_s:
            _exchange(selector, seconds)
        elapsed_s, used_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        latencies = sorted(tally.latencies_ms)
        _finish(selector, connections)
    return {
        "images_per_s": len(latencies) / elapsed_s,
        "count": len(latencies),
        "sent": tally.sent,
        "failures": tally.failures,
        "load_cpu_ms": used_s * 1000 / max(1, len(latencies)),
        **{f"p{q}_ms": latencies[min(len(latencies) - 1, len(latencies) * q // 100)] for q in (50, 99) if latencies},
    }


def _exchange(selector: selectors.BaseSelector, seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while (left_s := end_s - time.perf_counter()) > 0:
        for client in _readable(selector, left_s):
            if client.receive():
                client.send()


def _finish(selector: selectors.BaseSelector, clients: list[Client]) -> None:
    """Wait for the requests in flight, so that the next measurement starts from an idle service."""
    while any(client.busy for client in clients):
        readable = list(_readable(selector, _WAIT_S))
        if not readable:
            raise TimeoutError(f"no response within {_WAIT_S} s")
        for client in readable:
            if client.receive():
                selector.unregister(client.socket)  # the server may now close the connection
    for client in clients:
        client.socket.close()


def _multipart(field: str, image: bytes) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="image.jpg"'
    head = f"--{_BOUNDARY}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    return head.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _readable(selector: selectors.BaseSelector, timeout_s: float) -> Iterator[Client]:
    for key, _ in selector.select(timeout_s):
        yield key.data


def main() -> None:
    """Send the requests that the command line describes, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", dest="warm_up_s", type=float, default=0.5, help="seconds before the measurement")
    parser.add_argument("--mode", choices=["wait", "poll", "submit", "plain"], default="wait")
    parser.add_argument("--path", default="/v1/jobs")
    parser.add_argument("--form", default="", metavar="FIELD", help="send the image in this field of a multipart form")
    parser.add_argument("--small", action="store_true", help="send images of 7 kB instead of 55 kB")
    given = parser.parse_args()
    load = Load(given.port, given.mode, given.path, small_image() if given.small else large_image(), given.form)
    print(json.dumps(run(load, given.clients, given.seconds, given.warm_up_s)))


if __name__ == "__main__":
    main()
