"""The Grafana boards: their files are up to date, every panel explains itself, and no query is empty under load."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import generate_latest

from contract.ledger.ledger import Ledger
from deploy.monitoring.boards import BOARDS, BOARDS_FOLDER, CONFIG_MAPS, Board, as_json, board_files
from gateway.metrics import GatewayMetrics, RefusalCollector
from tests.dashboard.conftest import PHOTOS, send
from tests.support.prometheus import running_prometheus
from tests.support.services import ROOT, Stack
from worker.upkeep.metrics import WorkerMetrics

_RULES = ROOT / "deploy" / "monitoring" / "rules.yml"
_ROUNDS = 40


def rule_groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(_RULES.read_text())["groups"]
    return found


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, panel in the format of Grafana)."""
    for board in BOARDS:
        for panel in as_json(board)["panels"]:
            yield f"{board.name}: {panel['title']}", panel


def promql(text: str) -> str:
    """A query with the choice of all models, as Grafana sends it."""
    return text.replace("$model", ".*")


def test_the_files_are_up_to_date() -> None:
    written = {*BOARDS_FOLDER.iterdir(), CONFIG_MAPS}
    assert written == set(board_files())
    for path, text in board_files().items():
        assert path.read_text() == text, "run `make docs`"


def test_the_config_maps_contain_the_boards() -> None:
    maps = list(yaml.safe_load_all(CONFIG_MAPS.read_text()))
    found = {name: json.loads(text) for one in maps for name, text in one["data"].items()}
    assert found == {f"pawqueue-{board.name}.json": as_json(board) for board in BOARDS}


def test_every_panel_has_a_title_a_unit_and_a_section_that_says_what_to_do() -> None:
    for name, panel in panels():
        assert panel["title"], name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        about, runbook = re.fullmatch(r"(.+\.)\n\nRunbook: (\S+)", panel["description"]).groups()  # type: ignore[union-attr]
        assert about, name
        file, _, section = runbook.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert section in anchors, f"{name}: {runbook}"
        assert all(target["legendFormat"] for target in panel["targets"]), name


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_do_not_overlap(board: Board) -> None:
    cells: list[tuple[int, int]] = []
    for panel in as_json(board)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells += [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in as_json(board)["panels"]}) == len(board.panels)


def test_queries_use_metrics_that_exist(ledger: Ledger) -> None:
    exported = generate_latest(GatewayMetrics(ledger, 1).registry) + generate_latest(WorkerMetrics(32).registry)
    names = set(re.findall(r"^# TYPE (pawqueue_\w+)", exported.decode(), re.MULTILINE))
    names |= {family.name + "_total" for family in RefusalCollector(_refusals()).collect()}
    names |= {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    names |= {rule["record"] for group in rule_groups() for rule in group["rules"] if "record" in rule}
    for name, panel in panels():
        for target in panel["targets"]:
            used = set(re.findall(r"pawqueue[_:][\w:]+", target["expr"]))
            assert used <= names, f"{name}: {used - names}"


def _refusals() -> Any:
    from contract.web.limits import Refusals

    return Refusals()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_query_is_empty_under_load(stack: Stack, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(PHOTOS[0].read_bytes()[:3000])  # accepted, because the header is complete
    queries = [(name, promql(target["expr"])) for name, panel in panels() for target in panel["targets"]]
    with (
        running_prometheus(stack, tmp_path, rule_groups()) as url,
        httpx.Client(base_url=url, timeout=60) as prometheus,
        httpx.Client(base_url=stack.url, timeout=60) as http,
    ):
        for _ in range(_ROUNDS):
            *jobs, _ = [*send(stack, PHOTOS), *send(stack, [bad], "bulk")]
            assert http.post(f"/v1/jobs/{jobs[0]['id']}/feedback", json={"label": "cat"}).status_code == 200
            empty = [name for name, query in queries if not values(prometheus, query)]
            if not empty:
                return
    pytest.fail(f"no values: {empty}")


def values(prometheus: httpx.Client, query: str) -> list[float]:
    """The finite values that a query has now."""
    response = prometheus.get("/api/v1/query", params={"query": query})
    assert response.status_code == 200, response.text
    found = [float(row["value"][1]) for row in response.json()["data"]["result"]]
    return [value for value in found if math.isfinite(value)]


def test_grafana_reaches_only_prometheus_and_requires_a_login() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    grafana = compose["services"]["grafana"]
    reaching = {
        name
        for name, service in compose["services"].items()
        if set(service.get("networks", ["inside"])) & set(grafana["networks"])
    }
    assert reaching == {"grafana", "prometheus"}
    assert compose["networks"]["boards"]["internal"]
    assert grafana["profiles"] == ["monitoring"]
    assert grafana["read_only"]
    assert grafana["cap_drop"] == ["ALL"]
    assert not grafana["user"].startswith("0")
    assert grafana["ports"][0].startswith("127.0.0.1:")
    assert re.search(r"grafana/grafana:\d+\.\d+\.\d+\}$", grafana["image"])
    environment = grafana["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_password"
    assert not [name for name in environment if "PASSWORD" in name and not name.endswith("__FILE")]


def test_grafana_loads_the_boards_and_their_source() -> None:
    folder = ROOT / "deploy" / "monitoring" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "pawqueue.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    assert mounts[f"./{BOARDS_FOLDER.relative_to(ROOT)}"] == provider["options"]["path"]
    assert mounts[f"./{folder.relative_to(ROOT)}"] == "/etc/grafana/provisioning"
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/operator.json"
