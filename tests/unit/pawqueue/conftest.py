"""Time that passes when somebody sleeps, so that tests of pauses take none."""

import threading

import pytest

from pawqueue import deadline


class FakeTime:
    """The clock of `pawqueue.deadline`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pauses_s: list[float] = []

    def sleep(self, _wake: threading.Event, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(deadline, "_now_s", lambda: clock.now_s)
    monkeypatch.setattr(deadline, "_sleep", clock.sleep)
    return clock
