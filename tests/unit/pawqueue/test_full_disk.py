"""A full disk stops `pawqueue submit` and `fetch` with a one-line error, and no result is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.result_row import ResultRow
from pawqueue.bulk.results import ResultsFile, read_rows
from tests.support.small_disk import SmallDisk, small_disk
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service, write_images

Capture = pytest.CaptureFixture[str]
FILES = [f"{number:03}.jpg" for number in range(150)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 400) as disk:
        yield disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "in", *FILES)


@pytest.mark.usefixtures("url")
def test_a_run_on_a_full_disk_sends_nothing(
    disk: SmallDisk, folder: Path, service: Service, pawqueue: Command, capsys: Capture
) -> None:
    disk.fill()
    assert pawqueue("submit", folder, "--out", disk.path / "r.csv", "--quiet") == 2
    assert capsys.readouterr().err == f"Error: The disk of {disk.path / 'r.csv.run'} is full. Free some space.\n"
    assert not service.sent()

    disk.make_room()
    assert pawqueue("submit", folder, "--out", disk.path / "r.csv", "--quiet") == 0
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("free_bytes", [0, 32_768])
def test_a_run_that_fills_the_disk_is_resumed_without_resending_images(
    disk: SmallDisk, folder: Path, service: Service, pawqueue: Command, capsys: Capture, free_bytes: int
) -> None:
    out = disk.path / "r.csv"
    out.write_text("an older run")
    service.held = set(FILES[100:])

    def fill(name: str) -> None:
        if name == FILES[99]:
            disk.fill(free_bytes)
            service.held = set()

    service.on_job = fill
    assert pawqueue("submit", folder, "--out", out, "--quiet") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "with --resume" in error
    assert "Free some space" in error

    disk.make_room()
    assert pawqueue("submit", folder, "--out", out, "--quiet", "--resume") == 0
    assert [row.file for row in read_rows(out)] == FILES
    assert service.sent_names() == FILES
    assert [path.name for path in disk.path.iterdir()] == ["r.csv"]


def test_a_results_file_that_cannot_be_written_keeps_the_older_one(disk: SmallDisk) -> None:
    out = disk.path / "r.csv"
    out.write_text("an older run")
    disk.fill()

    def write(rows: int) -> None:
        with ResultsFile(out) as file:
            for _ in range(rows):
                file.add(ResultRow("a.jpg"))

    for rows in (1, 100_000):  # one row fits into the buffer
        with pytest.raises(OSError, match="No space left"):
            write(rows)
        assert out.read_text() == "an older run"
        assert not (disk.path / "r.csv.part").exists()


@pytest.mark.usefixtures("url")
def test_results_that_cannot_be_stored_are_an_error_in_one_sentence(
    disk: SmallDisk, folder: Path, tmp_path: Path, service: Service, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv", "--json", "--quiet") == 0
    (submission_id,) = {request.path.split("/")[3] for request in service.requests if request.path.endswith("/close")}
    capsys.readouterr()
    disk.fill()
    assert pawqueue("fetch", submission_id, "--out", disk.path / "r.csv") == 2
    error = capsys.readouterr().err
    assert error == "Error: The disk of the output is full. Free some space, then run the command again.\n"
