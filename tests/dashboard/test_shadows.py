"""What shadows found, on the Models page of a dashboard with real services."""

from typing import Any

import pytest
from playwright.sync_api import expect

from contract.ledger.ledger import Ledger
from contract.ledger.shadows import Compared
from tests.dashboard.conftest import PHOTOS, send
from tests.dashboard.test_pages import overflow, violations
from tests.support.dashboard import Dashboard
from tests.support.ledger import patient_client
from tests.support.services import Stack

pytestmark = pytest.mark.slow


@pytest.fixture
def compared(stack: Stack, dashboard: Dashboard) -> str:
    """The id of a job for which a shadow predicted another label."""
    jobs = send(stack, PHOTOS[:3])
    with patient_client(stack.redis_url) as client:
        rows = [
            Compared(job["id"], job["model"]["name"], job["model"]["version"], "night", "cat", label, 0.8, 0.7, agreed)
            for job, label, agreed in zip(jobs, ("cat", "cat", "<b>dog"), (True, True, False), strict=True)
        ]
        assert Ledger(client).shadows.record(rows) == [True] * 3
    return str(jobs[2]["id"])


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_models_page_shows_shadows(
    dashboard: Dashboard, compared: str, new_tab: Any, width: int, scheme: str
) -> None:
    page = new_tab(dashboard.url, width, scheme).open("/models")
    expect(page.locator("#models-shadows tbody")).to_contain_text("night")
    link = page.locator("#models-disagreements li a").filter(has_text="shadow night <b>dog 70 %").first
    expect(link).to_be_visible()
    assert not violations(page)
    assert overflow(page) <= 0


def test_the_details_of_a_job_on_which_a_shadow_differs_are_opened_by_keyboard(
    dashboard: Dashboard, compared: str, new_tab: Any
) -> None:
    page = new_tab(dashboard.url).open("/models")
    link = page.locator(f'#models-disagreements li a[href$="{compared}"]')
    expect(link).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text(compared)
