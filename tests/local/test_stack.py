"""Programs under a real supervisord are restarted when killed, and leave nothing running when the stack stops."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import LocalError, UsageError
from deploy.local.stack import Stack, claimed, running_stack
from deploy.local.watch import Watch
from tests.support.services import ROOT, wait_until

PROGRAMS = Path(__file__).with_name("programs.conf")
BROKEN = """
[program:broken]
command = sh -c 'echo no such model; exit 3'
stdout_logfile = logs/broken.log
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with claimed(tmp_path), running_stack(tmp_path, os.environ, 15, PROGRAMS) as stack:
        # A SIGTERM between a program's fork and its exec would be lost.
        wait_until(lambda: _names(stack) == {"sleep", "sh"}, "both programs to run", 15)
        wait_until(lambda: "started" in _log_of_second(stack), "the second program to handle SIGTERM", 15)
        yield stack


def _pids(stack: Stack) -> dict[str, int]:
    return {service.name: service.pid for service in stack.services() if service.pid}


def _names(stack: Stack) -> set[str]:
    return {psutil.Process(pid).name() for pid in _pids(stack).values()}


def _log_of_second(stack: Stack) -> str:
    log = stack.log_of("second")
    return log.read_text() if log.exists() else ""


def _supervisord(stack: Stack) -> psutil.Process:
    return psutil.Process(stack.supervisord_pid)


def test_the_state_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "redis").mkdir(mode=0o755)

    with claimed(tmp_path):
        assert {path.stat().st_mode & 0o077 for path in (tmp_path, *tmp_path.rglob("*"))} == {0}


def test_a_folder_that_all_users_share_is_rejected_and_not_changed(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    with pytest.raises(UsageError, match="PAWQUEUE_STATE_DIR to a folder of its own"), claimed(tmp_path):
        pass
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_killed_program_is_restarted(stack: Stack) -> None:
    before = _pids(stack)["first"]
    os.kill(before, signal.SIGKILL)

    wait_until(lambda: _pids(stack).get("first", before) != before, "the killed program to restart", 10)


def test_programs_stop_in_reverse_start_order_and_leave_nothing_running(stack: Stack) -> None:
    processes = [_supervisord(stack), *_supervisord(stack).children(recursive=True)]

    stack.stop()
    assert not [process for process in processes if _is_running(process)]
    assert "stopped" in _log_of_second(stack)
    log = stack.log_of("supervisord").read_text()
    assert log.index("stopped: second") < log.index("stopped: first")


def test_a_killed_supervisord_leaves_nothing_running(stack: Stack) -> None:
    programs = [psutil.Process(pid) for pid in _pids(stack).values()]
    supervisord = _supervisord(stack)
    supervisord.kill()
    wait_until(lambda: not _is_running(supervisord), "supervisord to exit", 5)

    with pytest.raises(LocalError, match="supervisord has exited"):
        stack.services()
    stack.stop()
    assert not [process for process in programs if _is_running(process)]


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_keeps_exiting_raises_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    config = tmp_path / "broken.conf"
    config.write_text(PROGRAMS.read_text() + BROKEN)

    with claimed(tmp_path), running_stack(tmp_path, os.environ, 15, config) as stack:
        watch = Watch(stack, starts_before_ready=1)  # only one, because each further start takes a second longer
        with pytest.raises(LocalError, match=r"broken keeps exiting(?s:.*)no such model"):
            _check_until_it_fails(watch)


def _check_until_it_fails(watch: Watch) -> None:
    while True:
        watch.check()
        time.sleep(0.05)


def test_programs_keep_running_when_their_logs_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    logs = [tmp_path / "logs" / f"{name}.log" for name in ("supervisord", "second")]
    for log in logs:
        log.symlink_to("/dev/full")

    with claimed(tmp_path), running_stack(tmp_path, os.environ, 15, PROGRAMS) as stack:
        wait_until(lambda: _pids(stack).keys() == {"first", "second"}, "both programs to run", 15)
        shell = psutil.Process(_pids(stack)["second"])
        wait_until(shell.children, "the second program to log its start", 15)
        for _ in range(2):
            _pids(stack)  # supervisord has read that output before it answers for the second time
        for log in logs:
            log.unlink()
        for pid in _pids(stack).values():
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: all(log.exists() and "were lost" in log.read_text() for log in logs), "both logs to be written", 15
        )
        wait_until(lambda: _pids(stack).keys() == {"first", "second"}, "both programs to run again", 15)


def test_an_invalid_configuration_raises_an_error_with_the_reason(tmp_path: Path) -> None:
    config = tmp_path / "broken.conf"
    config.write_text(PROGRAMS.read_text().replace("priority = 1", "priority = first"))

    with claimed(tmp_path), running_stack(tmp_path, os.environ, 15, config) as stack:
        watch = Watch(stack)
        with pytest.raises(LocalError, match="invalid literal for int"):
            _check_until_it_fails(watch)


def test_programs_stop_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, time\n"
        "from deploy.local.stack import claimed, running_stack\n"
        "from tests.local.test_stack import PROGRAMS\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with claimed(folder), running_stack(folder, os.environ, 15, PROGRAMS):\n"
        "    time.sleep(1000)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    wait_until(lambda: len(psutil.Process(starter.pid).children(recursive=True)) >= 3, "all programs to start", 15)
    processes = psutil.Process(starter.pid).children(recursive=True)
    starter.kill()
    starter.wait()

    wait_until(lambda: not [process for process in processes if _is_running(process)], "all programs to stop", 15)
    with claimed(tmp_path):
        pass
