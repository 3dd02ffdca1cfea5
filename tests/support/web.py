"""A web server for tests, which answers each path with a given response and counts the requests."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Site:
    """A running web server."""

    port: int = 0
    #: By path: status, body, and headers. The last one of a list is repeated.
    pages: dict[str, list[tuple[int, bytes, dict[str, str]]]] = field(default_factory=dict)
    #: By path.
    requests: Counter[str] = field(default_factory=Counter)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}{path}"

    def add(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        """Add a response to a path; returns its address."""
        self.pages.setdefault(path, []).append((status, body, headers))
        return self.url(path)


@contextmanager
def serving_site() -> Iterator[Site]:
    """Run a web server on a free port."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            pages = site.pages.get(path, [(404, b"", {})])
            status, body, headers = pages[min(site.requests[path], len(pages) - 1)]
            site.requests[path] += 1
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_port
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
