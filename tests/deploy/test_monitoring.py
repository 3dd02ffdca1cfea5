"""The rules and alerts pass their tests, use existing metrics, and have a section in the runbook."""

import re
import subprocess
from typing import Any

import yaml
from prometheus_client import generate_latest

from contract.ledger.ledger import Ledger
from deploy.monitoring.prometheus_rule import as_resource
from gateway.metrics import GatewayMetrics
from tests.deploy.conftest import need
from tests.support.services import ROOT

_FOLDER = ROOT / "deploy" / "monitoring"
_RESOURCE = ROOT / "deploy" / "k8s" / "components" / "monitoring" / "prometheus-rule.yaml"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((_FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_rules_pass_their_tests() -> None:
    command = [need("promtool", "prometheus"), "test", "rules", str(ROOT / "tests" / "deploy" / "rules_test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_is_valid() -> None:
    file = _FOLDER / "prometheus.yml"
    command = [need("promtool", "prometheus"), "check", "config", "--syntax-only", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_has_a_runbook() -> None:
    rules_test = (ROOT / "tests" / "deploy" / "rules_test.yml").read_text()
    headings = re.findall(r"^#+ (\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    for alert in alerts():
        assert f"alertname: {alert['alert']}\n" in rules_test, "no test in which the alert fires"
        assert alert["alert"] in headings
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


def test_rules_use_metrics_that_the_gateway_exports(ledger: Ledger) -> None:
    metrics = GatewayMetrics(ledger, 1)
    exported = generate_latest(metrics.registry).decode()
    names = set(re.findall(r"^# TYPE (pawqueue_\w+)", exported, re.MULTILINE))
    used = set(re.findall(r"pawqueue_\w+", (_FOLDER / "rules.yml").read_text()))
    assert used <= names, used - names


def test_the_prometheus_rule_resource_is_generated_from_the_rules() -> None:
    rules = yaml.safe_load((_FOLDER / "rules.yml").read_text())
    assert yaml.safe_load(_RESOURCE.read_text()) == as_resource(rules), "run `make docs`"
