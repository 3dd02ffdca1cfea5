"""Takes screenshots of all pages: `python -m tests.dashboard.screenshots [FOLDER]`; the default is `docs/images`.

The script starts its own services and puts them under load with the sample images. It also measures and prints how long
a browser with an empty cache takes to show each page.
"""

import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize

from tests.dashboard.conftest import PHOTOS, send
from tests.dashboard.test_pages import PAGES
from tests.support.browser import running_browser
from tests.support.dashboard import running_dashboard
from tests.support.services import ROOT, Stack, running_stack

_CLIENTS, _WARM_UP_S = 12, 150.0
_ROUNDS = 5
_PAINT_MS = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main() -> int:
    """Write the screenshots; returns the exit status."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_stack(Path(scratch), review_below=0.9) as stack,
        running_dashboard(Path(scratch), stack.environ) as dashboard,
        running_browser() as browser,
    ):
        for path in PAGES:
            _measure(browser, dashboard.url, path)
        send(stack, PHOTOS)  # before the load, while each image still gets a thumbnail
        _write_predictions(browser, dashboard.url, folder)
        with load(stack):
            time.sleep(_WARM_UP_S)  # to fill the charts
            _write_charts(browser, dashboard.url, folder)
    return 0


def _measure(browser: Browser, url: str, path: str) -> None:
    """Print the times to first paint and to complete cards with an empty cache."""
    paints_ms, complete_ms = [], []
    for _ in range(_ROUNDS):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page, start_s = context.new_page(), time.monotonic()
        page.goto(f"{url}{path}")
        page.wait_for_selector("main h1")
        complete_ms.append(1000 * (time.monotonic() - start_s))
        paints_ms.append(page.evaluate(_PAINT_MS))
        context.close()
    middle = _ROUNDS // 2
    print(f"{path}: first paint {sorted(paints_ms)[middle]:.0f} ms, cards after {sorted(complete_ms)[middle]:.0f} ms")


@contextmanager
def load(stack: Stack) -> Iterator[None]:
    """Uploads images in bursts, with an occasional invalid one."""
    stopping = threading.Event()
    broken = stack.folder / "broken.png"
    broken.write_bytes(PHOTOS[0].read_bytes()[:3000])

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while not stopping.is_set():
            pick = [broken] if chance.random() < 0.01 else chance.choices(PHOTOS, k=20)
            send(stack, pick, chance.choice(["interactive", "bulk"]))
            stopping.wait(chance.random() * 3)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        for seed in range(_CLIENTS):
            pool.submit(client, seed)
        yield
        stopping.set()


def _write_predictions(browser: Browser, url: str, folder: Path) -> None:
    page = _open(browser, f"{url}/predictions", 1280)
    page.wait_for_function(f"document.querySelectorAll('#predictions-gallery img').length === {len(PHOTOS)}")
    _shoot(page, folder / "dashboard-predictions.png")
    page = _open(browser, f"{url}/predictions", 1000)
    page.locator("#predictions-gallery .tile").first.click()
    page.wait_for_selector("#predictions-details .js-plotly-plot .trace")
    _shoot(page, folder / "dashboard-prediction.png")
    page = _open(browser, f"{url}/try", 1000)
    page.locator("#try-upload input").set_input_files(PHOTOS[:3])
    page.wait_for_function("document.querySelectorAll('.result .probabilities').length === 3")
    _shoot(page, folder / "dashboard-try.png")
    page = _open(browser, f"{url}/review", 1280)
    page.locator("#review-stage img").wait_for()
    _shoot(page, folder / "dashboard-review.png")


def _write_charts(browser: Browser, url: str, folder: Path) -> None:
    for path in ("/", "/models", "/drift", "/capacity"):
        page = _open(browser, f"{url}{path}", 1280)
        for selector in PAGES[path]:
            page.wait_for_selector(selector, state="attached")
        _shoot(page, folder / f"dashboard-{path.strip('/') or 'live'}.png", full_page=path == "/drift")
    _shoot(_open(browser, url, 400, scheme="dark"), folder / "dashboard-phone.png")


def _open(browser: Browser, url: str, width: int, scheme: Literal["light", "dark"] = "light") -> Page:
    size: ViewportSize = {"width": width, "height": 900}
    page = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True).new_page()
    page.goto(url)
    page.wait_for_selector("main h1")
    return page


def _shoot(page: Page, file: Path, *, full_page: bool = False) -> None:
    page.wait_for_timeout(1500)  # until the charts have finished their transitions
    page.screenshot(path=file, full_page=full_page)
    print(file)
    page.context.close()


if __name__ == "__main__":
    sys.exit(main())
