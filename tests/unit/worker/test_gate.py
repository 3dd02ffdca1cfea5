"""How many jobs a worker holds."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from contract.queues import BULK, INTERACTIVE
from worker.pipeline.gate import ClosedError, Gate


def gate_with(jobs: int) -> Gate:
    gate = Gate(4)
    gate.enter(Counter({BULK: jobs}))
    return gate


def leave(gate: Gate, jobs: int) -> None:
    gate.leave(Counter({BULK: jobs}))


def test_jobs_of_one_queue_take_no_room_from_another() -> None:
    gate = gate_with(3)
    assert (gate.room(INTERACTIVE), gate.room(BULK)) == (4, 1)
    leave(gate, 2)
    assert gate.room(BULK) == 3


def test_a_gate_is_empty_when_all_jobs_have_left() -> None:
    assert Gate(4).is_empty()
    gate = gate_with(2)
    leave(gate, 1)
    assert not gate.is_empty()
    leave(gate, 1)
    assert gate.is_empty()
    gate.wait_empty()


def test_a_pause_ends_when_the_last_job_leaves() -> None:
    gate, ended = gate_with(2), threading.Event()
    thread = threading.Thread(target=lambda: (gate.pause(600), ended.set()), daemon=True)
    thread.start()
    leave(gate, 1)
    assert not ended.wait(0.05)
    leave(gate, 1)
    assert ended.wait(20)


def test_a_pause_without_jobs_takes_its_time() -> None:
    gate, paused = Gate(4), threading.Event()
    threading.Thread(target=lambda: (gate.pause(600), paused.set()), daemon=True).start()
    assert not paused.wait(0.05)


@pytest.mark.parametrize("wait", [Gate.wait_empty, lambda gate: gate.pause(600)], ids=["wait_empty", "pause"])
def test_a_closed_gate_ends_all_waits(wait: Callable[[Gate], None]) -> None:
    gate, closed = gate_with(1), threading.Event()

    def work() -> None:
        try:
            wait(gate)
        except ClosedError:
            closed.set()

    threading.Thread(target=work, daemon=True).start()
    assert not closed.wait(0.05)
    gate.close()
    assert closed.wait(20)
    with pytest.raises(ClosedError):
        gate.check()
