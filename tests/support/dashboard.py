"""A running dashboard."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.services import Process, as_variables, free_port, responds, running, wait_until


@dataclass
class Dashboard:
    """A dashboard process and its URL."""

    url: str
    process: Process


@contextmanager
def running_dashboard(folder: Path, environ: dict[str, str], **settings: Any) -> Iterator[Dashboard]:
    """Start a dashboard that refreshes every half second; `environ` contains the addresses of the services."""
    port = free_port()
    environ = {
        "PAWQUEUE_DASHBOARD_REFRESH_S": "0.5",
        **environ,
        "PAWQUEUE_DASHBOARD_PORT": str(port),
        **as_variables(settings),
    }
    with running("dashboard", [sys.executable, "-m", "dashboard"], folder, environ) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _responds(url, process), "the dashboard to respond")
        yield Dashboard(url, process)


def _responds(url: str, process: Process) -> bool:
    assert process.handle.poll() is None, process.tail()
    return responds(f"{url}/healthz")
