"""`pawqueue feedback` and `pawqueue models report`, against the gateway in this process."""

import json
from pathlib import Path

import pytest

from contract.ledger.models import VersionInfo
from contract.ledger.shadows import Compared
from pawqueue import Pawqueue
from tests.support.images import draw
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def job_ids(service: Service, url: str) -> list[str]:
    """Finished jobs with the label `cat`."""
    with Pawqueue(url) as client:
        jobs = [client.predict(draw()) for _ in range(3)]
    model = jobs[0].result and jobs[0].result.model
    assert model
    service.ledger.models.register(model.name, model.version, VersionInfo(["cat", "dog"], 8, 8), "w", default=True)
    return [job.id for job in jobs]


def test_labels_of_a_file_are_reported(
    job_ids: list[str], tmp_path: Path, pawqueue: Command, capsys: Capture, service: Service
) -> None:
    file = tmp_path / "checked.csv"
    lines = [f"{job_ids[0]},cat", f"{job_ids[1]},cat", f"{job_ids[1]},dog", f"{job_ids[2]},"]
    file.write_text("\n".join(["job_id,right_label", *lines]))
    assert pawqueue("feedback", file) == 0
    assert capsys.readouterr().out == "Recorded 2 labels; 1 predictions were right.\n"
    assert pawqueue("models", "report", service.ledger.models.default()) == 0
    report = capsys.readouterr().out
    assert "50.0 %" in report
    assert "(live)" in report


def test_labels_can_be_the_names_of_folders(
    job_ids: list[str], tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    file = tmp_path / "results.csv"
    file.write_text(f"file,job_id\nphotos/cat/1.jpg,{job_ids[0]}\ndog/2.jpg,{job_ids[1]}\n3.jpg,{job_ids[2]}\n")
    assert pawqueue("feedback", file, "--label-from-folder") == 0
    assert capsys.readouterr().out == "Recorded 2 labels; 1 predictions were right.\n"
    assert pawqueue("feedback", file) == 2


def test_the_command_for_a_file_can_be_named(job_ids: list[str], tmp_path: Path, pawqueue: Command) -> None:
    file = tmp_path / "checked.csv"
    file.write_text(f"job_id,right_label\n{job_ids[0]},cat\n")
    assert pawqueue("feedback", "send", file) == pawqueue("feedback", "--json", file) == 0


def test_rejected_labels_are_listed(job_ids: list[str], tmp_path: Path, pawqueue: Command, capsys: Capture) -> None:
    file = tmp_path / "checked.csv"
    file.write_text(f"job_id,right_label\n{job_ids[0]},rabbit\n{job_ids[1]},cat\n")
    assert pawqueue("feedback", file) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("Recorded 1 labels")
    assert "line 2: 'rabbit' is not a label of" in printed.err


def test_a_file_of_predicted_labels_is_not_taken_for_right_ones(
    job_ids: list[str], tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    file = tmp_path / "results.csv"
    file.write_text(f"job_id,label\n{job_ids[0]},cat\n")
    assert pawqueue("feedback", file) == 2
    assert "no column right_label" in capsys.readouterr().err


def test_the_report_shows_how_often_a_shadow_agrees(
    job_ids: list[str], tmp_path: Path, pawqueue: Command, capsys: Capture, service: Service
) -> None:
    model = service.ledger.models.default()
    rows = [
        Compared(job_id, model, "1", "2", "cat", label, 0.9, 0.6, label == "cat")
        for job_id, label in zip(job_ids, ("cat", "cat", "dog"), strict=True)
    ]
    assert service.ledger.shadows.record(rows) == [True] * 3
    file = tmp_path / "checked.csv"
    file.write_text(f"job_id,right_label\n{job_ids[2]},dog\n")
    assert pawqueue("feedback", file) == 0
    assert pawqueue("models", "report", model, "--json") == 0
    report = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert report["shadows"][0]["feedback"]["only_shadow"] == 1
    assert pawqueue("models", "report", model) == 0
    printed = capsys.readouterr().out
    assert "Shadow 2 and version 1 agree on 2 of 3 images (95 % interval 20.8 to 93.9 %)." in printed
    assert "With a right label: 1; 1 was right on 0, 2 on 1 (McNemar p = 1.000)." in printed
    for shown in (job_ids[2], "cat 90 %", "dog 60 %"):
        assert shown in printed


def test_the_report_compares_the_versions(
    job_ids: list[str], pawqueue: Command, capsys: Capture, service: Service
) -> None:
    name = service.ledger.models.default()
    assert pawqueue("models", "report", name, "--json") == 0
    (version,) = json.loads(capsys.readouterr().out)["versions"]
    assert (version["jobs"], version["errors"]["count"], version["labels"]) == (len(job_ids), 0, {"cat": 3})
    assert version["accuracy"]["accuracy"] is None
    assert pawqueue("models", "report", name) == 0
    assert "cat 100 %" in " ".join(capsys.readouterr().out.split())


def test_a_model_without_jobs_has_no_report(
    job_ids: list[str], pawqueue: Command, capsys: Capture, service: Service
) -> None:
    service.ledger.models.register("birds", "1", VersionInfo(["owl", "wren"], 8, 8), "w")
    assert pawqueue("models", "report", "birds") == 0
    assert capsys.readouterr().out == "No version of birds processed a job in the last 30 days.\n"
