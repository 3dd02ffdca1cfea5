"""A real Chromium on which a foreign page is open: DNS rebinding, and requests to another origin."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.dashboard.conftest import PHOTOS, REBOUND
from tests.support.dashboard import Dashboard
from tests.support.services import Stack

pytestmark = pytest.mark.slow


@pytest.fixture
def page(new_tab: Any) -> Page:
    """A tab whose scripts may send any request that the browser allows."""
    tab: Page = new_tab("about:blank", watch=False, bypass_csp=True).page
    return tab


def fetch(page: Page, url: str, **options: Any) -> int:
    """The status of a request sent by a script of the page, even if the script itself may not read the response."""
    with page.expect_response(url) as response:
        page.evaluate("([url, options]) => fetch(url, options).catch(() => null)", [url, options])
    return response.value.status


def finished(stack: Stack) -> int:
    return sum(httpx.get(f"{stack.url}/v1/status").json()["finished"].values())


def test_a_rebound_page_reads_nothing(stack: Stack, dashboard: Dashboard, page: Page) -> None:
    for url, path in ((stack.url, "/v1/status"), (stack.url, "/v1/submissions"), (dashboard.url, "/_dash-layout")):
        rebound = f"http://{REBOUND}:{httpx.URL(url).port}"
        page.goto(f"{rebound}/healthz")
        assert fetch(page, f"{rebound}{path}") == 403
        assert fetch(page, f"{rebound}{path}", headers={"X-Forwarded-Host": "localhost"}) == 403
        shown = page.goto(f"{rebound}/")
        assert shown
        assert "PAWQUEUE_ALLOWED_HOSTS" in shown.text()


def test_a_page_of_another_origin_submits_nothing(stack: Stack, dashboard: Dashboard, page: Page) -> None:
    before = finished(stack)
    image = PHOTOS[0].read_bytes().hex()
    body = f"Uint8Array.from('{image}'.match(/../g), (byte) => parseInt(byte, 16))"
    send = f"(url) => fetch(url, {{method: 'POST', mode: 'no-cors', body: {body}}})"
    for host in (REBOUND, "127.0.0.1"):  # another site, and another port of the same one
        page.goto(f"http://{host}:{httpx.URL(dashboard.url).port}/healthz")
        for path in ("/v1/jobs", "/predict"):
            with page.expect_response(f"{stack.url}{path}") as response:
                page.evaluate(send, f"{stack.url}{path}")
            assert response.value.status == 403
    page.goto(f"{stack.url}/docs")
    assert fetch(page, f"{stack.url}/v1/status") == 200
    assert finished(stack) == before
