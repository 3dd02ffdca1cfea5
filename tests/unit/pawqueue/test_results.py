"""Results files: columns, round trip, safe cells, and when the file appears."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from contract.job import Job, JobError, JobResult, JobStatus
from contract.result_row import CSV_COLUMNS
from contract.result_row import ResultRow as Row
from pawqueue.bulk.results import ResultsFile, read_rows
from pawqueue.cli.display import escaped
from pawqueue.client.submissions import ResultLine
from tests.unit.pawqueue.service import predicted

JOB_ID = "019abc12-3456-7890-abcd-ef0123456789"

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
    "x;=1+1;.jpg",
    "\uff1d1+1.jpg",
    "Kätzchen 猫 🐈.jpg",
    "caf\\udce9.jpg",
    " space .jpg",
]


def line(status: JobStatus, result: JobResult) -> ResultLine:
    return ResultLine(1, None, Job(JOB_ID, "bulk", 1000, status, "a.jpg", finished_ms=1250, result=result))


def test_the_columns_match_the_documentation() -> None:
    columns = "file,label,confidence,status,error_code,error,job_id,latency_ms,model,warnings,familiarity"
    assert ",".join(CSV_COLUMNS) == columns


def test_a_prediction_and_an_error_become_rows() -> None:
    good = line(JobStatus.SUCCEEDED, predicted("cat", 0.75)).row
    assert good == Row("a.jpg", "cat", 0.75, "succeeded", "", "", JOB_ID, 250, "cats-dogs@1.0")
    bad = line(JobStatus.FAILED, JobResult(error=JobError("undecodable_image", "It is truncated."))).row
    assert bad == Row("a.jpg", "", None, "failed", "undecodable_image", "It is truncated.", JOB_ID, 250, "")


def test_the_familiarity_of_a_prediction_is_in_its_row_and_read_back(tmp_path: Path) -> None:
    known = predicted("cat", 0.75)
    assert known.prediction
    rows = [
        line(JobStatus.SUCCEEDED, replace(known, prediction=replace(known.prediction, familiarity=familiarity))).row
        for familiarity in (0.25, 0.0, None)
    ]
    with ResultsFile(tmp_path / "r.csv") as file:
        for row in rows:
            file.add(row)
    assert [found.familiarity for found in read_rows(tmp_path / "r.csv")] == [0.25, 0.0, None]


def test_the_warnings_of_a_prediction_are_in_its_row_and_read_back(tmp_path: Path) -> None:
    codes = ("sample_range_assumed", "color_profile_ignored")
    row = line(JobStatus.SUCCEEDED, replace(predicted("cat", 0.75), warnings=codes)).row
    with ResultsFile(tmp_path / "r.csv") as out:
        out.add(row)
    assert [found.warnings for found in read_rows(tmp_path / "r.csv")] == [" ".join(codes)] == [row.warnings]


def test_a_results_file_without_the_last_column_is_read(tmp_path: Path) -> None:
    header = "file,label,confidence,status,error_code,error,job_id,latency_ms,model"
    (tmp_path / "r.csv").write_text(f"{header}\na.jpg,,,failed,,,,,\n")
    assert list(read_rows(tmp_path / "r.csv")) == [Row("a.jpg", status="failed")]


def test_a_rejected_image_has_no_job_id_or_latency() -> None:
    refused = line(JobStatus.FAILED, JobResult(error=JobError("not_an_image", "Send JPEG."))).row
    assert refused == Row("a.jpg", status="refused", error_code="not_an_image", error="Send JPEG.")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_rows_are_read_back_unchanged(name: str, tmp_path: Path) -> None:
    rows = [Row(name, "cat", 0.123456789, "succeeded", job_id=JOB_ID, latency_ms=5), Row(name, error=name)]
    with ResultsFile(tmp_path / "r.csv") as out:
        for row in rows:
            out.add(row)
    read = list(read_rows(tmp_path / "r.csv"))
    assert [(row.file, row.error, row.latency_ms) for row in read] == [(name, "", 5), (name, name, None)]
    assert read[0].confidence == 0.123457


@pytest.mark.parametrize("name", ODD_NAMES)
def test_no_cell_starts_like_a_formula(name: str, tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "r.csv") as out:
        out.add(Row(name, label=name, error=name))
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))[1]
    parts = [part for cell in cells for part in cell.split(";")]
    assert not any(part.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d")) for part in parts)


def test_lines_end_with_a_newline_only(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "r.csv") as out:
        out.add(Row("a.jpg", model="m@1"))
    assert (tmp_path / "r.csv").read_bytes().endswith(b",m@1,,\n")
    assert b"\r" not in (tmp_path / "r.csv").read_bytes()


def test_a_results_file_replaces_an_older_one_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("an older run")
    with ResultsFile(path) as out:
        out.add(Row("a.jpg"))
        assert path.read_text() == "an older run"
    assert [row.file for row in read_rows(path)] == ["a.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_run_keeps_its_rows_or_the_older_file_if_it_has_none(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"

    def interrupted_run(*rows: Row) -> None:
        with ResultsFile(path) as out:
            for row in rows:
                out.add(row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run(Row("a.jpg"))
    with pytest.raises(KeyboardInterrupt):
        interrupted_run()  # without rows
    assert [row.file for row in read_rows(path)] == ["a.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_control_characters_are_escaped_for_the_terminal() -> None:
    assert escaped("a\x1b[31m\nb\x7f猫") == "a\\x1b[31m\\nb\\x7f猫"
