"""The trace of each request: the one that its client names, or a new one if traces are exported."""

from collections.abc import Mapping
from typing import Any

from flask import g

from contract.tracing import Tracer, set_traceparent, traceparent_of, valid_traceparent


class RequestSpans:
    """Sets the trace of each request, and creates its span if there is a tracer."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer

    def begin(self, environ: Mapping[str, Any]) -> None:
        """Begin a request: the jobs that it creates belong to its trace."""
        header = environ.get("HTTP_TRACEPARENT")
        traceparent = valid_traceparent(header) if header else ""
        if self._tracer:
            method = environ["REQUEST_METHOD"]
            g.span = self._tracer.start(method, traceparent, kind="SERVER")
            traceparent = traceparent_of(g.span)
        set_traceparent(traceparent)

    def end(self, method: str, route: str, status: int) -> None:
        """End the span of a request. Attributes follow OpenTelemetry's conventions for HTTP servers."""
        if not self._tracer or "span" not in g:
            return
        g.span.update_name(f"{method} {route}")
        g.span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if status >= _SERVER_ERROR:
            self._tracer.fail(g.span, f"status {status}")
        g.span.end()


_SERVER_ERROR = 500
