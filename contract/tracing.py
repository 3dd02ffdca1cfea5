"""Traces: a client's `traceparent` is kept with its jobs, and OpenTelemetry spans are exported if that is configured.

OpenTelemetry is imported only if `OTEL_EXPORTER_OTLP_ENDPOINT` is set and the extra `tracing` is installed. Its other
environment variables apply too, such as `OTEL_TRACES_SAMPLER` and `OTEL_SERVICE_NAME`.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_log = logging.getLogger(__name__)

#: The variables that turn tracing on.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: Trace Context of the W3C, section 3.2. Later versions may add fields at the end.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")

#: The trace of the request that is being processed; empty if it has none.
_current: ContextVar[str] = ContextVar("traceparent", default="")


def current_traceparent() -> str:
    """The `traceparent` of the request that is being processed; empty if it has none."""
    return _current.get()


def set_traceparent(traceparent: str) -> None:
    """Set the trace of the request that is being processed; empty for none."""
    _current.set(traceparent)


def valid_traceparent(header: str) -> str:
    """The `traceparent` in a header, in the form of version 00; empty if the header is not valid."""
    match = _TRACEPARENT.fullmatch(header)
    return f"00-{match[1]}-{match[2]}-{int(match[3], 16) & 1:02x}" if match else ""


def trace_id_of(traceparent: str) -> str:
    """The id of the trace; empty for an empty `traceparent`."""
    return traceparent[3:35]


def is_sampled(traceparent: str) -> bool:
    """Whether the spans of the trace are exported."""
    return traceparent.endswith("1")


def exemplar_of(traceparent: str) -> dict[str, str] | None:
    """The exemplar of an observation; None if its trace is not exported."""
    return {"trace_id": trace_id_of(traceparent)} if is_sampled(traceparent) else None


class Tracer:
    """Creates spans and exports them in the background."""

    def __init__(self, provider: "TracerProvider", scope: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415

        self._api: Any = trace
        self._provider = provider
        self._tracer = provider.get_tracer(scope)

    def start(
        self,
        name: str,
        parent: str,
        *,
        kind: str = "INTERNAL",
        began_ns: int | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> "Span":
        """Start a span.

        Args:
            name: Its name.
            parent: The `traceparent` of its parent; empty if it is the first span of a trace.
            kind: The name of a `SpanKind`.
            began_ns: When it began, in nanoseconds since 1970; None for now.
            links: Further spans that it belongs to, by `traceparent`.
            attributes: Its attributes.
        """
        api = self._api
        context = api.set_span_in_context(api.NonRecordingSpan(self._context(parent))) if parent else api.Context()
        return self._tracer.start_span(
            name,
            context,
            api.SpanKind[kind],
            attributes,
            [api.Link(self._context(link)) for link in links],
            began_ns,
        )

    def record(self, name: str, parent: str, began_ns: int, ended_ns: int, links: Sequence[str] = ()) -> None:
        """Add a span that has ended already."""
        self.start(name, parent, began_ns=began_ns, links=links).end(max(began_ns, ended_ns))

    def fail(self, span: "Span", problem: str) -> None:
        """Mark a span as failed."""
        span.set_status(self._api.Status(self._api.StatusCode.ERROR, problem))

    def close(self) -> None:
        """Export the last spans, and stop."""
        self._provider.shutdown()

    def _context(self, traceparent: str) -> Any:
        _, trace_id, span_id, flags = traceparent.split("-")
        api = self._api
        return api.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=api.TraceFlags(int(flags, 16))
        )


def traceparent_of(span: "Span") -> str:
    """The `traceparent` by which other spans name this one."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


def open_tracer(service: str, environ: Mapping[str, str] = os.environ) -> Tracer | None:
    """Start exporting spans over OTLP/HTTP; None if no endpoint is configured, or OpenTelemetry is not installed.

    Call it in the process that serves, after it has forked.
    """
    provider = open_provider(service, environ)
    return Tracer(provider, f"pawqueue.{service}") if provider else None


def open_provider(service: str, environ: Mapping[str, str] = os.environ) -> "TracerProvider | None":
    """The same, as a provider for OpenTelemetry's own API."""
    if not any(environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        _log.warning("Traces are not exported, because %s is missing. Install pawqueue[tracing].", error.name)
        return None
    # A name given here takes precedence over that of the environment.
    name = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": f"pawqueue-{service}"}
    provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
