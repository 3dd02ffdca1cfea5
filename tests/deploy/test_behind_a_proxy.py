"""Compose and Kubernetes pass the settings for a proxy to the services that need them."""

import ipaddress

import pytest
import yaml

from contract.settings import load_settings
from tests.deploy.test_manifests import Render, pod, workloads
from tests.support.services import ROOT


@pytest.mark.parametrize("service", ["gateway", "dashboard"])
def test_compose_forwards_the_settings(service: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    environ = compose["services"][service]["environment"]
    for name in (f"PAWQUEUE_{service.upper()}_PREFIX", "PAWQUEUE_TRUSTED_PROXIES"):
        assert environ[name] == f"${{{name}:-}}"
    own = {"gateway": "gateway,"}.get(service, "")
    assert environ["PAWQUEUE_ALLOWED_HOSTS"] == f"{own}${{PAWQUEUE_ALLOWED_HOSTS:-}}"


def test_the_production_overlay_trusts_an_ingress_controller_in_the_cluster(documents: Render) -> None:
    everything = documents("overlays/production")
    config = next(d for d in everything if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "pawqueue")
    settings = load_settings(config["data"])
    networks = settings.trusted_networks()
    assert settings.gateway_address() == f"http://{settings.allowed_hosts}:8000"  # the dashboard's requests
    assert any(ipaddress.ip_address("10.244.1.7") in network for network in networks)
    assert not any(ipaddress.ip_address("198.51.100.7") in network for network in networks)
    for workload in workloads(everything):
        if workload["metadata"]["name"] in ("gateway", "dashboard"):
            (container,) = pod(workload)["containers"]
            assert container["envFrom"] == [{"configMapRef": {"name": "pawqueue"}}]
