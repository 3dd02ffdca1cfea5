"""A real Chromium, and a dashboard with the real services."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import running_browser
from tests.support.dashboard import Dashboard, running_dashboard
from tests.support.services import ROOT, Stack

#: The sample images of the project.
PHOTOS = sorted((ROOT / "examples" / "photos").iterdir())
_TIMEOUT_MS = 60_000
#: A host name that the browser resolves to this machine, as after DNS rebinding.
REBOUND = "rebound.example"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as browser:
        expect.set_options(timeout=_TIMEOUT_MS)
        yield browser


@dataclass
class Tab:
    """A browser tab and the problems found on it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Open a page of the dashboard and wait for its cards."""
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_selector("main h1")
        return self.page


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Any]:
    """Opens a tab: `new_tab(url, width=1280, scheme="light")`. With `watch`, errors on its console fail the test.

    `bypass_csp` is needed for `wait_for_function`, which evaluates scripts in the page.
    """
    opened: list[Tab] = []

    def make(
        url: str, width: int = 1280, scheme: Any = "light", *, watch: bool = True, bypass_csp: bool = False
    ) -> Tab:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            bypass_csp=bypass_csp,
            ignore_https_errors=True,
        )
        context.set_default_timeout(_TIMEOUT_MS)
        tab = Tab(context.new_page(), url)
        if watch:
            _watch(tab)
        opened.append(tab)
        return tab

    yield make
    problems = [problem for tab in opened for problem in tab.problems]
    for tab in opened:
        tab.page.context.close()
    assert not problems


def _watch(tab: Tab) -> None:
    page, host = tab.page, httpx.URL(tab.url)
    page.on("pageerror", lambda error: tab.problems.append(f"error: {error}"))
    page.on("console", lambda m: tab.problems.append(f"console: {m.text}") if m.type in ("error", "warning") else None)

    def check_host(request: Any) -> None:
        url = httpx.URL(request.url)
        if url.scheme.startswith("http") and (url.host, url.port) != (host.host, host.port):
            tab.problems.append(f"request to another host: {request.url}")

    page.on("request", check_host)


@pytest.fixture(scope="session")
def dashboard(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard for the shared services, which have already predicted some images."""
    with running_dashboard(tmp_path_factory.mktemp("dashboard"), stack.environ) as dashboard:
        send(stack, PHOTOS)
        yield dashboard


def send(
    stack: Stack, paths: list[Path], queue: str = "interactive", *, url: str = "", api_key: str = ""
) -> list[dict[str, Any]]:
    """Upload images and wait for their jobs, through the gateway at `url` if given; returns the jobs."""
    headers = {"X-API-Key": api_key} if api_key else {}
    with httpx.Client(base_url=url or stack.url, timeout=60, headers=headers) as http:
        responses = [
            http.post(
                "/v1/jobs",
                params={"file": path.name, "queue": queue},
                content=path.read_bytes(),
                headers={"Prefer": "wait=30", "Content-Type": "application/octet-stream"},
            )
            for path in paths
        ]
    return [response.json() for response in responses]
