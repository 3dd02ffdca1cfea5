"""History from a real Prometheus that scrapes the real gateway and worker."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from dashboard.data.prometheus import PrometheusSource
from dashboard.data.quantities import QUANTITIES
from tests.dashboard.conftest import PHOTOS, send
from tests.support.dashboard import running_dashboard
from tests.support.services import Stack, free_port, responds, running, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[str]:
    command = shutil.which("prometheus")
    if command is None:
        missing = "no prometheus on the PATH: install it (apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    client = connect(stack.redis_url)
    workers = [httpx.URL(beat.metrics_address).netloc.decode() for beat in Ledger(client).workers()]
    client.close()
    targets = [httpx.URL(stack.metrics_url).netloc.decode(), *workers]
    scrape = {"job_name": "pawqueue", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}
    rule = {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "page"}, "annotations": {"summary": "On."}}
    groups = {"groups": [{"name": "g", "interval": "1s", "rules": [rule]}]}
    (tmp_path / "rules.yml").write_text(json.dumps(groups))  # JSON is YAML
    (tmp_path / "prometheus.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "scrape_configs": [scrape]}))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with running("prometheus", [command, *options, f"--web.listen-address={address}"], tmp_path):
        wait_until(lambda: responds(f"http://{address}/-/ready"), "Prometheus to be ready")
        yield f"http://{address}"


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
