"""A dashboard in its own process, for tests."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.services import Process, answers, free_port, running, wait_until


@dataclass
class Dashboard:
    """A running dashboard."""

    url: str
    process: Process


@contextmanager
def running_dashboard(folder: Path, environ: dict[str, str], **settings: Any) -> Iterator[Dashboard]:
    """Run a dashboard for the services of `environ`; it refreshes every half second."""
    port = free_port()
    environ = {
        "PAWQUEUE_DASHBOARD_REFRESH_S": "0.5",
        **environ,
        "PAWQUEUE_DASHBOARD_PORT": str(port),
        **{f"PAWQUEUE_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with running("dashboard", [sys.executable, "-m", "dashboard"], folder, environ) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url, process), "The dashboard answering")
        yield Dashboard(url, process)


def _answers(url: str, process: Process) -> bool:
    assert process.handle.poll() is None, process.tail()
    return answers(f"{url}/healthz")
