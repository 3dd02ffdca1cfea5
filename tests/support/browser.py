"""The installed Chromium, controlled by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """The path of Chromium. If it is not installed, the test is skipped, or fails in CI."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing = f"no Chromium found (looked for {', '.join(_NAMES)}); install it to run tests in a browser"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def running_browser(*options: str) -> Iterator[Browser]:
    """Start a headless browser with additional command-line options."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", *options])
        try:
            yield browser
        finally:
            browser.close()
