"""The health checks and metrics of a worker. Health checks change nothing."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app

#: Returns what is wrong, or an empty string.
Check = Callable[[], str]


class Health:
    """The health of a worker process from start to exit; safe to use from any thread."""

    def __init__(self) -> None:
        self._stage = "The model is being loaded."
        self._alive: Check = lambda: ""
        self._ready: Check = lambda: ""
        self._models: Callable[[], Iterable[str]] = tuple

    def wait(self, reason: str) -> None:
        """Report why the worker is not ready yet, although its model is loaded."""
        self._stage = reason

    def go_live(self, alive: Check, ready: Check, models: Callable[[], Iterable[str]] = tuple) -> None:
        """Switch from "loading" to these checks. `models` returns a line for each version that the worker holds."""
        self._alive, self._ready, self._models, self._stage = alive, ready, models, ""

    def drain(self) -> None:
        """Report the worker as stopping."""
        self._stage = "The worker is stopping: it finishes its current jobs and accepts no new ones."

    def liveness_problem(self) -> str:
        """Why the process should be replaced; empty if it is healthy or still loading its model."""
        return self._alive()

    def readiness_problem(self) -> str:
        """Why the worker accepts no jobs; empty if it accepts them."""
        return self._stage or self._alive() or self._ready()

    def models(self) -> str:
        """The versions that the worker holds, a line each."""
        return "".join(f"{line}\n" for line in self._models())


def check_threads(names: Iterable[str]) -> str:
    """Which of these threads have stopped; empty if all are running."""
    running = {thread.name for thread in threading.enumerate()}
    stopped = [name for name in names if name not in running]
    return f"These threads have stopped: {', '.join(stopped)}." if stopped else ""


def health_app(registry: CollectorRegistry, health: Health) -> Callable[..., Any]:
    """The WSGI application with `/healthz`, `/readyz` and `/metrics`."""
    metrics = make_wsgi_app(registry)
    checks: dict[str, Check] = {"/healthz": health.liveness_problem, "/readyz": health.readiness_problem}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            return metrics(environ, start_response)
        problem = check()
        status = "503 Service Unavailable" if problem else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        models = health.models() if environ["PATH_INFO"] == "/readyz" and not problem else ""
        return [f"{problem or 'ok'}\n{models}".encode()]

    return answer
