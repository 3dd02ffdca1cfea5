"""The nginx example of docs/operations.md publishes gateway and dashboard under paths, over HTTPS."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from dashboard.app import PAGES
from tests.dashboard.conftest import PHOTOS
from tests.support.dashboard import running_dashboard
from tests.support.nginx import make_certificate, running_nginx
from tests.support.services import ROOT, Stack

pytestmark = pytest.mark.slow
_UPLOAD_MAX_BYTES = 2_000_000


@dataclass
class Published:
    """The URL of the proxy, and an API key of an administrator."""

    url: str
    key: str


@pytest.fixture(scope="module")
def published(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("proxy")
    settings = {"access": "required", "trusted_proxies": "127.0.0.1"}
    with ExitStack() as services:
        gateway = services.enter_context(
            stack.another_gateway(gateway_prefix="/paw", upload_max_bytes=_UPLOAD_MAX_BYTES, **settings)
        )
        dashboard = services.enter_context(
            running_dashboard(folder, stack.environ, dashboard_prefix="/board", gateway_url=gateway.url, **settings)
        )
        (address,) = services.enter_context(running_nginx(folder, example(folder, gateway.url, dashboard.url)))
        yield Published(
            f"https://{address}",
            gateway.make_key(*(part for scope in ("admin", "submit", "read") for part in ("--scope", scope))),
        )


def example(folder: Path, gateway_url: str, dashboard_url: str) -> str:
    """The example with the addresses and the certificate of this test."""
    page = (ROOT / "docs" / "operations.md").read_text()
    (text,) = re.findall(r"^```nginx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    certificate, key = make_certificate(folder)
    changes = {
        "443": "LISTEN",
        "/etc/ssl/example.com.pem": str(certificate),
        "/etc/ssl/example.com.key": str(key),
        "http://127.0.0.1:8000": gateway_url,
        "http://127.0.0.1:8050": dashboard_url,
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_gateway_is_published(published: Published) -> None:
    with httpx.Client(verify=False, headers={"X-API-Key": published.key}, timeout=60) as http:  # noqa: S501
        accepted = http.post(
            f"{published.url}/paw/v1/jobs", content=PHOTOS[0].read_bytes(), headers={"Prefer": "wait=30"}
        )
        assert accepted.json()["status"] == "succeeded"
        assert http.get(accepted.url.join(accepted.headers["Location"])).json() == accepted.json()
        too_large = http.post(f"{published.url}/paw/v1/jobs", content=bytes(4 * _UPLOAD_MAX_BYTES))
        assert (too_large.status_code, too_large.json()["code"]) == (413, "upload_too_large")
        without_key = httpx.post(f"{published.url}/paw/v1/jobs", content=bytes(_UPLOAD_MAX_BYTES), verify=False)  # noqa: S501
        assert without_key.json()["code"] == "unauthorized"


def test_the_dashboard_is_published(published: Published, new_tab: Any) -> None:
    tab = new_tab(published.url)
    page: Page = tab.page
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    tab.open("/board/")
    assert page.url == f"{published.url}/board/sign-in"
    page.get_by_label("API key").fill(published.key)
    page.get_by_role("button", name="Sign in").click()
    (cookie,) = page.context.cookies()
    assert (cookie["path"], cookie["secure"]) == ("/board", True)

    for entry in PAGES:
        page.get_by_role("navigation").get_by_role("link", name=entry.title).click()
        expect(page.locator("main h1")).to_have_text(entry.title)
        expect(page).to_have_url(f"{published.url}/board{entry.path}")
        expect(page).to_have_title(f"{entry.title} · Pawqueue")
        page.reload()
        expect(page.locator("main h1")).to_have_text(entry.title)

    tab.open("/board/try")
    page.set_input_files("#try-upload input[type=file]", PHOTOS[0])
    expect(page.locator(".result", has_text="succeeded")).to_be_visible()
    page.get_by_role("link", name="Predictions").click()
    expect(page.locator(".tile").first).to_be_visible()
    page.locator(".tile").first.click()
    expect(page.locator("#predictions-details")).to_contain_text("Probabilities")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert "job_id" in Path(download.value.path()).read_text()
    expect(page.locator("#offline")).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{published.url}/board/sign-in")
    assert page.context.cookies() == []
    board = f"{published.url}/board/"
    assert [url for url in requested if not url.startswith((board, "data:", "blob:"))] == []
