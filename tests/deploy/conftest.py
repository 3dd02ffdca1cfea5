"""Rendered Kubernetes manifests, and tools that may not be installed."""

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
    """The path of a command. If it is not installed, the test is skipped, or fails in CI."""
    path = shutil.which(tool)
    if path is None:
        missing = f"{tool} is not installed (Debian: {package})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@cache
def rendered(folder: str) -> str:
    """The output of `kubectl kustomize` for a folder of deploy/k8s."""
    command = [need("kubectl", "kubernetes-client"), "kustomize", str(ROOT / "deploy" / "k8s" / folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def documents() -> Callable[[str], Documents]:
    """A function that returns the resources of a folder."""
    return lambda folder: [document for document in yaml.safe_load_all(rendered(folder)) if document]
