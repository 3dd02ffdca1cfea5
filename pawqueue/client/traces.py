"""The trace of a request: a span if the program uses OpenTelemetry. The gateway continues the trace."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class CallSpan:
    """The span of one request; does nothing if the program does not use OpenTelemetry."""

    def __init__(self, span: Any = None, headers: Mapping[str, str] | None = None) -> None:
        self._span = span
        #: Headers that name the trace to the gateway.
        self.headers = headers or {}

    def respond(self, status: int) -> None:
        """Record the status of the response."""
        if self._span:
            self._span.set_attribute("http.response.status_code", status)


@contextmanager
def call_span(method: str, url: str) -> Iterator[CallSpan]:
    """Create the span of a request: in the current trace, or in a new one if there is none."""
    # Not imported here: a program without OpenTelemetry would load it for nothing.
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        yield CallSpan()
        return
    attributes = {"http.request.method": method, "url.full": url}
    with api.get_tracer("pawqueue").start_as_current_span(
        method, kind=api.SpanKind.CLIENT, attributes=attributes
    ) as span:
        context = span.get_span_context()
        if not context.is_valid:  # no exporter is configured
            yield CallSpan()
            return
        header = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
        yield CallSpan(span, {"traceparent": header})
