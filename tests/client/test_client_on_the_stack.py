"""The Python client and the `pawqueue` command, with a real gateway, queue, worker and model."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pawqueue import JobFailedError, JobStatus, Pawqueue, RefusedError
from pawqueue.bulk.results import read_rows
from tests.support.images import draw
from tests.support.services import ROOT, Stack


def command(stack: Stack, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pawqueue", *(str(argument) for argument in arguments), "--url", stack.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Valid images, some with unusual names, a truncated one, a text file, and one over the size limit."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for number in range(20):
        (images / f"{number:02}.png").write_bytes(draw((200, 150), (number * 10, 90, 30)))
    for name in ("=1+1.png", "two\nlines.png", "sub/Kätzchen 猫.jpg"):
        (images / name).write_bytes(draw(form="JPEG" if name.endswith("jpg") else "PNG"))
    (images / "cut.png").write_bytes(draw((500, 500), (9, 9, 9))[:300])
    (images / "text.jpg").write_text("not an image")
    with (images / "huge.tiff").open("wb") as huge:
        huge.truncate(25_000_000)
    return images


def test_every_file_of_a_folder_gets_a_row(stack: Stack, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    done = command(stack, "submit", folder, "--out", out, "--json")
    assert done.returncode == 1, done.stderr
    rows = {row.file: row for row in read_rows(out)}
    assert len(rows) == 26
    failed = {row.file: (row.status, row.error_code) for row in rows.values() if not row.succeeded}
    assert failed == {
        "cut.png": ("failed", "undecodable_image"),
        "text.jpg": ("refused", "not_an_image"),
        "huge.tiff": ("refused", "upload_too_large"),
    }
    assert {"=1+1.png", "two\nlines.png", "sub/Kätzchen 猫.jpg"} <= set(rows)
    assert all(0 < (row.confidence or 0) <= 1 and row.job_id and row.model for row in rows.values() if row.succeeded)
    assert json.loads(done.stdout)["succeeded"] == 23


def test_status_shows_a_job_of_a_run(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(draw())
    assert command(stack, "submit", tmp_path / "a.png", "--out", tmp_path / "r.csv").returncode == 0
    (row,) = read_rows(tmp_path / "r.csv")
    shown = command(stack, "status", row.job_id)
    assert shown.returncode == 0, shown.stderr
    assert row.label in shown.stdout


def test_the_client_predicts_and_distinguishes_rejected_images_from_failed_jobs(stack: Stack) -> None:
    with Pawqueue(stack.url) as client:
        job = client.predict(draw(), name="drawn.png")
        assert job.file == "drawn.png"
        assert job.result
        assert job.result.prediction
        assert client.wait(client.submit(draw(), queue="bulk")).status is JobStatus.SUCCEEDED
        assert client.get(job.id) == job
        with pytest.raises(RefusedError, match="not_an_image"):
            client.predict(b"not an image")
        with pytest.raises(JobFailedError, match=r"truncated|corrupt|decode"):
            client.predict(draw((500, 500), (9, 9, 9))[:300])


def test_a_submission_can_be_watched_and_fetched(stack: Stack, folder: Path, tmp_path: Path) -> None:
    with Pawqueue(stack.url) as client:
        rows = {row.file: row for row in client.submit_folder(folder, name="by the client")}
        submission = client.submissions(1)[0]
        assert (submission.name, submission.status, submission.counts.total) == ("by the client", "finished", 26)
        assert submission.counts.rejected + submission.counts.failed == 3
        listed = {row.file: (row.status, row.label, row.error_code) for row in client.results(submission)}
    # The submission lists `two\nlines.png` under a different name, because it contains a control character.
    plain = {name: (row.status, row.label, row.error_code) for name, row in rows.items() if name in listed}
    assert len(plain) == 25
    assert plain == {name: listed[name] for name in plain}
    watched = command(stack, "watch", submission.id)
    assert watched.stdout.startswith("finished: 26 of 26 finished (23 succeeded, 1 failed, 2 rejected)"), watched
    fetched = command(stack, "fetch", submission.id, "--out", tmp_path / "fetched.csv")
    assert fetched.returncode == 0, fetched.stderr
    assert sum(row.succeeded for row in read_rows(tmp_path / "fetched.csv")) == 23


def test_the_command_cancels_a_submission(stack: Stack, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.png").write_bytes(draw((40, 30), (number % 256, 90, 30)))
    with Pawqueue(stack.url) as client, closing(client.submit_folder(tmp_path)) as rows:
        next(rows)
        submission = client.submissions(1)[0]
        canceled = command(stack, "cancel", submission.id, "--json")
        assert json.loads(canceled.stdout)[0]["status"] in ("canceled", "finished"), canceled.stderr
        assert client.submission(submission.id).counts.pending == 0
