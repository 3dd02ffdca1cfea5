"""Structured logging: JSON lines, or readable text if standard error is a terminal."""

import logging
import sys
import warnings
from typing import Any

import structlog

from contract.tracing import current_traceparent, trace_id_of


def configure_logging(level: str, service: str) -> None:
    """Write all log lines of this process, including lines from libraries, to standard error in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _name_service(service),
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Pillow warns about large images and invalid metadata. The size limits are enforced elsewhere.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _name_service(service: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        return event | {"service": service}

    return add


def _add_trace(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Name the trace of the request that is being processed."""
    traceparent = current_traceparent()
    return event | {"trace_id": trace_id_of(traceparent)} if traceparent else event


def get_logger(name: str) -> Any:
    """The logger of a module; its methods take a message, and fields as keyword arguments."""
    return structlog.stdlib.get_logger(name)
