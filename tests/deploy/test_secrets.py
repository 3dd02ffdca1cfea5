"""Compose and Kubernetes give each service the URL of its own Redis user, and no other secret."""

import configparser
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.test_manifests import Render, pod, workloads
from tests.support.services import ROOT


@pytest.fixture(scope="module")
def secret() -> dict[str, str]:
    """The Secret that `deploy/k8s/make-secret` prints."""
    done = subprocess.run(["sh", "deploy/k8s/make-secret"], cwd=ROOT, check=True, capture_output=True)
    found: dict[str, str] = yaml.safe_load(done.stdout)["stringData"]
    return found


def test_kubernetes_gives_each_service_the_urls_of_its_user(documents: Render, secret: dict[str, str]) -> None:
    mounted = {}
    for workload in workloads(documents("base")):
        (volume,) = (volume for volume in pod(workload)["volumes"] if volume["name"] == "secrets")
        mounted[workload["metadata"]["name"]] = {item["key"] for item in volume["secret"]["items"]}
    assert mounted == {
        "redis": {"redis.conf"},
        "redis-images": {"redis.conf"},
        "gateway": {"redis_url_gateway", "image_store_url_gateway"},
        "worker": {"redis_url_worker", "image_store_url_worker"},
        "notifier": {"redis_url_notifier"},
        "dashboard": {"redis_url_dashboard"},
    }
    for key in set().union(*mounted.values()) - {"redis.conf"}:
        kind, user = key.rsplit("_", 1)
        url = urlsplit(secret[key])
        assert (url.username, url.hostname) == (user, "redis" if kind == "redis_url" else "redis-images")
        assert f"user {user} on >{url.password} " in secret["redis.conf"]
    assert "PASSWORD_OF" not in secret["redis.conf"]


def test_compose_gives_each_service_the_url_of_its_user() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for service in ("gateway", "worker", "dashboard"):
        used, *others = compose["services"][service]["secrets"]
        assert others == (["mlflow_url"] if service == "dashboard" else [])
        assert used == {"source": f"redis_url_{service}", "target": "redis_url"}
        file = Path(compose["secrets"][used["source"]]["file"])
        assert file == Path("deploy/compose/secrets", f"redis_url_{service}")


def test_mlflow_requires_a_login_and_only_the_dashboard_can_reach_it(tmp_path: Path) -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    (network,) = services["mlflow"]["networks"]
    reaching = {name for name, service in services.items() if network in service.get("networks", [])}
    assert reaching == {"mlflow", "dashboard"}
    assert services["mlflow"]["secrets"] == ["mlflow_ini"]
    assert "--app-name basic-auth" in (ROOT / "Dockerfile.mlflow").read_text()
    assert "flask-wtf==" in (ROOT / "requirements" / "tracking.txt").read_text(), "MLflow needs it for the login"
    subprocess.run(["sh", "deploy/compose/make-secrets", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    users = configparser.ConfigParser()
    users.read(tmp_path / "mlflow.ini")
    url = urlsplit((tmp_path / "mlflow_url").read_text().strip())
    assert (url.username, url.password) == (users["mlflow"]["admin_username"], users["mlflow"]["admin_password"])
    assert len(url.password or "") == 64
    assert users["mlflow"]["default_permission"] == "NO_PERMISSIONS"


def test_passwords_are_kept_when_the_rights_are_written_again(tmp_path: Path) -> None:
    def write() -> dict[str, str]:
        subprocess.run(["sh", "deploy/compose/make-secrets", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = write()
    (tmp_path / "redis.conf").unlink()
    assert write() == first
    assert len({text for name, text in first.items() if name.startswith("redis_url_")}) == 6
    assert tmp_path.stat().st_mode & 0o777 == 0o700
