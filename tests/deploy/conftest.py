"""What the tests of manifests need: rendered overlays, and tools that a laptop may lack."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

from tests.support.services import ROOT

Documents = list[dict[str, Any]]


def need(tool: str, package: str) -> str:
    """Path of a command; without it the test is skipped, in CI it fails."""
    path = shutil.which(tool)
    if path is None:
        missing = f"{tool} is not installed (Debian: {package})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@cache
def rendered(folder: str) -> str:
    """What `kubectl kustomize` makes of a folder of deploy/k8s."""
    command = [need("kubectl", "kubernetes-client"), "kustomize", str(ROOT / "deploy" / "k8s" / folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def documents() -> Callable[[str], Documents]:
    """Give the resources of a folder."""
    return lambda folder: [document for document in yaml.safe_load_all(rendered(folder)) if document]
