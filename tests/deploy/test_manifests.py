"""The Kubernetes manifests are valid and have probes, limits, restricted privileges and disruption budgets."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import pytest
import yaml
from prometheus_client import generate_latest

from contract.ledger.ledger import Ledger
from contract.settings import load_settings
from contract.status import server_bytes
from gateway.metrics import GatewayMetrics
from tests.deploy.conftest import Documents, rendered
from tests.support.services import ROOT

OVERLAYS = ("base", "overlays/local", "overlays/production")
#: The newest version that kubernetes-validate supports, and the two before it.
VERSIONS = ("1.37", "1.36", "1.35")
#: Custom resources of operators, for which Kubernetes has no schema.
_FOREIGN = ("monitoring.coreos.com", "keda.sh")
#: Of the gateway, the workers and the notifier.
_METRICS_PORTS = {9099, 9100, 9101}
_schema = cache(kubernetes_validate.utils.schema_contents)

Render = Callable[[str], Documents]


def workloads(documents: Documents) -> Iterator[dict[str, Any]]:
    return (document for document in documents if document["kind"] in ("Deployment", "StatefulSet"))


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    return workload["spec"]["template"]["spec"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("overlay", [*OVERLAYS, "overlays/two-models"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_overlay_is_valid(overlay: str, version: str, documents: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    # kubernetes-validate reads megabytes of schemas for each resource; with a cache the test takes a tenth of the time.
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", _schema)
    own = [document for document in documents(overlay) if not document["apiVersion"].startswith(_FOREIGN)]
    assert own
    for document in own:
        assert kubernetes_validate.utils.validate(document, version, strict=True) == version


@pytest.mark.parametrize("overlay", OVERLAYS)
class TestEveryOverlay:
    def test_every_container_has_probes(self, overlay: str, documents: Render) -> None:
        for workload in workloads(documents(overlay)):
            for container in pod(workload)["containers"]:
                assert {"livenessProbe", "readinessProbe"} <= set(container), workload["metadata"]["name"]

    def test_every_container_has_requests_and_limits(self, overlay: str, documents: Render) -> None:
        for workload in workloads(documents(overlay)):
            for container in pod(workload)["containers"]:
                assert {"cpu", "memory"} <= set(container["resources"]["requests"])
                assert {"cpu", "memory"} <= set(container["resources"]["limits"])

    def test_no_container_runs_as_root_or_has_privileges(self, overlay: str, documents: Render) -> None:
        for workload in workloads(documents(overlay)):
            spec = pod(workload)
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["runAsUser"] > 0
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert spec["automountServiceAccountToken"] is False
            for container in spec["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }

    def test_the_grace_period_is_longer_than_the_drain(self, overlay: str, documents: Render) -> None:
        config = next(d for d in documents(overlay) if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "pawqueue")
        drain_s = float(config["data"]["PAWQUEUE_DRAIN_S"])
        for workload in workloads(documents(overlay)):
            if workload["metadata"]["name"] in ("gateway", "worker"):
                hook = pod(workload)["containers"][0].get("lifecycle", {}).get("preStop", {})
                pause_s = float(hook["exec"]["command"][1]) if hook else 0
                assert pod(workload)["terminationGracePeriodSeconds"] >= drain_s + pause_s + 10

    def test_images_have_a_tag_other_than_latest(self, overlay: str, documents: Render) -> None:
        if overlay == "base":
            return  # the overlays set the tags
        for workload in workloads(documents(overlay)):
            for container in pod(workload)["containers"]:
                assert re.search(r":[\w.-]+$", container["image"]), container["image"]
                assert not container["image"].endswith(":latest")

    def test_each_service_selects_one_workload_and_its_port(self, overlay: str, documents: Render) -> None:
        everything = documents(overlay)
        by_labels = {
            tuple(sorted(workload["spec"]["template"]["metadata"]["labels"].items())): workload
            for workload in workloads(everything)
        }
        for service in (document for document in everything if document["kind"] == "Service"):
            wanted = set(service["spec"]["selector"].items())
            found = [workload for labels, workload in by_labels.items() if wanted <= set(labels)]
            assert len(found) == 1, service["metadata"]["name"]
            ports = pod(found[0])["containers"][0]["ports"]
            names = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
            assert all(p.get("targetPort", p["port"]) in names for p in service["spec"]["ports"])

    def test_the_config_map_contains_only_known_settings_with_valid_values(
        self, overlay: str, documents: Render
    ) -> None:
        config = next(d for d in documents(overlay) if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "pawqueue")
        load_settings(config["data"])
        for name in config["data"]:
            assert name.removeprefix("PAWQUEUE_").lower() in type(load_settings({})).model_fields

    def test_the_images_of_two_full_queues_and_of_reviews_fit_into_redis(self, overlay: str, documents: Render) -> None:
        everything = documents(overlay)
        config = next(d for d in everything if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "pawqueue")
        store = next(w for w in workloads(everything) if w["metadata"]["name"] == "redis-images")
        args = pod(store)["containers"][0]["args"]
        limit_gb = int(args[args.index("--maxmemory") + 1].removesuffix("gb"))
        settings = load_settings(config["data"])
        assert 2 * settings.queue_max_bytes + settings.review_max_bytes < limit_gb * 2**30

    def test_a_full_ledger_leaves_memory_for_finishing_jobs_and_fits_into_its_container(
        self, overlay: str, documents: Render
    ) -> None:
        everything = documents(overlay)
        config = next(d for d in everything if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "pawqueue")
        ledger = pod(next(w for w in workloads(everything) if w["metadata"]["name"] == "redis"))["containers"][0]
        max_bytes = int(ledger["args"][ledger["args"].index("--maxmemory") + 1])
        container_bytes = int(ledger["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30
        assert server_bytes(load_settings(config["data"]).ledger_max_bytes) <= max_bytes <= 0.65 * container_bytes

    def test_a_full_spool_fits_into_the_state_folder_of_its_gateway(self, overlay: str, documents: Render) -> None:
        everything = documents(overlay)
        config = next(d for d in everything if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "pawqueue")
        gateway = pod(next(w for w in workloads(everything) if w["metadata"]["name"] == "gateway"))
        state = next(volume for volume in gateway["volumes"] if volume["name"] == "state")
        limit_bytes = int(state["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
        assert load_settings(config["data"]).spool_max_bytes < limit_bytes

    def test_autoscalers_and_budgets_have_a_target(self, overlay: str, documents: Render) -> None:
        everything = documents(overlay)
        names = {workload["metadata"]["name"] for workload in workloads(everything)}
        scalers = [document for document in everything if document["kind"] == "HorizontalPodAutoscaler"]
        assert {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers} == {"gateway", "notifier", "worker"}
        scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers}
        for workload in workloads(everything):
            assert workload["metadata"]["name"] not in scaled or "replicas" not in workload["spec"], (
                "the next `kubectl apply` would undo the autoscaler's choice"
            )
        budgets = [document for document in everything if document["kind"] == "PodDisruptionBudget"]
        assert {budget["metadata"]["name"] for budget in budgets} <= names

    def test_traffic_is_denied_by_default(self, overlay: str, documents: Render) -> None:
        policies = {d["metadata"]["name"]: d["spec"] for d in documents(overlay) if d["kind"] == "NetworkPolicy"}
        assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_metrics_are_reachable_only_from_the_dashboard_and_prometheus(
        self, overlay: str, documents: Render
    ) -> None:
        everything = documents(overlay)
        rules = [
            rule
            for document in everything
            if document["kind"] == "NetworkPolicy"
            for rule in document["spec"].get("ingress", ())
            if {port["port"] for port in rule["ports"]} & _METRICS_PORTS
        ]
        assert {port["port"] for rule in rules for port in rule["ports"]} == _METRICS_PORTS
        for rule in rules:
            assert rule["from"] == [
                {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "dashboard"}}},
                {"namespaceSelector": {"matchLabels": {"pawqueue/scrapes": "true"}}},
            ]
        for document in everything:
            if document["kind"] == "Ingress":
                paths = [path for rule in document["spec"]["rules"] for path in rule["http"]["paths"]]
                assert {path["backend"]["service"]["port"]["name"] for path in paths} == {"http"}
            if document["kind"] == "Service" and document["spec"].get("type") == "LoadBalancer":
                assert [port["targetPort"] for port in document["spec"]["ports"]] == ["http"]


def test_compose_publishes_no_metrics_and_prometheus_scrapes_them() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    published = {port.rsplit(":", 1)[1] for service in services.values() for port in service.get("ports", ())}
    assert not published & {str(port) for port in _METRICS_PORTS}
    scrapes = yaml.safe_load((ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert {scrape["dns_sd_configs"][0]["port"] for scrape in scrapes} == _METRICS_PORTS


def test_compose_limits_the_memory_of_redis() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    words = services["redis"]["command"].split()
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    assert int(words[words.index("--maxmemory") + 1]) == server_bytes(load_settings({}).ledger_max_bytes)


@pytest.mark.parametrize("name", ["worker", "notifier"])
def test_the_metric_of_an_autoscaler_is_exported_by_the_gateway(documents: Render, ledger: Ledger, name: str) -> None:
    scaler = next(
        d for d in documents("base") if d["kind"] == "HorizontalPodAutoscaler" and d["metadata"]["name"] == name
    )
    wanted = scaler["spec"]["metrics"][0]["external"]["metric"]["name"]
    folder = ROOT / "deploy" / "k8s" / "components"
    adapter = yaml.safe_load((folder / "monitoring" / "prometheus-adapter.yaml").read_text())
    rule = next(rule for rule in adapter["rules"]["external"] if rule["name"]["as"] == wanted)
    exported = generate_latest(GatewayMetrics(ledger, 1).registry).decode()
    for metric in set(re.findall(r"pawqueue_\w+", rule["metricsQuery"] + rule["seriesQuery"])):
        assert re.search(rf"^{metric}({{.*}})? 0\.0$", exported, re.MULTILINE), "it must be exported as 0 when idle"
    if name != "worker":
        return
    keda = yaml.safe_load((folder / "keda" / "scaled-object.yaml").read_text())
    assert keda["spec"]["triggers"][0]["metadata"]["query"] == rule["metricsQuery"].replace("{<<.LabelMatchers>>}", "")


def test_each_component_can_be_added_to_the_base(tmp_path: Path) -> None:
    base = rendered("base")
    assert "nvidia.com/gpu" not in base
    marks = {
        "gpu": "nvidia.com/gpu",
        "keda": "ScaledObject",
        "monitoring": "PrometheusRule",
        "tracing": "OTEL_EXPORTER",
    }
    for component, mark in marks.items():
        folder = ROOT / "deploy" / "k8s" / "overlays" / f".try-{component}-{tmp_path.name}"
        folder.mkdir()
        try:
            text = f"resources: [../../base]\ncomponents: [../../components/{component}]\n"
            (folder / "kustomization.yaml").write_text(text)
            assert mark in rendered(f"overlays/{folder.name}")
        finally:
            (folder / "kustomization.yaml").unlink(missing_ok=True)
            folder.rmdir()


def test_two_models_have_workers_and_autoscalers_of_their_own(documents: Render) -> None:
    everything = documents("overlays/two-models")
    for name, model in (("worker", "cats-dogs"), ("worker-birds", "birds")):
        kinds = {d["kind"]: d for d in everything if d["metadata"]["name"] == name}
        assert kinds.keys() == {"Service", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
        selected = kinds["Deployment"]["spec"]["selector"]["matchLabels"]
        spec = pod(kinds["Deployment"])
        assert {"name": "PAWQUEUE_SERVE", "value": model} in spec["containers"][0]["env"]
        assert "/state/models" in {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        scaler = kinds["HorizontalPodAutoscaler"]["spec"]
        assert scaler["scaleTargetRef"]["name"] == name
        assert scaler["metrics"][0]["external"]["metric"]["selector"] == {"matchLabels": {"model": model}}
        for other in (d for d in workloads(everything) if d["metadata"]["name"] != name):
            assert not selected.items() <= other["spec"]["template"]["metadata"]["labels"].items()
