"""Log files are rotated, never raise, and report the lines that were lost."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from supervisor.loggers import Logger

from deploy.local.log_file import LogFile
from tests.support.small_disk import SmallDisk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 100) as disk:
        yield disk


def logger_of(log: Path, max_bytes: int = 0, backups: int = 1) -> Logger:
    """A logger as supervisord creates it for a program."""
    return Logger(handlers=[LogFile(str(log), "a", max_bytes, backups)])


def notices(log: Path) -> list[tuple[int, str]]:
    """Number of lost lines, and the reason, of each notice in a log."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [(line["lines"], line["error"]) for line in lines]


def test_output_is_appended_to_the_file(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("before\n")
    with closing(logger_of(log)) as logger:
        logger.info(b"one\ntw")
        logger.info(b"o\n")
        logger.info("%(word)s\n", word="three")
    assert log.read_text() == "before\none\ntwo\nthree\n"


def test_a_log_that_reaches_its_limit_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with closing(logger_of(log, max_bytes=10, backups=2)) as logger:
        for number in range(7):
            logger.info(b"line %d\n" % number)
    assert log.read_text() == "line 6\n"
    assert (tmp_path / "a.log.1").read_text() == "line 4\nline 5\n"
    assert (tmp_path / "a.log.2").read_text() == "line 2\nline 3\n"
    assert len(list(tmp_path.iterdir())) == 3


def test_lines_that_a_full_disk_loses_are_counted(disk: SmallDisk) -> None:
    log = disk.path / "a.log"
    with closing(logger_of(log)) as logger:
        logger.info(b"before\n")
        disk.fill()
        for number in range(1000):  # the first ones fit into the last block of the log
            logger.info(b"line %d\n" % number)
        disk.make_room()
        logger.info(b"after\n")
        logger.info(b"later\n")
    lines = log.read_text().splitlines()
    kept = [line for line in lines if line.startswith("line ") and line in {f"line {n}" for n in range(1000)}]
    assert lines[0] == "before"
    assert lines[-2:] == ["after", "later"]
    (notice,) = notices(log)
    assert notice[1] == "No space left on device"
    torn = len(lines) - len(kept) - 4  # a line of which only the beginning was written
    assert torn in (0, 1)
    assert len(kept) + notice[0] == 1000


def test_a_line_whose_beginning_was_lost_is_lost_as_a_whole(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.symlink_to("/dev/full")
    with closing(logger_of(log)) as logger:
        logger.info(b"one\ntw")
        log.unlink()
        logger.info(b"o\nthree\n")
    assert notices(log) == [(2, "No space left on device")]
    assert log.read_text().splitlines()[1:] == ["three"]


def test_a_full_disk_does_not_stop_the_rotation(disk: SmallDisk) -> None:
    log = disk.path / "a.log"
    with closing(logger_of(log, max_bytes=4000)) as logger:
        disk.fill(free_bytes=4096)
        for number in range(1500):
            logger.info(b"line %d\n" % number)
        disk.make_room()
        logger.info(b"after\n")
    assert log.read_text().endswith("after\n")
    assert sum(lines for lines, _ in notices(log)) > 0


def test_a_log_that_was_deleted_to_make_room_is_created_again(disk: SmallDisk) -> None:
    log = disk.path / "a.log"
    with closing(logger_of(log)) as logger:
        logger.info(bytes(50_000) + b"\n")
        disk.fill()
        logger.info(bytes(10_000) + b"\n")
        log.unlink()
        logger.info(b"after\n")
    assert log.read_text().endswith("after\n")


def test_a_folder_that_is_missing_at_first_loses_lines(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    with closing(logger_of(log)) as logger:
        logger.info(b"one\n")
        log.parent.mkdir()
        logger.info(b"two\n")
    assert notices(log) == [(1, "No such file or directory")]
