"""Limits of the containers in docker-compose.yml, and the pins of foreign images."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import pin_images
from tests.deploy.test_manifests import Render
from tests.support.services import ROOT

_UNITS = {"m": 2**20, "g": 2**30}
_DIGEST = "sha256:" + "0a" * 32


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def _bytes(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]


def test_every_container_has_limits_of_memory_processes_and_cpu(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert _bytes(service["mem_limit"]) <= 4 * 2**30, name
        assert 0 < service["pids_limit"] <= 1024, name
        assert service["cpus"] == 1 or name == "worker"
    assert services["worker"]["cpu_shares"] < services["gateway"]["cpu_shares"] < services["redis"]["cpu_shares"]
    assert (services["gateway"]["mem_limit"], services["worker"]["mem_limit"]) == ("512m", "3g")


def test_every_tmpfs_has_a_size_that_fits_into_the_memory_limit(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for mount in service["tmpfs"]:
            size = re.search(r":size=(\d+[mg])", mount)
            assert size, f"{name}: {mount}"
            assert 4 * _bytes(size[1]) <= _bytes(service["mem_limit"]), name


def test_redis_cannot_outgrow_its_container(services: dict[str, dict[str, Any]]) -> None:
    command = services["redis"]["command"]
    assert "--maxmemory-policy noeviction" in command
    limit = re.search(r"--maxmemory (\d+)", command)
    assert limit
    assert 0 < int(limit[1]) <= 0.65 * _bytes(services["redis"]["mem_limit"])


@pytest.mark.parametrize("overlay", ["overlays/local", "overlays/production"])
def test_names_are_looked_up_only_at_the_dns_server_of_the_cluster(overlay: str, documents: Render) -> None:
    policies = [d["spec"] for d in documents(overlay) if d["kind"] == "NetworkPolicy"]
    rules = [rule for policy in policies for rule in policy.get("egress", [])]
    assert all(rule.get("to") for rule in rules), "a rule without a target allows all addresses"
    (names,) = [rule for rule in rules if {"protocol": "UDP", "port": 53} in rule["ports"]]
    (target,) = names["to"]
    assert target["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert target["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}


def test_pins_are_written_into_every_file_and_replaced(tmp_path: Path) -> None:
    for path in pin_images.files():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for digest in ("sha256:" + "1b" * 32, _DIGEST):
        assert pin_images.main(lambda _image, digest=digest: digest, tmp_path) == 0
    text = "".join(path.read_text() for path in pin_images.files(tmp_path))
    assert {"docker.io/library/python:3.11-slim", "docker.io/library/redis:7"} <= set(pin_images.images_in(text))
    foreign = [line for line in text.splitlines() if re.search(r"docker\.io/(?!pawqueue)", line)]
    assert [line for line in foreign if f"@{_DIGEST}" not in line] == []


def test_no_file_is_changed_if_a_digest_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Dockerfile.a").write_text("FROM docker.io/library/python:3.11-slim\n")

    def fail(_image: str) -> str:
        raise FileNotFoundError("docker")

    assert pin_images.main(fail, tmp_path) == 1
    assert "retry" in capsys.readouterr().err
    assert (tmp_path / "Dockerfile.a").read_text() == "FROM docker.io/library/python:3.11-slim\n"


def test_the_scanner_is_pinned_and_has_no_access_to_the_docker_socket() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^SCANNER \?= \S+@sha256:[0-9a-f]{64}$", makefile, re.MULTILINE)
    assert "docker.sock" not in makefile


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/compose/two-models.yml"])
def test_the_compose_files_match_the_compose_specification(name: str) -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    command = [tool, "--builtin-schema", "vendor.compose-spec", ROOT / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
