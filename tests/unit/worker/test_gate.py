"""How many jobs a worker holds at once."""

import threading

import pytest

from worker.gate import ClosedError, Gate


def enter_in_thread(gate: Gate, count: int, rank: int) -> tuple[threading.Thread, list[str]]:
    result: list[str] = []

    def enter() -> None:
        try:
            gate.enter(count, rank)
        except ClosedError:
            result.append("turned away")
        else:
            result.append("in")

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return thread, result


@pytest.mark.parametrize(("first", "second"), [(3, 2), (32, 1)], ids=["no room", "larger than all the room"])
def test_it_lets_in_only_what_leaves_room_and_a_large_message_alone(first: int, second: int) -> None:
    gate = Gate(4)
    gate.enter(first, 0)
    thread, result = enter_in_thread(gate, second, 0)
    thread.join(0.05)
    assert not result
    gate.leave(first, 0)
    thread.join(10)
    assert result == ["in"]


def test_bulk_in_hand_never_keeps_interactive_out() -> None:
    gate = Gate(4)
    gate.enter(4, 1)
    gate.enter(4, 0)


def test_closing_turns_away_who_waits_and_who_comes() -> None:
    gate = Gate(1)
    gate.enter(1, 0)
    thread, result = enter_in_thread(gate, 1, 0)
    gate.close()
    thread.join(10)
    assert result == ["turned away"]
    with pytest.raises(ClosedError):
        gate.enter(1, 1)
