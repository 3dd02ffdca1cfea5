"""Room for request bodies: who gets it, who waits, and when it is free again."""

import io
import threading
from typing import Any

import pytest

from contract.errors import UnavailableError
from contract.web.bodies import BODY, CALLER, STEP_BYTES, Body, BodyBudget, handed_on, release, unpacks
from contract.web.limits import Refusal, Refusals, WebLimits


def budget_of(**limits: Any) -> BodyBudget:
    sizes = {"body_max_bytes": 20, "bodies_max_bytes": 100, "caller_max_bytes": 60}
    return BodyBudget(WebLimits(**sizes | {"spare_bytes": 20, "room_wait_s": 0.0} | limits), Refusals())


def body_of(budget: BodyBudget, data: bytes, length: int | None, max_bytes: int, **environ: str) -> dict[str, Any]:
    """The environ of a request with this body."""
    variables: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1", **environ}
    variables[BODY] = Body(io.BytesIO(data).read, length, variables, budget, max_bytes=max_bytes, begin=lambda: None)
    return variables


def test_bodies_that_begin_leave_room_for_one_that_grows() -> None:
    budget = budget_of()
    budget.reserve("a", 40)
    with pytest.raises(UnavailableError) as refused:
        budget.reserve("a", 1)
    assert refused.value.retry_after_s
    budget.reserve("a", 20, grows=True)
    budget.reserve("b", 20)
    with pytest.raises(UnavailableError):
        budget.reserve("c", 1)
    assert budget.used_bytes == 80


def test_waiting_bodies_get_room_in_order_unless_their_caller_has_too_much() -> None:
    budget = budget_of(room_wait_s=60, spare_bytes=0)
    budget.reserve("a", 60)
    budget.reserve("b", 40)
    granted: list[str] = []
    begun = threading.Semaphore(0)

    def wait(caller: str) -> None:
        begun.release()
        budget.reserve(caller, 30)
        granted.append(caller)

    waiting = threading.Thread(target=wait, args=("a",)), threading.Thread(target=wait, args=("c",))
    for thread in waiting:
        thread.start()
        begun.acquire()
    budget.release("b", 40)  # `a` still has its full share
    waiting[1].join(60)
    assert granted == ["c"]
    budget.release("a", 60)
    waiting[0].join(60)
    assert granted == ["c", "a"]
    assert budget.used_bytes == 60


def test_a_refused_body_is_counted() -> None:
    refusals = Refusals()
    budget = BodyBudget(WebLimits(20, 100, 60, room_wait_s=0), refusals)
    with pytest.raises(UnavailableError):
        budget.reserve("a", 61)
    assert refusals.counts[Refusal.BODY_NO_ROOM] == 1


def test_room_belongs_to_the_api_key_if_it_is_known() -> None:
    budget = budget_of(caller_max_bytes=10, spare_bytes=0)

    def read(**environ: str) -> int:
        return len(body_of(budget, bytes(10), 10, 20, **environ)[BODY].read(10))

    assert read() == 10
    with pytest.raises(UnavailableError):
        read()
    assert read(**{CALLER: "key"}) == 10
    assert read(REMOTE_ADDR="2001:db8::1") == 10
    with pytest.raises(UnavailableError):  # the same network
        read(REMOTE_ADDR="2001:db8::2")


def test_a_streamed_body_holds_a_step_until_it_keeps_more_than_that() -> None:
    budget = budget_of(bodies_max_bytes=100_000_000, caller_max_bytes=100_000_000)
    environ = body_of(budget, bytes(50), 50_000_000, 20_000_000)
    keep = unpacks(environ, 10_000_000)
    assert environ[BODY].read(10) == bytes(10)
    assert budget.used_bytes == STEP_BYTES
    keep(STEP_BYTES + 1)
    assert budget.used_bytes == 10_000_000
    handed_on(environ)
    assert budget.used_bytes == STEP_BYTES
    release(environ)
    assert budget.used_bytes == 0


def test_a_body_of_known_size_holds_that_until_it_is_stored() -> None:
    budget = budget_of()
    environ = body_of(budget, bytes(15), 15, 20)
    assert environ[BODY].read(5) == bytes(5)
    assert budget.used_bytes == 15
    assert environ[BODY].read(100) == bytes(10)
    release(environ)
    assert budget.used_bytes == 0


def test_a_request_without_a_body_holds_nothing() -> None:
    budget = budget_of(bodies_max_bytes=0, caller_max_bytes=0)
    assert body_of(budget, b"", 0, 20)[BODY].read(10) == b""
