"""The command as people and scripts meet it: what it prints, what it leaves, its exit codes."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest

from pawqueue import cli
from pawqueue.results import read_rows
from tests.unit.pawqueue.conftest import FakeTime
from tests.unit.pawqueue.fakes import JOB_ID, FakeGateway, answer, by_name, job, problem, write_pictures

Serve = Callable[..., FakeGateway]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Put a gateway made of a script in the place of the network."""

    def start(*script: object) -> FakeGateway:
        gateway = FakeGateway(*script)  # type: ignore[arg-type]
        monkeypatch.setattr("pawqueue.wire._transports", lambda _url: lambda: gateway)
        return gateway

    return start


def pawqueue(*arguments: object) -> int:
    return cli.run(lambda: cli.cli.main([str(argument) for argument in arguments], "pawqueue", standalone_mode=False))


def test_a_folder_becomes_a_file_a_table_and_a_summary(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_pictures(tmp_path / "in", "a.jpg", "sub/b.jpg", "sub/c.jpg"), tmp_path / "r.csv"
    serve(by_name(dict.fromkeys(("sub/b.jpg", "sub/c.jpg"), job("succeeded", label="dog"))))
    assert pawqueue("submit", folder, "--out", out) == 0
    assert {row.file: row.label for row in read_rows(out)} == {"a.jpg": "cat", "sub/b.jpg": "dog", "sub/c.jpg": "dog"}
    text = capsys.readouterr().out
    assert "sub/b.jpg" in text
    assert "########..  75.0 %" in text
    assert "3 files: 3 succeeded" in text
    assert "Labels: 2 dog, 1 cat." in text
    assert "without a prediction" not in text


def test_some_failures_are_a_table_and_exit_code_1(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(tmp_path, "a.jpg", "[red]b.jpg")
    serve(by_name({"[red]b.jpg": job("failed", code="undecodable_image")}))
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv") == 1
    text = capsys.readouterr().out
    assert "1 without a prediction: 1 undecodable_image" in text
    assert "undecodable_image: It is undecodable_image." in text
    assert text.count("[red]b.jpg") == 2


def test_no_prediction_at_all_is_exit_code_2(tmp_path: Path, serve: Serve) -> None:
    folder = write_pictures(tmp_path, "a.jpg")
    serve(answer(200, {}), problem(415, "not_an_image"))
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv") == 2
    assert [row.status for row in read_rows(tmp_path / "r.csv")] == ["refused"]


def test_the_tables_have_at_most_20_rows_and_say_where_the_rest_is(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(tmp_path, *(f"{number:03}.jpg" for number in range(90)))
    serve(by_name({f"{number:03}.jpg": job("failed", code="predict_failed") for number in range(30)}))
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv") == 1
    text = capsys.readouterr().out
    assert text.count(".jpg ") == 40
    assert "086.jpg" in text  # the sample reaches to the end of the folder
    assert "and 70 more, all in the results file" in text
    assert "and 10 more, all in the results file" in text


def test_json_is_all_that_is_printed(tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(tmp_path, "a.jpg", "b.jpg")
    serve(by_name({"b.jpg": job("failed", code="undecodable_image")}))
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv", "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["files"], summary["succeeded"], summary["failed"], summary["refused"]) == (2, 1, 1, 0)
    assert (summary["labels"], summary["errors"]) == ({"cat": 1}, {"undecodable_image": 1})
    assert summary["failures"][0]["file"] == "b.jpg"


def test_quiet_prints_nothing(tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(by_name({}))
    assert pawqueue("submit", write_pictures(tmp_path, "a.jpg"), "--out", tmp_path / "r.csv", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder_without_pictures_is_a_usage_error(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = serve(by_name({}))
    write_pictures(tmp_path, "notes.txt")
    assert pawqueue("submit", tmp_path, "--out", tmp_path / "r.csv") == 2
    assert "--all sends every file" in capsys.readouterr().err
    assert gateway.requests == []
    assert pawqueue("submit", tmp_path, "--out", tmp_path / "r.csv", "--all") == 0
    # The results of this and of an earlier run lie in the folder, and are none of its files.
    assert pawqueue("submit", tmp_path, "--out", tmp_path / "r.csv", "--all") == 0
    assert [row.file for row in read_rows(tmp_path / "r.csv")] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["submit", "nowhere", "--out", "r.csv"], "'nowhere' does not exist"),
        (["submit", "."], "Missing option '--out'"),
        (["submit", "a.jpg", "--out", "r.csv", "--concurrency", "0"], "--concurrency"),
        (["submit", "a.jpg", "--out", "r.csv", "--url", "localhost"], "'localhost' is no address"),
        (["submit", "a.jpg", "--out", "no/such/r.csv"], "no/such/r.csv.part: No such file or directory."),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(by_name({}))
    monkeypatch.chdir(write_pictures(tmp_path, "a.jpg"))
    assert pawqueue(*arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


def test_an_unreachable_gateway_is_exit_code_2_and_the_older_results_stay(
    tmp_path: Path, serve: Serve, fake_time: FakeTime, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(httpx.ConnectError("Connection refused"))
    (tmp_path / "r.csv").write_text("older")
    assert pawqueue("submit", write_pictures(tmp_path, "a.jpg"), "--out", tmp_path / "r.csv") == 2
    assert "is the gateway running" in capsys.readouterr().err
    assert sum(fake_time.pauses_s) <= 10
    assert (tmp_path / "r.csv").read_text() == "older"


def test_giving_up_keeps_what_was_received_and_says_how_much(
    tmp_path: Path, serve: Serve, fake_time: FakeTime, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    serve(answer(200, {}), answer(200, job("succeeded", label="cat")), httpx.ConnectError("refused"))
    limits = ["--concurrency", 1, "--give-up-after", 20]
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv", *limits) == 2
    assert [row.file for row in read_rows(tmp_path / "r.csv")] == ["a.jpg"]
    error = capsys.readouterr().err
    assert "Gave up: Nothing answers" in error
    assert f"1 of 3 files are in {tmp_path / 'r.csv'}." in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_received_and_is_exit_code_130(
    number: signal.Signals, tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pictures(tmp_path / "in", *(f"{number}.jpg" for number in range(9)))
    before = signal.getsignal(number)

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("file") == "3.jpg":
            os.kill(os.getpid(), number)
            time.sleep(0.5)  # the sender's thread; the main one is to end the run meanwhile
        return answer(200, job("succeeded", label="cat"))

    serve(respond)
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv", "--concurrency", 1) == 130
    kept = [row.file for row in read_rows(tmp_path / "r.csv")]
    assert kept == ["0.jpg", "1.jpg", "2.jpg"]
    error = capsys.readouterr().err
    assert "Interrupted: 3 of 9 files are in" in error
    assert "Traceback" not in error
    assert signal.getsignal(number) is before


def test_the_environment_gives_address_and_key(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = serve(by_name({}))
    monkeypatch.setenv("PAWQUEUE_URL", "http://elsewhere.test:81/")
    monkeypatch.setenv("PAWQUEUE_API_KEY", "secret")
    assert pawqueue("submit", write_pictures(tmp_path, "a.jpg"), "--out", tmp_path / "r.csv", "-q") == 0
    assert {str(request.url)[:31] for request in gateway.requests} == {
        "http://elsewhere.test:81/healthz"[:31],
        "http://elsewhere.test:81/v1/job",
    }
    assert {request.headers["authorization"] for request in gateway.requests} == {"Bearer secret"}


def test_status_shows_a_job_to_people_and_to_programs(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(answer(200, job("succeeded", label="cat")))
    assert pawqueue("status", JOB_ID) == 0
    text = capsys.readouterr().out
    for part in (JOB_ID, "succeeded", "cats-dogs@1.0", "########..  75.0 %", "3.0 ms decoding", "one of 4"):
        assert part in text
    assert pawqueue("status", JOB_ID, "--json") == 0
    assert json.loads(capsys.readouterr().out)["prediction"]["label"] == "cat"


def test_status_tells_by_its_exit_code_how_the_job_stands(serve: Serve, fake_time: FakeTime) -> None:
    serve(answer(200, job("running")))
    assert pawqueue("status", JOB_ID) == 0
    assert pawqueue("status", JOB_ID, "--wait", 2) == 1
    serve(answer(200, job("failed", code="undecodable_image")))
    assert pawqueue("status", JOB_ID) == 1
    serve(problem(404, "not_found"))
    assert pawqueue("status", "unknown") == 2


def test_status_waits_for_the_end(serve: Serve, fake_time: FakeTime, capsys: pytest.CaptureFixture[str]) -> None:
    serve(answer(200, job()), answer(200, job()), answer(200, job("succeeded", label="cat")))
    assert pawqueue("status", JOB_ID, "--wait", 30) == 0
    assert "succeeded" in capsys.readouterr().out


def test_cancel_tells_what_became_of_each_job(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = serve(answer(200, job("canceled")), answer(200, job("succeeded", label="cat")))
    assert pawqueue("cancel", JOB_ID, JOB_ID) == 1
    assert [request.method for request in gateway.requests] == ["DELETE"] * 2
    assert "canceled" in capsys.readouterr().out
    serve(answer(200, job("canceled")))
    assert pawqueue("cancel", JOB_ID, "--json") == 0


def test_the_dead_letter_list(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    gateway = serve(answer(200, {"jobs": [job("failed", code="worker_lost")]}))
    assert pawqueue("dead", "list") == 0
    assert JOB_ID in capsys.readouterr().out
    assert pawqueue("dead", "show", JOB_ID) == 0
    assert "worker_lost" in capsys.readouterr().out
    assert pawqueue("dead", "show", "other") == 2
    assert {request.method for request in gateway.requests} == {"GET"}
    serve(answer(200, {"jobs": []}))
    assert pawqueue("dead", "list") == 0
    assert "empty" in capsys.readouterr().out


def test_a_dead_job_is_retried_or_dropped(serve: Serve) -> None:
    gateway = serve(answer(202, job()))
    assert pawqueue("dead", "retry", JOB_ID) == 0
    assert pawqueue("dead", "drop", JOB_ID) == 0
    assert [(request.method, request.url.path) for request in gateway.requests] == [
        ("POST", f"/v1/dead/{JOB_ID}/retry"),
        ("DELETE", f"/v1/dead/{JOB_ID}"),
    ]
    serve(problem(404, "not_found"))
    assert pawqueue("dead", "drop", JOB_ID) == 2


@pytest.mark.parametrize("command", ["submit", "status", "cancel"])
def test_help_of_every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    added_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pawqueue("--help") == 0
    text = capsys.readouterr().out
    assert "models  " in text
    assert "broken  " in text
    assert "submit  " in text
    assert added_command not in sys.modules


def test_an_added_command_is_imported_when_called(added_command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pawqueue("models", "it") == 0
    assert capsys.readouterr().out == "got it\n"
    assert added_command in sys.modules


def test_a_command_whose_packages_are_missing_says_so(added_command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pawqueue("broken") == 2
    error = capsys.readouterr().err
    assert "needs a package that is not installed here (No module named 'no_such')" in error


def test_colour_is_left_out_where_it_is_not_wanted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(answer(200, job("succeeded", label="cat")))
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
