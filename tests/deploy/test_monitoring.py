"""Rules and alerts: tried by promtool, made of metrics that exist, each with a section in the runbook."""

import re
import subprocess
from typing import Any

import yaml
from prometheus_client import generate_latest

from deploy.prometheus_rule import as_resource
from gateway.metrics import GatewayMetrics
from tests.deploy.conftest import need
from tests.support.services import ROOT
from tests.support.twin.ledger_memory import MemoryLedger

_FOLDER = ROOT / "deploy" / "k8s" / "components" / "monitoring"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((_FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_alerts_fire_when_they_should_and_only_then() -> None:
    command = [need("promtool", "prometheus"), "test", "rules", str(ROOT / "tests" / "deploy" / "rules_test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_is_valid() -> None:
    file = ROOT / "deploy" / "compose" / "prometheus.yml"
    command = [need("promtool", "prometheus"), "check", "config", "--syntax-only", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_has_a_runbook() -> None:
    tried = (ROOT / "tests" / "deploy" / "rules_test.yml").read_text()
    headings = re.findall(r"^#+ (\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    for alert in alerts():
        assert f"alertname: {alert['alert']}\n" in tried, "one that fires"
        assert alert["alert"] in headings
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


def test_rules_speak_of_metrics_that_the_gateway_exports() -> None:
    metrics = GatewayMetrics(MemoryLedger(), 1)
    exported = generate_latest(metrics.registry).decode()
    names = set(re.findall(r"^# TYPE (pawqueue_\w+)", exported, re.MULTILINE))
    used = set(re.findall(r"pawqueue_\w+", (_FOLDER / "rules.yml").read_text()))
    assert used <= names, used - names


def test_the_resource_of_the_operator_is_made_of_the_rules() -> None:
    rules = yaml.safe_load((_FOLDER / "rules.yml").read_text())
    assert yaml.safe_load((_FOLDER / "prometheus-rule.yaml").read_text()) == as_resource(rules)
