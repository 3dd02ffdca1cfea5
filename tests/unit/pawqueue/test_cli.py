"""The command as a whole: wrong usage, help, commands that services add, colours."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest

from pawqueue import cli
from tests.unit.pawqueue.conftest import Pawqueue
from tests.unit.pawqueue.fake_submissions import FakeSubmissions
from tests.unit.pawqueue.fakes import JOB_ID, FakeGateway, answer, job, write_images

Capture = pytest.CaptureFixture[str]
Serving = Callable[[httpx.BaseTransport], None]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["submit", "nowhere", "--out", "r.csv"], "'nowhere' does not exist"),
        (["submit", "."], "Missing option '--out'"),
        (["submit", "a.jpg", "--out", "r.csv", "--concurrency", "0"], "--concurrency"),
        (["submit", "a.jpg", "--out", "r.csv", "--url", "localhost"], "'localhost' is no address"),
        (["submit", "a.jpg", "--out", "no/such/r.csv"], "no/such/r.csv: No such file or directory."),
        (["submit", "*.png", "--out", "r.csv"], "'*.png' does not exist"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    pawqueue: Pawqueue,
) -> None:
    serving(FakeSubmissions())
    monkeypatch.chdir(write_images(tmp_path, "a.jpg"))
    assert pawqueue(*arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["submit", "predict", "watch", "status", "fetch", "cancel"])
def test_help_of_every_command_has_examples(command: str, capsys: Capture, pawqueue: Pawqueue) -> None:
    assert pawqueue(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"\n    pawqueue {command} " in text.replace("Examples:\n  ", "Examples:\n")
    assert "PAWQUEUE_URL" in text


@pytest.fixture
def added_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A command that another service adds; returns the name of its module."""
    (tmp_path / "added_command.py").write_text(
        "import click\n@click.command()\n@click.argument('word')\ndef models(word):\n    click.echo('got ' + word)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "added_command", raising=False)
    entries = [EntryPoint("models", "added_command:models", cli.GROUP), EntryPoint("broken", "no_such:x", cli.GROUP)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries if group == cli.GROUP else [])
    return "added_command"


def test_an_added_command_is_listed_without_being_imported(
    added_command: str, capsys: Capture, pawqueue: Pawqueue
) -> None:
    assert pawqueue("--help") == 0
    text = capsys.readouterr().out
    assert "models  " in text
    assert "broken  " in text
    assert "submit  " in text
    assert added_command not in sys.modules


def test_an_added_command_is_imported_when_called(added_command: str, capsys: Capture, pawqueue: Pawqueue) -> None:
    assert pawqueue("models", "it") == 0
    assert capsys.readouterr().out == "got it\n"
    assert added_command in sys.modules


def test_a_command_whose_packages_are_missing_says_so(added_command: str, capsys: Capture, pawqueue: Pawqueue) -> None:
    assert pawqueue("broken") == 2
    error = capsys.readouterr().err
    assert "needs a package that is not installed here (No module named 'no_such')" in error


def test_colour_is_left_out_where_it_is_not_wanted(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, capsys: Capture, pawqueue: Pawqueue
) -> None:
    serving(FakeGateway(answer(200, job("succeeded", label="cat"))))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pawqueue("status", JOB_ID)
    assert "\x1b[33m" in capsys.readouterr().out  # 75 % is shown as unsure, and as a number
    monkeypatch.setenv("NO_COLOR", "1")
    pawqueue("status", JOB_ID)
    text = capsys.readouterr().out
    assert "\x1b[3" not in text
    assert "75.0 %" in text
