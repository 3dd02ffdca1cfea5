"""Every command against a gateway that requires API keys: with a valid key, a wrong key, and one without the scope."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.images import draw
from tests.support.services import ROOT, Gateway, Stack

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def keyed(stack: Stack) -> Iterator[Gateway]:
    with stack.another_gateway(access="required") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(keyed: Gateway) -> str:
    return keyed.make_key()


@pytest.fixture
def run(keyed: Gateway) -> Run:
    def run(key: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        environ = {**os.environ, "PAWQUEUE_API_KEY": key, "PAWQUEUE_URL": keyed.url}
        command = [sys.executable, "-m", "pawqueue", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=100)

    return run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "one.png").write_bytes(draw((200, 150)))
    return folder / "one.png"


def test_every_command_works_with_a_valid_key(run: Run, key: str, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    submitted = run(key, "submit", image.parent, "--out", out, "--json")
    assert submitted.returncode == 0, submitted.stderr
    submission_id = json.loads(submitted.stdout)["submission"]
    predicted = run(key, "predict", image, "--json")
    job_id = json.loads(predicted.stdout)[0]["id"]
    for arguments, code in (
        (("watch", submission_id), 0),
        (("watch", "--once"), 0),
        (("status", submission_id), 0),
        (("status", job_id), 0),
        (("fetch", submission_id), 0),
        (("cancel", job_id), 1),  # the job has already finished
        (("doctor",), 0),
    ):
        done = run(key, *arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)


def test_the_dead_letter_list_requires_the_admin_scope(run: Run, key: str, keyed: Gateway) -> None:
    refused = run(key, "dead", "list")
    assert refused.returncode == 2
    assert "admin" in refused.stderr
    assert run(keyed.make_key("--scope", "admin"), "dead", "list").returncode == 0


@pytest.mark.parametrize("wrong", ["", "pq_0123456789ab_nonsense"])
def test_without_a_valid_key_a_command_fails_with_a_clear_message(
    run: Run, wrong: str, image: Path, tmp_path: Path
) -> None:
    unknown = "019abc12-3456-7890-abcd-ef0123456789"
    for arguments in (
        ("submit", image.parent, "--out", tmp_path / "results.csv"),
        ("predict", image),
        ("status", unknown),
        ("watch", unknown),
        ("fetch", unknown),
        ("cancel", unknown),
        ("dead", "list"),
    ):
        done = run(wrong, *arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert "API key" in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
