"""The GitHub workflows run make targets, with pinned actions and minimal permissions."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.services import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
MAKE = re.compile(r"make ([a-z][a-z-]*)( [A-Z]+=\S+)*")

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def read(workflow: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(workflow.read_text())
    return content


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_workflows_exist() -> None:
    assert WORKFLOWS


@each_workflow
def test_actions_are_pinned_to_a_commit_with_their_version(workflow: Path) -> None:
    for line in workflow.read_text().splitlines():
        assert "uses:" not in line or PINNED.search(line), line


@each_workflow
def test_every_command_is_a_make_target(workflow: Path) -> None:
    for name, job in read(workflow)["jobs"].items():
        for step in job["steps"]:
            for command in step.get("run", "").splitlines():
                match = MAKE.fullmatch(command.strip())
                assert match, f"{name}: {command}"
                assert match[1] in targets(), f"{name}: {command}"


@each_workflow
def test_each_job_has_its_own_permissions_and_a_timeout(workflow: Path) -> None:
    content = read(workflow)
    assert content["permissions"] == {}
    for name, job in content["jobs"].items():
        assert job["permissions"], name
        assert job["timeout-minutes"] <= 60, name


@each_workflow
def test_checkouts_do_not_persist_credentials(workflow: Path) -> None:
    for job in read(workflow)["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@each_workflow
def test_a_job_that_scans_images_has_no_secrets_and_does_not_push(workflow: Path) -> None:
    for name, job in read(workflow)["jobs"].items():
        commands = {step.get("run") for step in job["steps"]}
        if "make scan" in commands:
            assert "secrets." not in str(job), name
            assert "make push" not in commands, name
        assert "make push" not in commands or "images" in job["needs"], name


def test_ci_runs_for_main_develop_and_pull_requests() -> None:
    # YAML 1.1 parses the key `on` as true.
    triggers = read(ROOT / ".github" / "workflows" / "ci.yml")[True]
    assert triggers["push"]["branches"] == ["main", "develop"]
    assert triggers["pull_request"]["branches"] == ["main", "develop"]


def run_tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_workflows_match_their_schema() -> None:
    done = run_tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_pass_the_security_linter() -> None:
    done = run_tool("zizmor", "--offline", "--no-progress", ".github/workflows")
    assert done.returncode == 0, done.stdout + done.stderr
