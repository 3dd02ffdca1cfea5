"""The command as a whole: usage errors, help, service commands, colors."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pawqueue.cli import app
from tests.support.images import draw
from tests.support.services import ROOT, free_port
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service, write_images

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["submit", "nowhere", "--out", "r.csv"], "No file or folder matches 'nowhere'"),
        (["submit", "."], "Missing option '--out'"),
        (["submit", "a.jpg", "--out", "r.csv", "--concurrency", "0"], "--concurrency"),
        (["submit", "a.jpg", "--out", "r.csv", "--url", "localhost"], "Invalid gateway address 'localhost'"),
        (["submit", "a.jpg", "--out", "no/such/r.csv"], "no/such/r.csv: No such file or directory."),
        (["submit", "*.png", "--out", "r.csv"], "No file or folder matches '*.png'"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_a_usage_error_prints_a_message_and_exits_with_2(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    pawqueue: Command,
) -> None:
    monkeypatch.chdir(write_images(tmp_path, "a.jpg"))
    assert pawqueue(*arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["submit", "predict", "watch", "status", "fetch", "cancel", "purge"])
def test_the_help_of_every_command_has_examples(command: str, capsys: Capture, pawqueue: Command) -> None:
    assert pawqueue(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"\n    pawqueue {command} " in text.replace("Examples:\n  ", "Examples:\n")
    assert "PAWQUEUE_URL" in text


def test_the_command_also_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pawqueue", "status", "x", "--url", f"http://127.0.0.1:{free_port()}x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Invalid gateway address")


@pytest.fixture
def added_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A command that a service adds; returns the name of its module."""
    (tmp_path / "added_command.py").write_text(
        "import click\n@click.command()\n@click.argument('word')\ndef words(word):\n    click.echo('got ' + word)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "added_command", raising=False)
    entries = [EntryPoint("words", "added_command:words", app.GROUP), EntryPoint("broken", "no_such:x", app.GROUP)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries if group == app.GROUP else [])
    return "added_command"


def test_a_service_command_is_listed_without_being_imported(
    added_command: str, capsys: Capture, pawqueue: Command
) -> None:
    assert pawqueue("--help") == 0
    text = capsys.readouterr().out
    assert "words  " in text
    assert "broken  " in text
    assert "submit  " in text
    assert added_command not in sys.modules


def test_a_service_command_is_imported_when_it_is_called(
    added_command: str, capsys: Capture, pawqueue: Command
) -> None:
    assert pawqueue("words", "it") == 0
    assert capsys.readouterr().out == "got it\n"
    assert added_command in sys.modules


def test_a_service_command_names_the_package_that_is_missing(
    added_command: str, capsys: Capture, pawqueue: Command
) -> None:
    assert pawqueue("broken") == 2
    error = capsys.readouterr().err
    assert "needs a package that is not installed (No module named 'no_such')" in error


def test_no_color_turns_colors_off(
    service: Service, url: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture, pawqueue: Command
) -> None:
    job_id = service.client().predict(draw()).id
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pawqueue("status", job_id)
    assert "\x1b[33m" in capsys.readouterr().out  # 75 % is yellow
    monkeypatch.setenv("NO_COLOR", "1")
    pawqueue("status", job_id)
    text = capsys.readouterr().out
    assert "\x1b[3" not in text
    assert "75.0 %" in text
