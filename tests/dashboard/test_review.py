"""The Review page in a real Chromium: labels, skip and undo by keyboard, two reviewers, access."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Page, expect

from contract.ledger import keys
from tests.dashboard.conftest import send
from tests.dashboard.test_access import sign_in
from tests.dashboard.test_pages import cut_texts, overflow, violations
from tests.support.dashboard import Dashboard, running_dashboard
from tests.support.images import draw
from tests.support.services import Stack, light_worker, running_stack

pytestmark = pytest.mark.slow


@dataclass
class Reviewed:
    """Services whose worker keeps every image. It has the labels `cat` and `dog`, but predicts something else."""

    stack: Stack
    dashboard: Dashboard
    folder: Path

    def send(self, *names: str, grey: int = 140, form: str = "PNG") -> list[str]:
        """Upload images of a grey; returns the ids of their jobs."""
        paths = [self.folder / name for name in names]
        for number, path in enumerate(paths):
            path.write_bytes(draw((300, 200), (grey + number,) * 3, form))
        return [job["id"] for job in send(self.stack, paths)]

    def labels(self) -> dict[str, str]:
        """The labels of the images that have one, by file name."""
        rows = httpx.get(f"{self.stack.url}/v1/review?labeled=true").json()["images"]
        return {row["file"]: row["label"] for row in rows}


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Reviewed]:
    with ExitStack() as services:
        stack = services.enter_context(running_stack(tmp_path, light_worker(), review_below=0.99))
        dashboard = services.enter_context(running_dashboard(tmp_path, stack.environ))
        yield Reviewed(stack, dashboard, tmp_path)


def shown(page: Page, name: str) -> None:
    """Wait until an image with this file name is shown."""
    expect(page.locator("#review-stage")).to_contain_text(name)
    expect(page.locator("#review-stage img")).to_have_js_property("complete", value=True)
    assert page.locator("#review-stage img").evaluate("image => image.naturalWidth") > 0


def test_images_are_labeled_skipped_and_taken_back_by_keyboard_alone(reviewed: Reviewed, new_tab: Any) -> None:
    reviewed.send("a.png", "b.png", "c.png")
    page = new_tab(reviewed.dashboard.url).open("/review")
    message, progress = page.locator("#review-message"), page.locator("#review-progress")
    shown(page, "a.png")
    expect(progress).to_contain_text("0 of 3 reviewed")
    page.keyboard.press("1")
    shown(page, "b.png")
    expect(message).to_have_text("Labeled a.png as cat.")
    page.keyboard.press("Space")
    shown(page, "c.png")
    expect(message).to_contain_text("Skipped b.png.")
    page.keyboard.press("d")
    expect(page.locator("#review-stage")).to_contain_text("No image waits for a review.")
    expect(progress).to_contain_text("2 of 3 reviewed")
    assert reviewed.labels() == {"a.png": "cat", "c.png": "dog"}

    page.keyboard.press("u")
    shown(page, "c.png")
    page.keyboard.press("Control+z")
    shown(page, "b.png")
    assert reviewed.labels() == {"a.png": "cat"}
    page.keyboard.press("c")
    shown(page, "c.png")  # it was shown before the undo
    page.keyboard.press("c")
    expect(progress).to_contain_text("3 of 3 reviewed")
    assert reviewed.labels() == dict.fromkeys(("a.png", "b.png", "c.png"), "cat")
    accuracy = httpx.get(f"{reviewed.stack.url}/v1/models/cats-dogs/feedback").json()["versions"][0]
    assert (accuracy["right"], accuracy["total"]) == (0, 3)


def test_the_first_image_can_be_labeled_after_returning_to_the_page(reviewed: Reviewed, new_tab: Any) -> None:
    reviewed.send("a.png", "b.png", "c.png")
    page = new_tab(reviewed.dashboard.url).open("/review")
    shown(page, "a.png")
    page.keyboard.press("1")
    shown(page, "b.png")
    page.locator("nav a", has_text="Capacity").click()
    page.wait_for_selector("#capacity-now")
    page.locator("nav a", has_text="Review").click()
    shown(page, "c.png")  # the lease of the other one has not expired
    page.keyboard.press("1")
    expect(page.locator("#review-progress")).to_contain_text("2 of 3 reviewed", timeout=9000)


def test_the_page_is_accessible_and_works_with_the_mouse_and_the_tab_key(reviewed: Reviewed, new_tab: Any) -> None:
    reviewed.send("a.png", "b.png", "a-very-long-file-name-that-somebody-has-chosen.png", "d.png")
    for width, scheme in ((1280, "light"), (400, "dark")):
        page = new_tab(reviewed.dashboard.url, width, scheme).open("/review")
        expect(page.locator("#review-stage img")).to_be_visible()
        assert not violations(page)
        assert overflow(page) <= 0
        assert not cut_texts(page)
        page.context.close()
    page = new_tab(reviewed.dashboard.url).open("/review")
    shown(page, "a-very-long")
    page.locator("#review-stage button", has_text="dog").click()
    shown(page, "d.png")
    page.keyboard.press("Space")  # the focus is not on the button any more
    expect(page.locator("#review-message")).to_contain_text("Skipped d.png.")
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    shown(page, "d.png")
    page.get_by_label("Keyboard shortcuts").focus()
    page.keyboard.press("Space")
    page.keyboard.press("1")
    expect(page.locator("#review-stage")).to_contain_text("d.png")
    assert list(reviewed.labels()) == ["a-very-long-file-name-that-somebody-has-chosen.png"]


def test_two_reviewers_never_get_the_same_image(reviewed: Reviewed, new_tab: Any) -> None:
    names = [f"{number}.png" for number in range(8)]
    reviewed.send(*names)
    pages = [new_tab(reviewed.dashboard.url).open("/review") for _ in range(2)]
    seen: list[str] = []
    for number in range(4):
        for page in pages:
            expect(page.locator("#review-stage [data-turn]")).to_have_attribute("data-turn", str(number + 1))
            seen.append(page.locator("#review-stage dd").nth(3).inner_text())
            page.keyboard.press("2")
    for page in pages:
        expect(page.locator("#review-progress")).to_contain_text("reviewed")
        expect(page.locator("#review-stage")).to_contain_text("No image waits")
    assert sorted(seen) == names
    assert reviewed.labels() == dict.fromkeys(names, "dog")


def test_an_image_that_browsers_cannot_show_is_shown_as_a_preview(reviewed: Reviewed, new_tab: Any) -> None:
    reviewed.send("scan.tif", form="TIFF")
    shown(new_tab(reviewed.dashboard.url).open("/review"), "scan.tif")


def test_one_of_many_labels_is_found_by_typing(reviewed: Reviewed, new_tab: Any) -> None:
    many = ["cat", "dog", *(f"animal {number}" for number in range(60))]
    with redis.Redis.from_url(reviewed.stack.redis_url, decode_responses=True) as client:
        for field, text in client.hgetall(keys.model("cats-dogs")).items():
            if field.startswith("version:"):
                client.hset(keys.model("cats-dogs"), field, json.dumps(json.loads(text) | {"labels": many}))
    reviewed.send("a.png", "b.png")
    page = new_tab(reviewed.dashboard.url).open("/review")
    shown(page, "a.png")
    assert not violations(page)
    page.keyboard.press("/")
    page.keyboard.type("animal 17")
    expect(page.get_by_role("option")).to_have_text(["animal 17"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    shown(page, "b.png")
    page.keyboard.press("Space")
    expect(page.locator("#review-message")).to_contain_text("Skipped b.png.")
    assert reviewed.labels() == {"a.png": "animal 17"}


def test_a_purged_image_is_replaced_by_the_next_one(reviewed: Reviewed, new_tab: Any) -> None:
    first, _ = reviewed.send("a.png", "b.png")
    page = new_tab(reviewed.dashboard.url).open("/review")
    shown(page, "a.png")
    httpx.delete(f"{reviewed.stack.url}/v1/jobs/{first}?purge=true").raise_for_status()
    page.keyboard.press("1")
    shown(page, "b.png")
    expect(page.locator("#review-message")).to_contain_text("not kept for review")


def test_reviewers_see_what_their_api_key_allows(reviewed: Reviewed, new_tab: Any, tmp_path: Path) -> None:
    with (
        reviewed.stack.another_gateway(access="required") as gateway,
        running_dashboard(tmp_path, gateway.environ, access="required", gateway_url=gateway.url) as dashboard,
    ):
        api_keys = {name: gateway.make_key() for name in ("ada", "bob")}
        api_keys["boss"] = gateway.make_key(
            *(part for scope in ("admin", "read", "submit") for part in ("--scope", scope))
        )
        api_keys["reader"] = gateway.make_key("--scope", "read")
        path = tmp_path / "of-ada.png"
        path.write_bytes(draw(color=(140, 140, 140)))
        (job,) = send(reviewed.stack, [path], url=gateway.url, api_key=api_keys["ada"])
        for name, text in (("bob", "No images are kept"), ("reader", "the scope `submit`"), ("boss", "of-ada.png")):
            tab = new_tab(dashboard.url)
            page = tab.page
            page.goto(f"{dashboard.url}/sign-in")
            sign_in(page, api_keys[name])
            tab.open("/review")
            expect(page.locator("#review-stage")).to_contain_text(text.replace("`", ""))
            response = page.request.get(f"{dashboard.url}/review/{job['id']}/image")
            assert response.status == (200 if name == "boss" else 404)
        page.keyboard.press("1")
        expect(page.locator("#review-progress")).to_contain_text("1 of 1 reviewed")
        found = httpx.get(f"{gateway.url}/v1/review", headers={"X-API-Key": api_keys["boss"]}).json()["images"]
        assert [(row["label"], row["labeled_by"]) for row in found] == [("cat", api_keys["boss"].split("_")[1])]
