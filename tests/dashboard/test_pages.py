"""Every page in a real Chromium, with the real services under load."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from contract.job import WARNINGS
from tests.dashboard.conftest import PHOTOS, send
from tests.support.dashboard import Dashboard
from tests.support.services import Stack, wait_until

#: Path -> selectors of elements that appear once images have been predicted.
PAGES = {
    "/": ["#live-now .stat", "#live-queue .js-plotly-plot .scatterlayer .trace", "#live-workers tbody tr"],
    "/predictions": ["#predictions-gallery .tile img", "#predictions-mix .js-plotly-plot .scatterlayer .trace"],
    "/review": ["#review-stage button"],
    "/try": ["#try-status dd", "#try-upload input[aria-label]"],
    "/models": ["#models-confusion .heatmaplayer", "#models-metrics tbody tr", "#models-card-text h3"],
    "/drift": ["#drift-summary tbody tr", "#drift-brightness .js-plotly-plot .barlayer .trace"],
    "/capacity": ["#capacity-now .stat", "#capacity-images .js-plotly-plot .scatterlayer .trace"],
}
#: Checked by the fast tests too.
_FAST = ("/", "/predictions")
#: Known violations inside third-party components: (rule, start of the element's HTML).
THIRD_PARTY: tuple[tuple[str, str], ...] = ()
#: Puts each of the texts into an element, and returns those that take more than one line.
_WRAPPED = """(element, texts) => texts.filter((text) => {
    element.textContent = text;
    const range = document.createRange();
    range.selectNodeContents(element);
    return range.getClientRects().length > 1;
})"""


@pytest.fixture
def load(stack: Stack, dashboard: Dashboard) -> Iterator[None]:
    """Uploads two images every fifth of a second during the test."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.wait(0.2):
            send(stack, PHOTOS[:2], "bulk")

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stopping.set()
    thread.join()


def violations(page: Page) -> list[str]:
    """Serious accessibility violations found by axe-core, except those in `THIRD_PARTY`."""
    found = Axe().run(page).response["violations"]
    nodes = [
        (rule["id"], node) for rule in found if rule["impact"] in ("serious", "critical") for node in rule["nodes"]
    ]
    ours = [
        (rule, node)
        for rule, node in nodes
        if not any(r == rule and node["html"].startswith(h) for r, h in THIRD_PARTY)
    ]
    return [f"{rule}: {node['html'][:200]} {node['failureSummary']}" for rule, node in ours]


def overflow(page: Page) -> int:
    """The number of pixels by which the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def cut_texts(page: Page) -> list[str]:
    """The texts that are wider than their element."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll("main :is(h1, h2, p, dt, dd, strong, .tile span, nav a)")]
            .filter((one) => one.offsetParent && one.scrollWidth > one.clientWidth + 2 && getComputedStyle(one).display
                !== "inline").map((one) => one.textContent)"""
        )
    )


def overlaps(page: Page) -> list[str]:
    """Pairs of cards that overlap."""
    return list(
        page.evaluate(
            """() => { const all = [...document.querySelectorAll(".card, .tile")].map((one) => [one.id || one.href,
                one.getBoundingClientRect()]); const found = []; all.forEach(([a, p], at) =>
                all.slice(at + 1).forEach(([b, q]) => {
                if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)
                found.push(a + " over " + b); })); return found; }"""
        )
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), pytest.param(400, "dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "path", [path if path in _FAST else pytest.param(path, marks=pytest.mark.slow) for path in PAGES]
)
@pytest.mark.usefixtures("load")
def test_a_page_under_load_is_complete_and_accessible(
    dashboard: Dashboard, new_tab: Any, path: str, width: int, scheme: str
) -> None:
    page = new_tab(dashboard.url, width, scheme).open(path)

    for selector in PAGES[path]:
        page.wait_for_selector(selector, state="attached")
    assert not page.locator(".card.is-error, .card.is-loading").all_inner_texts()
    assert all(note.strip() for note in page.locator(".card .note").all_inner_texts())
    assert not violations(page)
    assert overflow(page) <= 0
    assert not cut_texts(page)
    assert not overlaps(page)


@pytest.mark.usefixtures("load")
def test_cards_refresh_and_show_the_age_of_their_data(dashboard: Dashboard, new_tab: Any) -> None:
    page = new_tab(dashboard.url, bypass_csp=True).open("/")
    read = page.locator("#live-now-note time")
    first = read.get_attribute("datetime")

    page.wait_for_function("first => document.querySelector('#live-now-note time').dateTime !== first", arg=first)
    page.wait_for_function("document.querySelector('#live-now-note time').dataset.age?.endsWith('s ago')")
    details = page.locator("#live-queue details")
    details.locator("summary").click()
    expect(details.locator("tbody tr").first).to_be_visible()
    seen = page.locator("#live-queue-note time").get_attribute("datetime")
    page.wait_for_function("seen => document.querySelector('#live-queue-note time').dateTime !== seen", arg=seen)
    expect(details.locator("tbody tr").first).to_be_visible()  # a refresh does not collapse the table


def test_filters_are_kept_in_the_url_and_a_tile_opens_the_details(dashboard: Dashboard, new_tab: Any) -> None:
    page = new_tab(dashboard.url, bypass_csp=True).open("/predictions?label=cat&least=60")
    answers = page.locator("#predictions-gallery .answer")
    page.wait_for_selector("#predictions-gallery .tile")
    assert set(answers.all_inner_texts()) == {"cat"}
    expect(page.locator("#predictions-label")).to_have_value("cat")

    page.locator("#predictions-label").click()
    page.get_by_role("option", name="dog").click()
    page.wait_for_url("**/predictions?label=dog&least=60")
    page.wait_for_function("[...document.querySelectorAll('.answer')].every((one) => one.textContent === 'dog')")
    expect(page.locator("#predictions-csv")).to_have_attribute("href", "/predictions.csv?label=dog&least=60")

    page.locator("#predictions-gallery .tile").first.click()
    dialog = page.get_by_role("dialog")
    for words in ("Probabilities", "Timings", "Attempts", "cats-dogs"):
        expect(dialog).to_contain_text(words)
    expect(dialog.locator(".js-plotly-plot .barlayer .trace").first).to_be_visible()
    assert "job=" in page.url
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.wait_for_url("**/predictions?label=dog&least=60")


@pytest.mark.slow
def test_the_gallery_is_not_redrawn_while_in_use_and_keeps_the_focus(
    dashboard: Dashboard, stack: Stack, new_tab: Any
) -> None:
    page = new_tab(dashboard.url).open("/predictions")
    tiles, paused = page.locator("#predictions-gallery .tile"), page.locator("#predictions-paused")
    expect(tiles.nth(1)).to_be_visible()
    page.locator("#predictions-csv").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    focused = page.locator("#predictions-gallery .tile:focus")
    address = str(focused.get_attribute("href"))
    send(stack, PHOTOS[:2])

    def paused_in_use() -> bool:
        page.keyboard.press("Shift")  # the gallery counts as in use for 10 s after a key
        return bool(paused.is_visible())

    wait_until(paused_in_use, "the gallery to pause")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text(address.rpartition("=")[-1])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(tiles.nth(3)).to_have_attribute("href", address)  # the two new images come first
    expect(focused).to_have_attribute("href", address)
    expect(paused).to_be_hidden()

    tiles.nth(1).hover()
    send(stack, PHOTOS[:2])
    expect(paused).to_be_visible()
    page.mouse.move(0, 0)
    expect(paused).to_be_hidden()
    expect(tiles.nth(5)).to_have_attribute("href", address)


def test_predictions_are_downloaded_as_csv(dashboard: Dashboard, new_tab: Any) -> None:
    page = new_tab(dashboard.url).open("/predictions?label=cat")
    with page.expect_download() as download:
        page.locator("#predictions-csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith("job_id,file,status,label")
    assert len(lines) > 1
    assert all(",cat," in line for line in lines[1:])


def test_an_uploaded_photo_gets_a_prediction_and_an_invalid_file_an_error(
    dashboard: Dashboard, new_tab: Any, photographs: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "<b>notes.jpg"
    bad.write_text("not an image")
    page = new_tab(dashboard.url).open("/try")
    expect(page.locator("#try-status")).to_contain_text("ready")
    expect(page.locator("#try-status")).to_contain_text("cats-dogs")

    page.locator("#try-upload input").set_input_files([photographs / "sample" / "cat.03307.jpg", bad])

    good = page.locator(".result", has_text="cat.03307.jpg")
    expect(good).to_contain_text("succeeded in")
    expect(good.locator(".state strong")).to_have_text("cat")
    assert good.locator(".probabilities dt").all_inner_texts() == ["cat", "dog"]
    expect(good.locator("img")).to_have_js_property("complete", value=True)
    expect(good.locator("img")).to_have_attribute("src", re.compile("^data:image/jpeg;base64,"))
    invalid = page.locator(".result", has_text="<b>notes.jpg")
    expect(invalid).to_contain_text("not_an_image")
    expect(invalid).to_contain_text("not accepted")
    expect(invalid.locator("img")).to_be_hidden()

    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(PHOTOS[0].read_bytes()[:3000])  # the header is complete, so the gateway accepts it
    page.locator("#try-upload input").set_input_files([corrupt])
    failed = page.locator(".result", has_text="corrupt.png")
    expect(failed.locator(".state")).to_have_text(re.compile("^failed after"))
    expect(good.locator("img")).to_be_visible()
    assert not violations(page)


def test_the_code_of_a_warning_fits_into_the_narrowest_card(dashboard: Dashboard, new_tab: Any, tmp_path: Path) -> None:
    dark = tmp_path / "dark.tif"
    Image.new("I;16", (300, 200), 900).save(dark)
    page = new_tab(dashboard.url, width=496).open("/try")  # two cards of 230 px in a row
    page.locator("#try-upload input").set_input_files([dark])
    warnings = page.locator(".result .warnings")
    expect(warnings).to_contain_text(f"sample_range_assumed {WARNINGS['sample_range_assumed']}")
    assert page.locator(".result").evaluate("card => card.offsetWidth") == 230
    assert not warnings.locator("strong").first.evaluate(_WRAPPED, list(WARNINGS))


def test_html_in_file_names_and_urls_is_shown_as_text(
    dashboard: Dashboard, stack: Stack, new_tab: Any, tmp_path: Path
) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    (tmp_path / name).write_bytes(PHOTOS[0].read_bytes())
    (job,) = send(stack, [tmp_path / name])
    page = new_tab(dashboard.url).open("/predictions")

    tile = page.locator(".tile", has_text=job["id"])
    expect(tile).to_contain_text(name)
    page.goto(f"{dashboard.url}/predictions?label=%3Cscript%3Ealert(1)%3C/script%3E&job=%27;FLUSHALL")
    expect(page.locator("#predictions-count")).to_contain_text("0 of the last")


def test_the_theme_follows_the_system_and_can_be_switched(dashboard: Dashboard, new_tab: Any) -> None:
    page = new_tab(dashboard.url, bypass_csp=True, scheme="dark").open("/")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 26)"
    page.get_by_role("button", name="Switch between light and dark").click()
    page.wait_for_function(f"{background} === 'rgb(245, 246, 248)'")
    page.reload()
    page.wait_for_function(f"{background} === 'rgb(245, 246, 248)'")


def test_the_skip_link_the_navigation_and_the_content_are_reachable_by_keyboard(
    dashboard: Dashboard, new_tab: Any
) -> None:
    page = new_tab(dashboard.url, bypass_csp=True).open("/")
    focused = "document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to content"
    order = []
    for _ in range(9):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
    assert order[:8] == ["Pawqueue", "Live", "Predictions", "Review", "Try it", "Models", "Drift", "Capacity"]
    assert order[8].startswith("Theme")
    page.locator("nav a", has_text="Models").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/models")
    page.wait_for_function("document.title === 'Models · Pawqueue' && document.activeElement.id === 'content'")
