"""A receiver of webhooks in the test process: it records every request and responds as the test wants."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request."""

    path: str
    #: By name in lower case.
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The parsed body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


#: What the receiver responds with: a status and further headers. It may block.
Respond = Callable[[Received], tuple[int, dict[str, str]]]


@dataclass
class Receiver:
    """A running receiver."""

    port: int
    received: list[Received] = field(default_factory=list)
    respond: Respond = lambda _: (204, {})

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def allow(self) -> str:
        """The setting that allows it."""
        return f"127.0.0.1:{self.port}"

    def subjects(self) -> list[str]:
        """The ids of the jobs and submissions of all events, in order."""
        return [item.event["data"]["id"] for item in list(self.received)]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Start a receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            item = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.received.append(item)
            status, headers = receiver.respond(item)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """Log nothing about a client that disconnects."""

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
