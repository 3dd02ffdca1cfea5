"""Looking after a stack: a service started again is told, one that keeps dying ends it all."""

from pathlib import Path
from typing import cast

import pytest

from deploy.local import watch as watching
from deploy.local.errors import LocalError
from deploy.local.stack import Service, Stack
from deploy.local.stopping import Stop
from deploy.local.supervisor_config import Places
from deploy.local.watch import Watch, wait_until_ready


class FakeStack:
    """Services as the test says."""

    def __init__(self, logs: Path) -> None:
        self.places = Places(logs, logs, logs, logs)
        self.now: list[Service] = []

    def services(self) -> list[Service]:
        return self.now


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    (tmp_path / "worker-0.log").write_text("no such model\n")
    return FakeStack(tmp_path)


@pytest.fixture
def watch(stack: FakeStack) -> Watch:
    return Watch(cast("Stack", stack))


def _worker(started_s: int, *, given_up: bool = False) -> Service:
    return Service("worker-0", 4711, started_s, given_up)


def test_a_service_that_was_brought_back_is_told(
    watch: Watch, stack: FakeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    watch.ready = True
    for started_s in (10, 10, 11):
        stack.now = [_worker(started_s)]
        watch.look()

    assert capsys.readouterr().out.count("worker-0 had ended and was started again") == 1


def test_a_service_given_up_shows_the_end_of_its_log(watch: Watch, stack: FakeStack) -> None:
    stack.now = [_worker(0, given_up=True)]

    with pytest.raises(LocalError, match=r"worker-0 keeps ending(?s:.*)no such model"):
        watch.look()


def test_a_service_that_keeps_ending_before_it_is_ready_is_given_up(watch: Watch, stack: FakeStack) -> None:
    for started_s in (10, 11, 12):
        stack.now = [_worker(started_s)]
        watch.look()
    stack.now = [_worker(13)]

    with pytest.raises(LocalError, match="worker-0 keeps ending"):
        watch.look()


def test_a_service_killed_often_later_on_is_brought_back_each_time(watch: Watch, stack: FakeStack) -> None:
    watch.ready = True
    for started_s in range(10, 30):
        stack.now = [_worker(started_s)]
        watch.look()


def test_waiting_ends_when_it_is_time_to_stop(watch: Watch) -> None:
    stop = Stop()
    stop.tell()

    assert not wait_until_ready("http://127.0.0.1:9", watch, stop)


def test_waiting_does_not_last_for_ever(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_READY_S", 0)

    with pytest.raises(LocalError, match="No model was served"):
        wait_until_ready("http://127.0.0.1:9", watch, Stop())
