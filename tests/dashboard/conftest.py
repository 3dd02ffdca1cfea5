"""A real Chromium, and a dashboard with the real services."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.dashboard import Dashboard, running_dashboard
from tests.support.services import ROOT, Stack

#: Sample images of the project.
PHOTOS = sorted((ROOT / "examples" / "photos").iterdir())
_PATIENCE_MS = 60_000


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return found
    missing = "no Chromium on the PATH: install it (apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        expect.set_options(timeout=_PATIENCE_MS)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A browser tab and the problems found on it."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Open a page of the dashboard and wait for its cards."""
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_selector("main h1")
        return self.page


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Any]:
    """Opens a tab: `new_tab(url, width=1280, scheme="light")`. Errors on its console fail the test.

    `bypass_csp` is needed for `wait_for_function`, which evaluates scripts in the page.
    """
    opened: list[Tab] = []

    def make(url: str, width: int = 1280, scheme: Any = "light", *, calm: bool = True, bypass_csp: bool = False) -> Tab:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass_csp
        )
        context.set_default_timeout(_PATIENCE_MS)
        tab = Tab(context.new_page(), url)
        if calm:
            _watch(tab)
        opened.append(tab)
        return tab

    yield make
    troubles = [trouble for tab in opened for trouble in tab.troubles]
    for tab in opened:
        tab.page.context.close()
    assert not troubles


def _watch(tab: Tab) -> None:
    page, host = tab.page, httpx.URL(tab.url)
    page.on("pageerror", lambda error: tab.troubles.append(f"error: {error}"))
    page.on("console", lambda m: tab.troubles.append(f"console: {m.text}") if m.type in ("error", "warning") else None)

    def look(request: Any) -> None:
        asked = httpx.URL(request.url)
        if asked.scheme.startswith("http") and (asked.host, asked.port) != (host.host, host.port):
            tab.troubles.append(f"request to another host: {request.url}")

    page.on("request", look)


@pytest.fixture(scope="session")
def dashboard(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard of the shared services, which have predicted some images."""
    with running_dashboard(tmp_path_factory.mktemp("dashboard"), stack.environ) as dashboard:
        send(stack, PHOTOS)
        yield dashboard


def send(
    stack: Stack, paths: list[Path], queue: str = "interactive", *, url: str = "", api_key: str = ""
) -> list[dict[str, Any]]:
    """Upload images and wait for their jobs, through the gateway at `url` if given; returns the jobs."""
    headers = {"X-API-Key": api_key} if api_key else {}
    with httpx.Client(base_url=url or stack.url, timeout=60, headers=headers) as http:
        answers = [
            http.post(
                "/v1/jobs",
                params={"file": path.name, "queue": queue},
                content=path.read_bytes(),
                headers={"Prefer": "wait=30", "Content-Type": "application/octet-stream"},
            )
            for path in paths
        ]
    return [answer.json() for answer in answers]
