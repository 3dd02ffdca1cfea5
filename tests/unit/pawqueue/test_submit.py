"""`pawqueue submit`: output, results files, and exit codes."""

import io
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from pawqueue.bulk.results import read_rows
from tests.support.services import free_port
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service, failed, predicted, write_images

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("url")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "r.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")


def names(out: Path) -> list[str]:
    return [row.file for row in read_rows(out)]


def test_a_run_writes_a_results_file_and_prints_a_table_and_a_summary(
    tmp_path: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "a.jpg", "sub/c.jpg", "sub/b.jpg")
    service.results = dict.fromkeys(("sub/b.jpg", "sub/c.jpg"), predicted("dog"))
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


def test_failures_are_listed_and_the_exit_code_is_1(
    tmp_path: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "a.jpg", "[red]b.jpg")
    service.results = {"[red]b.jpg": failed("undecodable_image")}
    assert pawqueue("submit", folder, "--out", out) == 1
    text = capsys.readouterr().out
    assert "1 without a prediction: 1 undecodable_image" in text
    assert "undecodable_image: The image is broken." in text
    assert text.count("[red]b.jpg") == 2


def test_the_exit_code_is_2_without_any_prediction(
    folder: Path, service: Service, out: Path, pawqueue: Command
) -> None:
    for path in folder.iterdir():
        path.write_text("text")
    assert pawqueue("submit", folder, "--out", out) == 2
    assert {row.status for row in read_rows(out)} == {"refused"}


def test_the_table_shows_which_images_have_warnings(
    folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out) == 0
    assert "warnings" not in capsys.readouterr().out
    service.results = {"b.jpg": replace(predicted(), warnings=("unfamiliar_image",))}
    assert pawqueue("submit", folder, "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("│")[1].strip() for line in lines if "unfamiliar_image │" in line] == ["b.jpg"]


def test_the_tables_have_at_most_20_rows(
    tmp_path: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", *(f"{number:03}.jpg" for number in range(90)))
    service.results = {f"{number:03}.jpg": failed("predict_failed") for number in range(30)}
    assert pawqueue("submit", folder, "--out", out) == 1
    text = capsys.readouterr().out
    assert text.count(".jpg ") == 40
    assert "086.jpg" in text  # the sample includes the end of the folder
    assert "and 70 more, all in the results file" in text
    assert "and 10 more, all in the results file" in text


def test_json_prints_only_the_report(
    folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    service.results = {"b.jpg": failed("undecodable_image")}
    assert pawqueue("submit", folder, "--out", out, "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["files"], summary["succeeded"], summary["failed"], summary["refused"]) == (3, 2, 1, 0)
    assert (summary["labels"], summary["errors"]) == ({"cat": 2}, {"undecodable_image": 1})
    assert summary["failures"][0]["file"] == "b.jpg"
    assert service.client().submission(summary["submission"]).ended == 3


def test_quiet_prints_nothing(folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("submit", folder, "--out", out, "-q") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [["--out", "r.ndjson"], ["--out", "r.csv", "--format", "ndjson"]])
def test_results_can_be_written_as_ndjson(
    options: list[str], folder: Path, service: Service, pawqueue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert pawqueue("submit", folder, *options) == 0
    rows = [json.loads(line) for line in Path(options[1]).read_text().splitlines()]
    assert next((row["file"], row["label"], row["confidence"]) for row in rows) == ("a.jpg", "cat", 0.75)
    assert len(rows) == 3


def test_a_folder_without_images_is_a_usage_error(
    tmp_path: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    write_images(tmp_path, "notes.txt")
    assert pawqueue("submit", tmp_path, "--out", out) == 2
    assert "Use --all to send every file" in capsys.readouterr().err
    assert service.requests == []
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]
    assert pawqueue("submit", tmp_path, "--out", out, "--all") == 0
    # The results of the first run are now in the folder, but are not sent.
    assert pawqueue("submit", tmp_path, "--out", out, "--all") == 0
    assert names(out) == ["notes.txt"]


def test_patterns_files_and_folders_can_be_mixed(
    folder: Path, service: Service, out: Path, pawqueue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    write_images(folder.parent, "more/x/d.png", "more/e.png", "more/f.jpg")
    assert pawqueue("submit", "more/**/*.png", "in/b.jpg", "in", "--out", out) == 0
    assert names(out) == ["more/e.png", "more/x/d.png", "in/b.jpg", "in/a.jpg", "in/c.jpg"]


@pytest.mark.parametrize(("options", "separator"), [([], b"\n"), (["-0"], b"\0")])
def test_a_list_of_files_can_be_read_from_standard_input(
    options: list[str],
    separator: bytes,
    folder: Path,
    service: Service,
    out: Path,
    pawqueue: Command,
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


def test_predictions_are_compared_with_folder_names(
    tmp_path: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "cats/1.jpg", "cats/2.jpg", "Dog/day 1/3.jpg", "misc/4.jpg", "dogs/5.jpg")
    service.results = {
        "Dog/day 1/3.jpg": predicted("dog"),
        "cats/2.jpg": predicted("dog", 0.99),
        "dogs/5.jpg": failed("undecodable_image"),
    }
    assert pawqueue("submit", folder, "--out", out, "--label-from-folder") == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "Accuracy 66.7 % (2 of 3 correct;" in text
    assert "1 without a prediction, not counted." in text
    assert "1 in folders that are not named after a label, not counted." in text
    assert "cats/2.jpg │ cat │ dog │ 99.0 %" in text
    assert pawqueue("submit", folder, "--out", out, "--label-from-folder", "--json") == 1
    truth = json.loads(capsys.readouterr().out)["truth"]
    assert (truth["labels"], truth["confusion_matrix"]) == (["cat", "dog"], [[1, 1], [0, 1]])
    assert truth["by_label"]["dog"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "pictures": 1}


def test_without_label_folders_there_is_no_accuracy(
    folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out, "--label-from-folder") == 0
    assert "no image with a prediction is in a folder named after a label (cat, dog)" in capsys.readouterr().out


def test_older_results_are_kept_if_the_gateway_is_unreachable(
    folder: Path, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    out.write_text("older")
    url = f"http://127.0.0.1:{free_port()}"
    assert pawqueue("submit", folder, "--out", out, "--url", url, "--give-up-after", 0.3) == 2
    assert "Check that the gateway is running" in capsys.readouterr().err
    assert out.read_text() == "older"
    assert sorted(path.name for path in out.parent.iterdir()) == ["in", "r.csv"]


@pytest.fixture
def given_up(folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture) -> str:
    """A run that gave up with one of three results; returns what it printed."""
    service.held = {"b.jpg", "c.jpg"}
    service.stop_worker()
    assert pawqueue("submit", folder, "--out", out, "--give-up-after", 1) == 2
    service.held = set()
    service.start_worker()
    return " ".join(capsys.readouterr().err.split())


def test_giving_up_keeps_the_results_and_explains_how_to_resume(
    given_up: str, folder: Path, service: Service, out: Path, pawqueue: Command
) -> None:
    assert names(out) == ["a.jpg"]
    # The time may also run out during a request.
    assert re.search(
        "Gave up: (Images were accepted, but no result arrived for 1 s|.* did not respond in time)", given_up
    )
    assert f"1 of 3 results are in {out}. To resume, run the same command with --resume." in given_up
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert names(out) == service.sent_names() == ["a.jpg", "b.jpg", "c.jpg"]
    assert not list(out.parent.glob("*.run"))


def test_a_new_run_discards_an_interrupted_one_and_reports_it(
    given_up: str, folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out) == 0
    assert "Discarded the interrupted run" in capsys.readouterr().err
    assert len(service.sent()) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_results_and_exits_with_130(
    number: signal.Signals, folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    before = signal.getsignal(number)
    service.held = {"b.jpg"}
    interrupts = iter([number])

    def interrupt(_name: str) -> None:
        if signal_number := next(interrupts, None):
            os.kill(os.getpid(), signal_number)

    service.on_job = interrupt
    assert pawqueue("submit", folder, "--out", out) == 130
    error = capsys.readouterr().err
    assert error.startswith("Interrupted. ")
    assert "results are in" in error or "No results were received" in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert signal.getsignal(number) is before
    service.on_job = lambda _name: None
    service.held = set()
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert names(out) == service.sent_names() == ["a.jpg", "b.jpg", "c.jpg"]


def test_resume_starts_a_new_run_and_does_nothing_after_a_complete_one(
    folder: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert len(service.sent()) == 3
    capsys.readouterr()
    assert pawqueue("submit", folder, "--out", out, "--resume") == 0
    assert "Nothing to resume" in capsys.readouterr().err
    assert len(service.sent()) == 3


def test_the_api_key_is_read_from_the_environment_or_the_command_line(
    folder: Path, service: Service, out: Path, pawqueue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAWQUEUE_API_KEY", "secret")
    assert pawqueue("submit", folder, "--out", out, "-q") == 0
    assert {request.headers["authorization"] for request in service.requests} == {"Bearer secret"}
    assert pawqueue("submit", folder, "--out", out, "-q", "--api-key", "other") == 0
    assert service.requests[-1].headers["authorization"] == "Bearer other"


def test_the_report_lists_the_skipped_files(
    tmp_path: Path, service: Service, out: Path, pawqueue: Command, capsys: Capture
) -> None:
    folder = write_images(tmp_path / "in", "ok.jpg", "x.jp2", "notes.txt", "more.txt", ".DS_Store")
    (folder / "r.csv").write_text("a results file of this command is not counted")
    assert pawqueue("submit", folder, "--out", folder / "r.csv") == 0
    text = capsys.readouterr().out
    assert "1 file: 1 succeeded" in text
    assert "3 files skipped: 2 .txt, 1 .jp2. Use --all to send every file." in text
    assert pawqueue("submit", folder, "--out", folder / "r.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {".txt": 2, ".jp2": 1}
    (folder / "ok.jpg").unlink()
    assert pawqueue("submit", folder, "--out", out) == 2
    assert "4 files skipped: 2 .txt, 1 .csv, 1 .jp2" in capsys.readouterr().err
