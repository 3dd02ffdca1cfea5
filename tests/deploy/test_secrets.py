"""Compose and Kubernetes give each service the URL of its own Redis user, and no other secret."""

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
        (used,) = compose["services"][service]["secrets"]
        assert used == {"source": f"redis_url_{service}", "target": "redis_url"}
        file = Path(compose["secrets"][used["source"]]["file"])
        assert file == Path("deploy/compose/secrets", f"redis_url_{service}")


def test_passwords_are_kept_when_the_rights_are_written_again(tmp_path: Path) -> None:
    def write() -> dict[str, str]:
        subprocess.run(["sh", "deploy/compose/make-secrets", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    first = write()
    (tmp_path / "redis.conf").unlink()
    assert write() == first
    assert len({text for name, text in first.items() if name.startswith("redis_url_")}) == 5
    assert tmp_path.stat().st_mode & 0o777 == 0o700
