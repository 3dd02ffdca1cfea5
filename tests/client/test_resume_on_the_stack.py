"""`pawqueue submit --resume` after SIGKILL on the real service: one result per file, no image classified twice."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pawqueue import Pawqueue
from pawqueue.bulk.results import read_rows
from tests.support.images import draw
from tests.support.services import ROOT, Stack, wait_until


def make_images(folder: Path, number: int) -> Path:
    for index in range(number):
        subfolder = folder / f"{index // 100:02}"
        subfolder.mkdir(parents=True, exist_ok=True)
        (subfolder / f"{index:05}.png").write_bytes(draw((24, 24), (index % 256, index // 256, 90)))
    return folder


def finished(stack: Stack) -> int:
    """The number of jobs that have finished since the service started."""
    with Pawqueue(stack.url) as client:
        return client.service_status().ended.total()


@contextmanager
def submitting(stack: Stack, folder: Path, out: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [
        sys.executable,
        "-m",
        "pawqueue",
        "submit",
        folder,
        "--out",
        out,
        "--quiet",
        "--url",
        stack.url,
        *options,
    ]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "kills"),
    [(400, (40, 120)), pytest.param(5000, (200, 1500, 3000), marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_a_killed_run_resumes_and_classifies_no_image_twice(
    number: int, kills: tuple[int, ...], stack: Stack, tmp_path: Path
) -> None:
    folder, out = make_images(tmp_path / "images", number), tmp_path / "results.csv"
    before = finished(stack)
    for killed_after in kills:
        with submitting(stack, folder, out, "--resume") as process:
            wait_until(
                lambda killed_after=killed_after: finished(stack) - before >= killed_after,
                f"{killed_after} results",
                300,
            )
            assert process.poll() is None, "the run finished before it could be killed"
            process.kill()
        assert not out.exists()
    with submitting(stack, folder, out, "--resume") as process:
        assert process.wait(600) == 0
    rows = list(read_rows(out))
    assert [row.file for row in rows] == sorted({row.file for row in rows})
    assert len(rows) == len({row.job_id for row in rows}) == number
    assert finished(stack) - before == number
    with Pawqueue(stack.url) as client:
        submission = client.submissions(1)[0]
        assert submission.counts.total == submission.counts.succeeded == number
