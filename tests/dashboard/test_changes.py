"""Changing models on the Models page, and reporting right labels on the Predictions page, in a real Chromium."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.test_access import sign_in
from tests.dashboard.test_pages import cut_texts, overflow, violations
from tests.support.bundles import add_version
from tests.support.dashboard import Dashboard, running_dashboard
from tests.support.images import draw
from tests.support.services import Gateway, Stack, light_worker, running_stack

pytestmark = pytest.mark.slow


@dataclass
class Served:
    """Services with the model `birds` in two versions."""

    stack: Stack
    dashboard: Dashboard

    def model(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.stack.url}/v1/models/birds").json())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    for version in ("1", "2"):
        add_version(tmp_path / "state" / "models", "birds", version, ["owl", "wren"])
    with ExitStack() as services:
        stack = services.enter_context(running_stack(tmp_path, light_worker(), default_model="birds"))
        dashboard = services.enter_context(running_dashboard(tmp_path, stack.environ))
        yield Served(stack, dashboard)


def choose(page: Page, button: str) -> None:
    """Press a button of the Models page, and wait for its dialog."""
    page.get_by_role("button", name=button).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def confirm(page: Page, why: str) -> None:
    """Give the reason in the dialog, by keyboard, and confirm."""
    page.get_by_label("Reason").fill(why)
    page.get_by_role("button", name="Confirm").focus()
    page.keyboard.press("Enter")


def test_a_version_is_promoted_and_rolled_back_with_a_reason(served: Served, new_tab: Any) -> None:
    page = new_tab(served.dashboard.url).open("/models")
    status = page.locator("#change-status")
    expect(status).to_contain_text("1 is live.")
    choose(page, "Promote a version ...")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Promote a version of birds")
    expect(dialog).to_contain_text("instead of 1")
    page.get_by_role("button", name="Confirm").click()
    expect(page.locator("#change-problem")).to_have_text("Give a reason.")
    assert served.model()["live"] == "1"
    assert not violations(page)
    confirm(page, "fewer owls called wrens")
    expect(dialog).to_be_hidden()
    expect(status).to_contain_text("2 is live. Before it was 1.")
    expect(status).to_contain_text("(fewer owls called wrens): 2 became live.")
    assert served.model()["last_change"]["why"] == "fewer owls called wrens"

    choose(page, "Roll back ...")
    expect(dialog).to_contain_text("Roll birds back to 1")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert served.model()["live"] == "2"
    choose(page, "Roll back ...")
    confirm(page, "worse")
    expect(status).to_contain_text("1 is live. Before it was 2.")


def test_a_canary_and_a_shadow_are_begun_and_ended(served: Served, new_tab: Any) -> None:
    page = new_tab(served.dashboard.url).open("/models")
    status = page.locator("#change-status")
    choose(page, "Start a canary ...")
    page.get_by_label("Share of the jobs").fill("25")
    confirm(page, "try it")
    expect(status).to_contain_text("Canary: 2 processes 25 % of the jobs, which ends by itself if it is worse.")
    choose(page, "End the canary ...")
    confirm(page, "enough")
    expect(status).not_to_contain_text("Canary:")
    choose(page, "Set a shadow ...")
    page.get_by_label("Share of the images").fill("50")
    confirm(page, "compare")
    expect(status).to_contain_text("Shadow: 2 predicts 50 % of the images.")
    assert served.model()["shadow"]["sample"] == 0.5
    choose(page, "Remove the shadow ...")
    confirm(page, "enough")
    expect(status).not_to_contain_text("Shadow:")


def test_another_operator_is_named_if_the_model_has_changed(served: Served, new_tab: Any) -> None:
    page = new_tab(served.dashboard.url).open("/models")
    choose(page, "Promote a version ...")
    patch = {"shadow": {"version": "2", "sample": 1.0}, "why": "first"}
    httpx.patch(f"{served.stack.url}/v1/models/birds", json=patch).raise_for_status()
    confirm(page, "second")
    expect(page.locator("#change-problem")).to_contain_text("has revision")
    assert served.model()["live"] == "1"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_buttons_and_the_dialog_fit_and_are_accessible(
    served: Served, new_tab: Any, width: int, scheme: str
) -> None:
    page = new_tab(served.dashboard.url, width, scheme).open("/models")
    expect(page.locator("#change-status")).to_contain_text("1 is live.")
    assert not violations(page)
    assert overflow(page) <= 0
    choose(page, "Start a canary ...")
    expect(page.get_by_label("Reason")).to_be_visible()
    assert not violations(page)
    assert overflow(page) <= 0
    assert not cut_texts(page)


def test_the_right_label_of_a_prediction_is_reported(served: Served, new_tab: Any) -> None:
    job = httpx.post(f"{served.stack.url}/v1/jobs", content=draw(), headers={"Prefer": "wait=30"}, timeout=60).json()
    label = job["prediction"]["label"]
    other = {"owl": "wren", "wren": "owl"}[label]
    page = new_tab(served.dashboard.url).open(f"/predictions?job={job['id']}")
    reported, dialog = page.locator("#predictions-reported"), page.get_by_role("dialog")
    page.get_by_role("button", name=label).focus()
    page.keyboard.press("Enter")
    expect(reported).to_have_text(f"Reported: {label}.")
    assert not violations(page)
    dialog.get_by_label("Another label").click()
    page.get_by_role("option", name=other).click()
    expect(reported).to_have_text(f"Reported: {other}.")
    (version,) = httpx.get(f"{served.stack.url}/v1/models/birds/feedback").json()["versions"]
    assert (version["right"], version["total"]) == (0, 1)
    page.reload()
    expect(reported).to_have_text(f"Reported: {other}.")


@pytest.fixture
def guarded(served: Served, tmp_path: Path) -> Iterator[tuple[Gateway, Dashboard]]:
    with (
        served.stack.another_gateway(access="required") as gateway,
        running_dashboard(tmp_path, gateway.environ, access="required", gateway_url=gateway.url) as dashboard,
    ):
        yield gateway, dashboard


def test_viewers_change_only_what_their_api_key_allows(guarded: tuple[Gateway, Dashboard], new_tab: Any) -> None:
    gateway, dashboard = guarded
    sender, reader = gateway.make_key(), gateway.make_key("--scope", "read", "--scope", "admin")
    headers = {"X-API-Key": sender, "Prefer": "wait=30"}
    job = httpx.post(f"{gateway.url}/v1/jobs", content=draw(), headers=headers, timeout=60).json()
    tab = new_tab(dashboard.url)
    tab.page.goto(f"{dashboard.url}/sign-in")
    sign_in(tab.page, sender)
    page = tab.open("/models")
    expect(page.locator("#models-all")).to_be_visible()
    expect(page.locator("#change-status")).to_have_count(0)
    page = tab.open(f"/predictions?job={job['id']}")
    page.get_by_role("button", name=job["prediction"]["label"]).click()
    expect(page.locator("#predictions-reported")).to_contain_text("Reported:")

    tab = new_tab(dashboard.url)
    tab.page.goto(f"{dashboard.url}/sign-in")
    sign_in(tab.page, reader)
    page = tab.open(f"/predictions?job={job['id']}")
    expect(page.get_by_role("dialog")).to_contain_text("the scope submit")
    page = tab.open("/models")
    choose(page, "Promote a version ...")
    confirm(page, "an admin may")
    expect(page.locator("#change-status")).to_contain_text("2 is live.")
