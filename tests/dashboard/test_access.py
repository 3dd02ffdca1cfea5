"""A dashboard that requires an API key, with a gateway that also requires one, even for its status."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import PHOTOS, send
from tests.dashboard.test_pages import violations
from tests.support.dashboard import Dashboard, running_dashboard
from tests.support.services import Stack

pytestmark = pytest.mark.slow


@dataclass
class Guarded:
    """The dashboard, and API keys by the name of their owner."""

    dashboard: Dashboard
    keys: dict[str, str]
    gateway_url: str


@pytest.fixture
def guarded(stack: Stack, tmp_path: Path) -> Iterator[Guarded]:
    with ExitStack() as services:
        gateway = services.enter_context(stack.another_gateway(access="required", metrics_access="key"))
        keys = {name: gateway.make_key() for name in ("ada", "bob")} | {"boss": gateway.make_key("--scope", "admin")}
        dashboard = running_dashboard(tmp_path, gateway.environ, access="required", gateway_url=gateway.url)
        yield Guarded(services.enter_context(dashboard), keys, gateway.url)


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_each_viewer_sees_the_jobs_that_their_api_key_allows(guarded: Guarded, stack: Stack, new_tab: Any) -> None:
    jobs = {
        name: send(stack, [PHOTOS[0]], url=guarded.gateway_url, api_key=guarded.keys[name])[0]["id"]
        for name in ("ada", "bob")
    }
    tab = new_tab(guarded.dashboard.url)
    page = tab.open("/")
    expect(page.get_by_role("heading")).to_have_text("Pawqueue")
    assert not violations(page)
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    tab.problems.clear()  # the browser logs the 401 to its console

    sign_in(page, guarded.keys["ada"])
    expect(page.locator("#live-now")).to_have_class("card is-ok is-wide")
    expect(page.locator("#live-now-note")).not_to_contain_text("No rates")  # the metrics were read
    tab.open("/predictions")
    expect(page.locator(".tile", has_text=jobs["ada"])).to_be_visible()
    expect(page.locator(".tile", has_text=jobs["bob"])).to_have_count(0)
    page.goto(f"{guarded.dashboard.url}/predictions?job={jobs['bob']}")
    expect(page.locator("#predictions-details")).not_to_contain_text("Probabilities")

    tab.open("/").get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    sign_in(page, guarded.keys["boss"])
    tab.open("/predictions")
    for job_id in jobs.values():
        expect(page.locator(".tile", has_text=job_id)).to_be_visible()
