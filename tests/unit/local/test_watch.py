"""A restarted service is reported; a service that keeps exiting raises an error."""

import sys
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import cast

import pytest

from deploy.local.errors import LocalError
from deploy.local.stack import Service, Stack
from deploy.local.watch import Stop, Watch, wait_until_ready


class FakeStack:
    """A stack whose services are set by the test."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.now: list[Service] = []

    def services(self) -> list[Service]:
        return self.now

    def log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    (tmp_path / "worker-0.log").write_text("no such model\n")
    return FakeStack(tmp_path)


@pytest.fixture
def watch(stack: FakeStack) -> Watch:
    return Watch(cast("Stack", stack))


def _worker(started_s: int, *, given_up: bool = False) -> Service:
    return Service("worker-0", 4711, started_s, given_up)


def test_a_restart_is_reported_once(watch: Watch, stack: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    watch.ready = True
    for started_s in (10, 10, 11):
        stack.now = [_worker(started_s)]
        watch.check()

    assert capsys.readouterr().out.count("worker-0 exited and was restarted") == 1


def test_output_that_cannot_be_written_is_not_an_error(
    watch: Watch, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.ready = True
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(FileIO("/dev/full", "w"), write_through=True))
    for started_s in (10, 11):
        stack.now = [_worker(started_s)]
        watch.check()


def test_the_error_for_a_service_that_supervisord_gave_up_on_contains_the_end_of_its_log(
    watch: Watch, stack: FakeStack
) -> None:
    stack.now = [_worker(0, given_up=True)]

    with pytest.raises(LocalError, match=r"worker-0 keeps exiting(?s:.*)no such model"):
        watch.check()


def test_a_service_that_keeps_exiting_before_the_stack_is_ready_raises_an_error(watch: Watch, stack: FakeStack) -> None:
    for started_s in (10, 11, 12):
        stack.now = [_worker(started_s)]
        watch.check()
    stack.now = [_worker(13)]

    with pytest.raises(LocalError, match="worker-0 keeps exiting"):
        watch.check()


def test_a_service_may_restart_often_once_the_stack_is_ready(watch: Watch, stack: FakeStack) -> None:
    watch.ready = True
    for started_s in range(10, 30):
        stack.now = [_worker(started_s)]
        watch.check()


def test_waiting_ends_when_a_stop_is_requested(watch: Watch) -> None:
    stop = Stop()
    stop.set()

    assert not wait_until_ready(lambda: False, watch, stop)


def test_waiting_times_out(watch: Watch) -> None:
    with pytest.raises(LocalError, match="were not ready after 0 s"):
        wait_until_ready(lambda: False, watch, Stop(), limit_s=0)


def test_a_ready_stack_is_reported(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    assert wait_until_ready(lambda: True, watch, Stop())
    assert watch.ready
    assert "Services started" in capsys.readouterr().out
