"""`pawqueue submit` as people and scripts meet it: what it prints, what it leaves, its exit codes."""

import io
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from pawqueue.results import read_rows
from tests.unit.pawqueue.conftest import FakeTime, Pawqueue
from tests.unit.pawqueue.fake_submissions import FakeSubmissions, failed, predicted
from tests.unit.pawqueue.fakes import write_images

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def gateway(serving: Callable[[httpx.BaseTransport], None]) -> FakeSubmissions:
    gateway = FakeSubmissions()
    serving(gateway)
    return gateway


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "r.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")


def names(out: Path) -> list[str]:
    return [row.file for row in read_rows(out)]


def test_a_folder_becomes_a_file_a_table_and_a_summary(
    tmp_path: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "a.jpg", "sub/c.jpg", "sub/b.jpg")
    gateway.results = dict.fromkeys(("sub/b.jpg", "sub/c.jpg"), predicted("dog"))
    assert pawqueue("submit", folder, "--out", out) == 0
    assert [(row.file, row.label) for row in read_rows(out)] == [
        ("a.jpg", "cat"),
        ("sub/b.jpg", "dog"),
        ("sub/c.jpg", "dog"),
    ]
    text = capsys.readouterr().out
    assert "sub/b.jpg" in text
    assert "########..  75.0 %" in text
    assert "3 files: 3 succeeded" in text
    assert "Labels: 2 dog, 1 cat." in text
    assert "without a prediction" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "r.csv"]


def test_some_failures_are_a_table_and_exit_code_1(
    tmp_path: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "a.jpg", "[red]b.jpg")
    gateway.results = {"[red]b.jpg": failed("undecodable_image")}
    assert pawqueue("submit", folder, "--out", out) == 1
    text = capsys.readouterr().out
    assert "1 without a prediction: 1 undecodable_image" in text
    assert "undecodable_image: It is undecodable_image." in text
    assert text.count("[red]b.jpg") == 2


def test_no_prediction_at_all_is_exit_code_2(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue
) -> None:
    gateway.rejects = dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), "not_an_image")
    assert pawqueue("submit", folder, "--out", out) == 2
    assert {row.status for row in read_rows(out)} == {"refused"}


def test_the_tables_have_at_most_20_rows_and_say_where_the_rest_is(
    tmp_path: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", *(f"{number:03}.jpg" for number in range(90)))
    gateway.results = {f"{number:03}.jpg": failed("predict_failed") for number in range(30)}
    assert pawqueue("submit", folder, "--out", out) == 1
    text = capsys.readouterr().out
    assert text.count(".jpg ") == 40
    assert "086.jpg" in text  # the sample reaches to the end of the folder
    assert "and 70 more, all in the results file" in text
    assert "and 10 more, all in the results file" in text


def test_json_is_all_that_is_printed(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    gateway.results = {"b.jpg": failed("undecodable_image")}
    assert pawqueue("submit", folder, "--out", out, "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["files"], summary["succeeded"], summary["failed"], summary["refused"]) == (3, 2, 1, 0)
    assert (summary["labels"], summary["errors"]) == ({"cat": 2}, {"undecodable_image": 1})
    assert summary["failures"][0]["file"] == "b.jpg"
    assert summary["submission"] in gateway.submissions


def test_quiet_prints_nothing(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out, "-q") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [["--out", "r.ndjson"], ["--out", "r.csv", "--format", "ndjson"]])
def test_results_may_be_ndjson(
    options: list[str], folder: Path, gateway: FakeSubmissions, pawqueue: Pawqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert pawqueue("submit", folder, *options) == 0
    rows = [json.loads(line) for line in Path(options[1]).read_text().splitlines()]
    assert next((row["file"], row["label"], row["confidence"]) for row in rows) == ("a.jpg", "cat", 0.75)
    assert len(rows) == 3


def test_a_folder_without_images_is_a_usage_error(
    tmp_path: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    write_images(tmp_path, "notes.txt")
    assert pawqueue("submit", tmp_path, "--out", out) == 2
    assert "--all sends every file" in capsys.readouterr().err
    assert gateway.requests == []
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]
    assert pawqueue("submit", tmp_path, "--out", out, "--all") == 0
    # The results of this and of an earlier run lie in the folder, and are none of its files.
    assert pawqueue("submit", tmp_path, "--out", out, "--all") == 0
    assert names(out) == ["notes.txt"]


def test_patterns_files_and_folders_may_be_mixed_and_name_a_file_once(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    write_images(folder.parent, "more/x/d.png", "more/e.png", "more/f.jpg")
    assert pawqueue("submit", "more/**/*.png", "in/b.jpg", "in", "--out", out) == 0
    assert names(out) == ["more/e.png", "more/x/d.png", "in/b.jpg", "in/a.jpg", "in/c.jpg"]


@pytest.mark.parametrize(("options", "separator"), [([], b"\n"), (["-0"], b"\0")])
def test_a_list_may_come_on_standard_input(
    options: list[str],
    separator: bytes,
    folder: Path,
    gateway: FakeSubmissions,
    out: Path,
    pawqueue: Pawqueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = separator.join([b"in/c.jpg", b"in/gone.jpg", b"", b"in/a.jpg"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    monkeypatch.chdir(folder.parent)
    assert pawqueue("submit", "-", *options, "--out", out) == 1
    assert [(row.file, row.status) for row in read_rows(out)] == [
        ("in/c.jpg", "succeeded"),
        ("in/gone.jpg", "unreadable"),
        ("in/a.jpg", "succeeded"),
    ]


def test_labels_are_compared_with_the_folders(
    tmp_path: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "cats/1.jpg", "cats/2.jpg", "Dog/day 1/3.jpg", "misc/4.jpg", "dogs/5.jpg")
    gateway.results = {
        "Dog/day 1/3.jpg": predicted("dog"),
        "cats/2.jpg": predicted("dog", 0.99),
        "dogs/5.jpg": failed("undecodable_image"),
    }
    assert pawqueue("submit", folder, "--out", out, "--label-from-folder") == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "Accuracy 66.7 % (2 of 3 right;" in text
    assert "1 with a known truth have no prediction" in text
    assert "1 are in no folder named after a label" in text
    assert "cats/2.jpg │ cat │ dog │ 99.0 %" in text
    assert pawqueue("submit", folder, "--out", out, "--label-from-folder", "--json") == 1
    truth = json.loads(capsys.readouterr().out)["truth"]
    assert (truth["labels"], truth["confusion_matrix"]) == (["cat", "dog"], [[1, 1], [0, 1]])
    assert truth["by_label"]["dog"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "pictures": 1}


def test_folders_that_tell_no_truth_are_said_to(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out, "--label-from-folder") == 0
    assert "no image with a prediction lies in a folder named after a label (cat, dog)" in capsys.readouterr().out


def test_an_unreachable_gateway_is_exit_code_2_and_the_older_results_stay(
    folder: Path,
    out: Path,
    serving: Callable[[httpx.BaseTransport], None],
    fake_time: FakeTime,
    pawqueue: Pawqueue,
    capsys: Capture,
) -> None:
    gateway = FakeSubmissions()
    gateway.before_answer = _refuse_connection
    serving(gateway)
    out.write_text("older")
    assert pawqueue("submit", folder, "--out", out) == 2
    assert "is the gateway running" in capsys.readouterr().err
    assert sum(fake_time.pauses_s) <= 10
    assert out.read_text() == "older"
    assert sorted(path.name for path in out.parent.iterdir()) == ["in", "r.csv"]


def _refuse_connection(_request: httpx.Request) -> None:
    raise httpx.ConnectError("Connection refused")


def give_up_after_one(
    folder: Path, gateway: FakeSubmissions, out: Path, fake_time: FakeTime, pawqueue: Pawqueue
) -> None:
    gateway.held, gateway.model_loaded = {"b.jpg", "c.jpg"}, False
    fake_time.may_pass = lambda: len(gateway.sent) == 3
    assert pawqueue("submit", folder, "--out", out, "--give-up-after", 20) == 2


def test_giving_up_keeps_what_was_received_and_says_how_to_go_on(
    folder: Path, gateway: FakeSubmissions, out: Path, fake_time: FakeTime, pawqueue: Pawqueue, capsys: Capture
) -> None:
    give_up_after_one(folder, gateway, out, fake_time, pawqueue)
    assert names(out) == ["a.jpg"]
    error = " ".join(capsys.readouterr().err.split())
    assert "Gave up: The gateway took images, but for 20 s no answer came" in error
    assert f"1 of 3 files are in {out}. The same command with --resume goes on." in error
    gateway.held = set()
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert names(out) == ["a.jpg", "b.jpg", "c.jpg"]
    assert sorted(gateway.sent) == ["a.jpg", "b.jpg", "c.jpg"]
    assert not list(out.parent.glob("*.run"))


def test_a_run_that_is_not_gone_on_with_is_given_up_aloud(
    folder: Path, gateway: FakeSubmissions, out: Path, fake_time: FakeTime, pawqueue: Pawqueue, capsys: Capture
) -> None:
    give_up_after_one(folder, gateway, out, fake_time, pawqueue)
    gateway.held, fake_time.may_pass = set(), lambda: True
    capsys.readouterr()
    assert pawqueue("submit", folder, "--out", out) == 0
    assert "all is sent anew; --resume goes on" in capsys.readouterr().err
    assert len(gateway.sent) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_received_and_is_exit_code_130(
    number: signal.Signals, folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    before = signal.getsignal(number)
    gateway.held = {"b.jpg"}
    looks: list[str] = []

    def interrupt(request: httpx.Request) -> None:
        looks.append(request.url.path)
        if request.url.path.endswith("/close"):
            assert threading.current_thread() is threading.main_thread()
            os.kill(os.getpid(), number)

    gateway.before_answer = interrupt
    assert pawqueue("submit", folder, "--out", out) == 130
    error = capsys.readouterr().err
    assert "files are in" in error or "Nothing was received" in error
    assert "--resume goes on" in error
    assert "Traceback" not in error
    assert signal.getsignal(number) is before
    gateway.held = set()
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert names(out) == ["a.jpg", "b.jpg", "c.jpg"]
    assert sorted(gateway.sent) == ["a.jpg", "b.jpg", "c.jpg"]


def test_what_is_complete_is_not_resumed_and_what_never_began_is_begun(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert len(gateway.sent) == 3
    capsys.readouterr()
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert "Nothing to resume" in capsys.readouterr().err
    assert len(gateway.sent) == 3


def test_the_environment_gives_address_and_key(
    folder: Path, gateway: FakeSubmissions, out: Path, pawqueue: Pawqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAWQUEUE_URL", "http://elsewhere.test:81/")
    monkeypatch.setenv("PAWQUEUE_API_KEY", "secret")
    assert pawqueue("submit", folder, "--out", out, "-q") == 0
    assert {f"{request.url.host}:{request.url.port}" for request in gateway.requests} == {"elsewhere.test:81"}
    assert {request.headers["authorization"] for request in gateway.requests} == {"Bearer secret"}
    assert pawqueue("submit", folder, "--out", out, "-q", "--api-key", "other") == 0
    assert gateway.requests[-1].headers["authorization"] == "Bearer other"
