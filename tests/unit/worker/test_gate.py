"""How many jobs a worker holds, and which jobs it processes alone."""

import threading

import pytest

from worker.pipeline.gate import ClosedError, Gate, SoloLock


def enter_in_thread(gate: Gate, count: int, rank: int) -> tuple[threading.Thread, list[str]]:
    result: list[str] = []

    def enter() -> None:
        try:
            gate.enter(count, rank)
        except ClosedError:
            result.append("rejected")
        else:
            result.append("entered")

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return thread, result


@pytest.mark.parametrize(("first", "second"), [(3, 2), (32, 1)], ids=["over capacity", "behind an oversized one"])
def test_a_message_waits_until_it_fits(first: int, second: int) -> None:
    gate = Gate(4)
    gate.enter(first, 0)
    thread, result = enter_in_thread(gate, second, 0)
    thread.join(0.05)
    assert not result
    gate.leave(first, 0)
    thread.join(10)
    assert result == ["entered"]


def test_bulk_jobs_never_block_interactive_jobs() -> None:
    gate = Gate(4)
    gate.enter(4, 1)
    gate.enter(4, 0)


def test_a_closed_gate_rejects_waiting_and_new_messages() -> None:
    gate = Gate(1)
    gate.enter(1, 0)
    thread, result = enter_in_thread(gate, 1, 0)
    gate.close()
    thread.join(10)
    assert result == ["rejected"]
    with pytest.raises(ClosedError):
        gate.enter(1, 1)


def test_a_thread_that_holds_the_lock_alone_excludes_all_others() -> None:
    lock, inside, seen_alone = SoloLock(), [0], set()
    counting = threading.Lock()

    def hold(*, alone: bool) -> None:
        with lock.alone() if alone else lock.shared():
            with counting:
                inside[0] += 10 if alone else 1
            threading.Event().wait(0.005)
            with counting:
                if alone:
                    seen_alone.add(inside[0])
                inside[0] -= 10 if alone else 1

    threads = [threading.Thread(target=hold, kwargs={"alone": number % 4 == 0}) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert seen_alone == {10}
