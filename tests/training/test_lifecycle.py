"""The walk of docs/lifecycle.md, command by command: a model that is bad at one class improves through review."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
import yaml

from contract.ledger import keys
from tests.support.services import ROOT, Stack, running_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

#: What `make` does in the walk, without setting up an environment. `make up` is the stack of the fixture.
_MAKE = 'make() { if [ "$1" = train ]; then python -m training.run --no-tracking ${2#DATA=}; fi; }\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the walk uses, with smaller images."""
    folder = tmp_path_factory.mktemp("walk")
    for name in ("training", "bundle", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "photos"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["input"] = {"height": 96, "width": 96}
    params["evaluate"]["bootstrap_rounds"] = 100
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n", encoding="utf-8")
    commands = folder / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, arguments in (("python", ""), ("pawqueue", "-m pawqueue ")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (commands / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def stack(project: Path) -> Iterator[Stack]:
    with running_stack(project, review_below=0.99, measure_s=0) as stack:
        yield stack


def blocks() -> list[str]:
    """The commands of the walk, one text for each block."""
    section = (ROOT / "docs" / "lifecycle.md").read_text().split("## Walk through it all\n")[1].split("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def run(project: Path, stack: Stack, commands: str) -> str:
    environ = {
        **os.environ,
        **stack.environ,
        "PAWQUEUE_URL": stack.url,
        "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    done = subprocess.run(
        ["bash", "-euc", _MAKE + commands], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def served(stack: Stack) -> list[str]:
    """The versions of the model of the walk that the service has."""
    return list(httpx.get(f"{stack.url}/v1/models/shapes").json().get("versions", []))


def right_fish(project: Path, stack: Stack, version: str) -> int:
    """How many of 30 new fish a version recognizes."""
    out = f"{version}.csv"
    run(project, stack, f".venv/bin/pawqueue submit state/check/fish --model shapes@{version} --out {out} --quiet")
    with (project / out).open(newline="") as file:
        return sum(row["label"] == "fish" for row in csv.DictReader(file))


def test_a_model_that_is_bad_at_one_class_improves_through_review(project: Path, stack: Stack) -> None:
    versions: list[str] = []
    for block in blocks():
        lines = block.splitlines()
        for line in lines:
            run(project, stack, line.replace("VERSION", versions[-1] if versions else "VERSION"))
            if "models import" in line:
                versions.append(json.loads((project / "build" / "bundle" / "manifest.json").read_text())["version"])
                wait_until(lambda: versions[-1] in served(stack), "the workers to find the version")
    before, after = versions
    run(project, stack, ".venv/bin/python examples/draw_classes.py state/check --count 30 --start 200")
    assert right_fish(project, stack, after) > right_fish(project, stack, before) + 5
    changes = redis.Redis.from_url(stack.redis_url, decode_responses=True).xrange(keys.MODEL_CHANGES)
    reasons = {fields.get("why") for _, fields in changes}
    assert {"trained with reviewed images", "agrees with the shadow's report", "better on fish"} <= reasons
