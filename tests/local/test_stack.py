"""Programs under a real supervisord: brought back when killed, all gone in the end, however that comes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local import watch as watching
from deploy.local.claim import claimed
from deploy.local.errors import LocalError
from deploy.local.stack import Stack, running_stack
from deploy.local.supervisor_config import Program
from deploy.local.watch import Watch
from tests.support.services import ROOT, wait_until

_AT_END = "trap 'echo ended; exit 0' TERM"
#: Two stand-ins; the second leaves a word about when it was stopped.
PROGRAMS = [
    Program("first", ("sleep", "1000"), stage=1, stop_s=5),
    Program("second", ("sh", "-c", f"{_AT_END}; echo started; while :; do sleep 0.05; done"), stage=2, stop_s=5),
]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with claimed(tmp_path), running_stack(PROGRAMS, tmp_path, os.environ) as stack:
        # A program that is stopped between its fork and its exec does not notice, and has to be killed later.
        wait_until(lambda: _names(stack) == {"sleep", "sh"}, "Both programs running", 15)
        wait_until(lambda: "started" in _words(stack), "The second program being prepared for its end", 15)
        yield stack


def _pids(stack: Stack) -> dict[str, int]:
    return {service.name: service.pid for service in stack.services() if service.pid}


def _names(stack: Stack) -> set[str]:
    return {psutil.Process(pid).name() for pid in _pids(stack).values()}


def _words(stack: Stack) -> str:
    """What the second program has said."""
    log = stack.places.log_of("second")
    return log.read_text() if log.exists() else ""


def _supervisord(stack: Stack) -> psutil.Process:
    return psutil.Process(int((stack.places.run / "supervisord.pid").read_text()))


def test_a_killed_program_comes_back(stack: Stack) -> None:
    before = _pids(stack)["first"]
    os.kill(before, signal.SIGKILL)

    wait_until(lambda: _pids(stack).get("first", before) != before, "The killed program coming back", 10)


def test_stopping_leaves_nothing_running_and_ends_last_what_was_started_first(stack: Stack) -> None:
    processes = [_supervisord(stack), *_supervisord(stack).children(recursive=True)]

    stack.stop()
    assert not [process for process in processes if _lives(process)]
    assert "ended" in _words(stack)
    log = stack.places.log_of("supervisord").read_text()
    assert log.index("stopped: second") < log.index("stopped: first")


def test_a_killed_supervisor_leaves_nothing_running_either(stack: Stack) -> None:
    programs = [psutil.Process(pid) for pid in _pids(stack).values()]
    supervisord = _supervisord(stack)
    supervisord.kill()
    wait_until(lambda: not _lives(supervisord), "The supervisor being gone", 5)

    with pytest.raises(LocalError, match="supervisor has ended by itself"):
        stack.services()
    stack.stop()
    assert not [process for process in programs if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_ends_again_and_again_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_STARTS_BEFORE_READY", 1)  # each further start takes a second longer
    programs = [Program("broken", ("sh", "-c", "echo no such model; exit 3"), stage=1, stop_s=1)]

    with claimed(tmp_path), running_stack(programs, tmp_path, os.environ) as stack:
        watch = Watch(stack)
        with pytest.raises(LocalError, match=r"broken keeps ending(?s:.*)no such model"):
            _look_for_ever(watch)


def _look_for_ever(watch: Watch) -> None:
    while True:
        watch.look()
        time.sleep(0.05)


def test_programs_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, time\n"
        "from deploy.local.claim import claimed\n"
        "from deploy.local.stack import running_stack\n"
        "from tests.local.test_stack import PROGRAMS\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with claimed(folder), running_stack(PROGRAMS, folder, os.environ):\n"
        "    time.sleep(1000)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    wait_until(lambda: len(psutil.Process(starter.pid).children(recursive=True)) >= 3, "All running", 15)
    processes = psutil.Process(starter.pid).children(recursive=True)
    starter.kill()
    starter.wait()

    wait_until(lambda: not [process for process in processes if _lives(process)], "Everything ending", 15)
    with claimed(tmp_path):
        pass
