"""What the pages say when gateway, Redis, Prometheus, or the dashboard itself is gone; never zeros."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.dashboard import running_dashboard
from tests.support.services import free_port, running, running_redis, wait_until

SINCE = r"unreachable since \d\d:\d\d UTC"


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Redis alone: no gateway, no worker."""
    folder = tmp_path_factory.mktemp("dead")
    with running_redis(folder) as url:
        yield {
            "PAWQUEUE_REDIS_URL": url,
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_GATEWAY_PORT": str(free_port()),
        }


def matching(pattern: str) -> Any:
    import re

    return re.compile(pattern)


def test_without_gateway_and_workers_every_page_says_so(environ: dict[str, str], new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, environ) as dashboard:
        page = new_tab(dashboard.url).open("/")
        expect(page.locator("#live-now-note")).to_contain_text(matching(f"The gateway {SINCE}"))
        expect(page.locator("#live-workers-note")).to_contain_text("No worker has a heartbeat")
        assert not page.locator("#live-now .stat:visible, .js-plotly-plot:visible").all_inner_texts()
        page = new_tab(dashboard.url).open("/try")
        expect(page.locator("#try-status")).to_contain_text(matching(SINCE))
        page = new_tab(dashboard.url).open("/models")
        expect(page.locator("#models-served")).to_contain_text("No worker serves it just now")
        page = new_tab(dashboard.url).open("/predictions")
        expect(page.locator("#predictions-mix-note")).to_contain_text("No prediction fits")


@pytest.mark.slow
def test_a_gateway_that_goes_leaves_its_last_numbers_marked_as_stale(
    environ: dict[str, str], new_tab: Any, tmp_path: Path
) -> None:
    with running_dashboard(tmp_path, environ) as dashboard:
        page = new_tab(dashboard.url).open("/")
        with running("gateway", [sys.executable, "-m", "gateway"], tmp_path, environ):
            expect(page.locator("#live-queue")).to_have_class(matching("is-ok"))
        expect(page.locator("#live-queue-note")).to_contain_text(matching(f"{SINCE}.*What is shown is from"))
        expect(page.locator("#live-queue-word")).to_have_text("Stale")
        expect(page.locator("#live-queue .js-plotly-plot")).to_be_visible()


def test_a_dead_prometheus_is_named(environ: dict[str, str], new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, environ, prometheus_url=f"http://127.0.0.1:{free_port()}") as dashboard:
        page = new_tab(dashboard.url).open("/capacity")
        expect(page.locator("#capacity-now-note")).to_contain_text(matching(f"Prometheus {SINCE}"))
        page = new_tab(dashboard.url).open("/")
        for card in ("now", "flow", "latency", "batches", "errors", "alerts"):
            expect(page.locator(f"#live-{card}-note")).to_contain_text(matching(f"Prometheus {SINCE}"))


def test_a_dead_redis_is_named_and_nothing_else_falls(environ: dict[str, str], new_tab: Any, tmp_path: Path) -> None:
    gone = {**environ, "PAWQUEUE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with running_dashboard(tmp_path, gone) as dashboard:
        page = new_tab(dashboard.url).open("/predictions")
        expect(page.locator("#predictions-mix-note")).to_contain_text(matching(f"Redis. {SINCE}"))
        page = new_tab(dashboard.url).open("/models")
        expect(page.locator("#models-metrics tbody tr").first).to_be_visible()


@pytest.mark.slow
def test_the_page_says_when_the_dashboard_itself_is_gone(environ: dict[str, str], new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, environ) as dashboard:
        page = new_tab(dashboard.url, calm=False).open("/")
        dashboard.process.stop()
        expect(page.locator("#offline")).to_contain_text("The dashboard has not answered since")
        wait_until(lambda: page.locator("#offline").is_visible(), "The banner being seen", 10)
