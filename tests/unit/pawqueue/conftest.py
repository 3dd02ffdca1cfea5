"""Time that passes when somebody sleeps, and the command with a gateway in the place of the network."""

import threading
from collections.abc import Callable

import httpx
import pytest

from pawqueue import cli, database, deadline
from tests.support.services import wait_until

Pawqueue = Callable[..., int]


_MOMENT_S = 0.002


class FakeTime:
    """The clock of `pawqueue.deadline`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pauses_s: list[float] = []
        #: Time stands still until this holds: what other threads do first is not overtaken.
        self.may_pass: Callable[[], bool] = lambda: True

    def sleep(self, wake: threading.Event, seconds: float) -> None:
        wait_until(self.may_pass, "What time waits for")
        wake.wait(_MOMENT_S)  # else time could run out before another thread has had its turn
        self.pauses_s.append(seconds)
        self.now_s += seconds


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests cut no power."""
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pauses, a twentieth as long: the gateway of these tests answers at once."""
    monkeypatch.setattr(deadline, "_sleep", lambda wake, seconds: wake.wait(seconds / 20))


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(deadline, "_now_s", lambda: clock.now_s)
    monkeypatch.setattr(deadline, "_sleep", clock.sleep)
    return clock


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.BaseTransport], None]:
    """Put a gateway in the place of the network."""

    def serve(gateway: httpx.BaseTransport) -> None:
        monkeypatch.setattr("pawqueue.wire._transports", lambda _url: lambda: gateway)

    return serve


@pytest.fixture
def pawqueue() -> Pawqueue:
    """The command; its exit code."""

    def call(*arguments: object) -> int:
        words = [str(argument) for argument in arguments]
        return cli.run(lambda: cli.cli.main(words, "pawqueue", standalone_mode=False))

    return call
