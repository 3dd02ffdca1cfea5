"""`python -m gateway.notifier`: deliver events to webhooks until SIGTERM."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from prometheus_client import make_wsgi_app

from contract.destinations import Destinations
from contract.ledger.connection import connect
from contract.ledger.requirements import require_redis
from contract.ledger.webhooks import WebhookStore
from contract.log import configure_logging, get_logger
from contract.metrics_port import serve_metrics
from contract.outbound import Outbound
from contract.settings import SettingsError, load_settings, variable_of
from contract.tracing import open_tracer
from gateway.notifier.notifier import Notifier, Schedule

_log = get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log_level, "notifier")
        require_redis(settings, "notifier")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    tracer = open_tracer("notifier")
    notifier = Notifier(
        WebhookStore(connect(settings.redis_address())),
        Outbound(Destinations(settings.allowed_webhooks(), variable_of("webhook_allow"))),
        Schedule(settings.webhook_pauses_s()),
        dead_ttl_s=settings.webhook_dead_ttl_s,
        prefix=settings.gateway_prefix,
        tracer=tracer,
    )
    host = settings.notifier_metrics_host
    try:
        port = serve_metrics(host, settings.notifier_metrics_port, _application(notifier))
    except OSError as error:
        print(
            f"Cannot listen on {host}, port {settings.notifier_metrics_port} ({error.strerror}). "
            "Choose another port with PAWQUEUE_NOTIFIER_METRICS_PORT.",
            file=sys.stderr,
        )
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: notifier.stop())
    _log.info("Delivering events", metrics_host=host, metrics_port=port)
    notifier.run()
    if tracer:
        tracer.close()
    return 0


def _application(notifier: Notifier) -> Callable[..., Any]:
    """The WSGI application with `/healthz`, `/readyz` and `/metrics`."""
    metrics = make_wsgi_app(notifier.metrics.registry)
    checks = {"/healthz": notifier.liveness_problem, "/readyz": notifier.readiness_problem}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            return metrics(environ, start_response)
        problem = check()
        status = "503 Service Unavailable" if problem else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{problem or 'ok'}\n".encode()]

    return answer


if __name__ == "__main__":
    sys.exit(main())
