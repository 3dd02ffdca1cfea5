"""History from a real Prometheus that scrapes the real gateway and worker."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard.data.prometheus import PrometheusSource
from dashboard.data.quantities import QUANTITIES
from tests.dashboard.conftest import PHOTOS, send
from tests.support.dashboard import running_dashboard
from tests.support.prometheus import running_prometheus
from tests.support.services import Stack, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[str]:
    rule = {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "page"}, "annotations": {"summary": "On."}}
    with running_prometheus(stack, tmp_path, [{"name": "g", "rules": [rule]}]) as url:
        yield url


def test_every_query_returns_values_and_the_page_shows_them(
    prometheus: str, stack: Stack, new_tab: object, tmp_path: Path
) -> None:
    source = PrometheusSource(prometheus)
    bad = tmp_path / "bad.png"
    bad.write_bytes(PHOTOS[0].read_bytes()[:3000])  # accepted, because the header is complete

    def missing() -> list[str]:
        send(stack, [PHOTOS[0], bad])
        found = source.read(time.time(), [])
        assert "responds with" not in found.sources["gateway"].problem, found.sources["gateway"].problem
        known = {name for name, lines in found.series.items() if any(v is not None for s in lines for _, v in s.points)}
        # A gateway exports this metric only after it has rejected or refused something.
        return [quantity.name for quantity in QUANTITIES if quantity.name not in (known | {"refused"})]

    wait_until(lambda: not missing(), "every quantity to have a value")
    alerts = source.read(time.time(), []).alerts
    assert alerts
    assert (alerts[0].name, alerts[0].summary) == ("Always", "On.")
    with running_dashboard(tmp_path, stack.environ, prometheus_url=prometheus) as dashboard:
        page = new_tab(dashboard.url).open("/")  # type: ignore[operator]
        expect(page.locator("#live-now")).to_have_class("card is-ok is-wide")
        expect(page.locator("#live-alerts")).to_contain_text("Always")
        expect(page.locator("#live-batches .barlayer .trace").first).to_be_attached()
