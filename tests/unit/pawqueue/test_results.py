"""The CSV file: its columns, what survives in it, and when it appears."""

import csv
from pathlib import Path

import pytest

from contract.job import Job
from pawqueue.results import COLUMNS, ResultsFile, Row, read_rows, row_of, row_of_line
from pawqueue.text import shown
from tests.unit.pawqueue.fakes import JOB_ID, job

ODD_NAMES = [
    "plain.jpg",
    "=1+1.jpg",
    "+a.jpg",
    "-a.jpg",
    "@a.jpg",
    "'quoted.jpg",
    "''=two.jpg",
    "\ttab.jpg",
    "\rreturn.jpg",
    "two\nlines.jpg",
    "carriage\rreturn.jpg",
    'quote".jpg',
    "comma,semi;.jpg",
    "Kätzchen 猫 🐈.jpg",
    "caf\\udce9.jpg",
    " space .jpg",
]


def test_the_columns_are_those_promised() -> None:
    assert ",".join(COLUMNS) == "file,label,confidence,status,error_code,error,job_id,latency_ms,model"


def test_a_prediction_and_an_error_become_rows() -> None:
    good = row_of("a.jpg", Job.from_dict(job("succeeded", label="cat")))
    assert good == Row("a.jpg", "cat", 0.75, "succeeded", "", "", JOB_ID, 250, "cats-dogs@1.0")
    bad = row_of("b.jpg", Job.from_dict(job("failed", code="undecodable_image")))
    assert bad == Row("b.jpg", "", None, "failed", "undecodable_image", "It is undecodable_image.", JOB_ID, 250, "")


def test_a_refusal_is_the_same_row_whoever_tells_of_it() -> None:
    error = {"code": "not_an_image", "detail": "Send JPEG."}
    times = {"created_at": "2026-01-01T00:00:01.000Z", "finished_at": "2026-01-01T00:00:01.250Z"}
    line = {"custom_id": "a.jpg", "job_id": JOB_ID, "status": "failed", "error": error, **times}
    assert row_of_line(line) == Row("a.jpg", status="refused", error_code="not_an_image", error="Send JPEG.")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    rows = [Row(name, "cat", 0.123456789, "succeeded", job_id=JOB_ID, latency_ms=5), Row(name, error=name)]
    with ResultsFile(tmp_path / "r.csv") as out:
        for row in rows:
            out.add(row)
    back = list(read_rows(tmp_path / "r.csv"))
    assert [(row.file, row.error, row.latency_ms) for row in back] == [(name, "", 5), (name, name, None)]
    assert back[0].confidence == 0.123457


@pytest.mark.parametrize("name", ODD_NAMES)
def test_no_cell_begins_as_a_formula(name: str, tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "r.csv") as out:
        out.add(Row(name, label=name, error=name))
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))[1]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)


def test_lines_end_as_unix_tools_expect(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "r.csv") as out:
        out.add(Row("a.jpg", model="m@1"))
    assert (tmp_path / "r.csv").read_bytes().endswith(b",m@1\n")
    assert b"\r" not in (tmp_path / "r.csv").read_bytes()


def test_a_file_is_whole_before_it_is_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("an older run")
    with ResultsFile(path) as out:
        out.add(Row("a.jpg"))
        assert path.read_text() == "an older run"
    assert [row.file for row in read_rows(path)] == ["a.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_fails_keeps_its_rows_and_one_without_any_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"

    def interrupted_run(*rows: Row) -> None:
        with ResultsFile(path) as out:
            for row in rows:
                out.add(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run(Row("a.jpg"))
    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert [row.file for row in read_rows(path)] == ["a.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_terminal_gets_no_control_characters() -> None:
    assert shown("a\x1b[31m\nb\x7f猫") == "a\\x1b[31m\\nb\\x7f猫"
