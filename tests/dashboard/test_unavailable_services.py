"""Pages never show zeros while the gateway, Redis, Prometheus or the dashboard does not respond."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.dashboard import running_dashboard
from tests.support.services import free_port, running, running_redis, wait_until

SINCE = r"navailable since \d\d:\d\d UTC"


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings for a running Redis, without a gateway and without workers."""
    folder = tmp_path_factory.mktemp("unavailable")
    with running_redis(folder) as url:
        yield {
            "PAWQUEUE_REDIS_URL": url,
            "PAWQUEUE_STATE_DIR": str(folder / "state"),
            "PAWQUEUE_GATEWAY_PORT": str(free_port()),
            "PAWQUEUE_GATEWAY_METRICS_PORT": str(free_port()),
        }


@pytest.mark.slow
def test_every_page_reports_a_missing_gateway_and_missing_workers(
    environ: dict[str, str], new_tab: Any, tmp_path: Path
) -> None:
    with running_dashboard(tmp_path, environ) as dashboard:
        page = new_tab(dashboard.url).open("/")
        note = page.locator("#live-now-note")
        expect(note).to_contain_text("No worker is running")
        expect(note).to_contain_text(
            re.compile(r"No rates since \d\d:\d\d UTC. The gateway's metrics endpoint does not respond")
        )
        expect(page.locator("#live-flow-note")).to_contain_text(re.compile(f"{SINCE}. The gateway"))
        expect(page.locator("#live-workers-note")).to_contain_text("No worker is running")
        expect(page.locator("#live-now .stat", has_text="Accepted")).to_contain_text("unknown")
        assert not page.locator(".js-plotly-plot:visible").all_inner_texts()
        page = new_tab(dashboard.url).open("/try")
        expect(page.locator("#try-status")).to_contain_text(re.compile(SINCE))
        page = new_tab(dashboard.url).open("/models")
        expect(page.locator("#models-served")).to_contain_text("Not served by any worker")
        page = new_tab(dashboard.url).open("/predictions")
        expect(page.locator("#predictions-mix-note")).to_contain_text("No jobs have finished recently")


@pytest.mark.slow
def test_the_last_known_values_are_marked_as_stale_when_the_gateway_stops(
    environ: dict[str, str], new_tab: Any, tmp_path: Path
) -> None:
    with running_dashboard(tmp_path, environ) as dashboard:
        page = new_tab(dashboard.url).open("/")
        with running("gateway", [sys.executable, "-m", "gateway"], tmp_path, environ):
            expect(page.locator("#live-queue")).to_have_class(re.compile("is-ok"))
        expect(page.locator("#live-queue-note")).to_contain_text(re.compile(f"{SINCE}.*Showing data from"))
        expect(page.locator("#live-queue-word")).to_have_text("Stale")
        expect(page.locator("#live-queue .js-plotly-plot")).to_be_visible()


@pytest.mark.slow
def test_an_unreachable_prometheus_is_reported(environ: dict[str, str], new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, environ, prometheus_url=f"http://127.0.0.1:{free_port()}") as dashboard:
        page = new_tab(dashboard.url).open("/capacity")
        expect(page.locator("#capacity-now-note")).to_contain_text(re.compile(f"{SINCE}. Prometheus does not respond"))
        page = new_tab(dashboard.url).open("/")
        expect(page.locator("#live-now-note")).to_contain_text("Prometheus does not respond")
        for card in ("flow", "latency", "batches", "errors", "alerts"):
            expect(page.locator(f"#live-{card}-note")).to_contain_text(re.compile(f"{SINCE}. Prometheus"))


@pytest.mark.slow
def test_an_unreachable_redis_is_reported_and_other_cards_still_work(
    environ: dict[str, str], new_tab: Any, tmp_path: Path
) -> None:
    without_redis = {**environ, "PAWQUEUE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with running_dashboard(tmp_path, without_redis) as dashboard:
        page = new_tab(dashboard.url).open("/predictions")
        expect(page.locator("#predictions-mix-note")).to_contain_text(re.compile(f"{SINCE}.*Redis"))
        page = new_tab(dashboard.url).open("/models")
        expect(page.locator("#models-metrics tbody tr").first).to_be_visible()


@pytest.mark.slow
def test_a_banner_appears_when_the_dashboard_stops(environ: dict[str, str], new_tab: Any, tmp_path: Path) -> None:
    with running_dashboard(tmp_path, environ) as dashboard:
        page = new_tab(dashboard.url, watch=False).open("/")
        dashboard.process.stop()
        expect(page.locator("#offline")).to_contain_text("The dashboard has not responded since")
        wait_until(lambda: page.locator("#offline").is_visible(), "the banner to be visible", 10)
