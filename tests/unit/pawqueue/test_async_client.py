"""`AsyncPawqueue`: what it adds to `Pawqueue`. `test_client.py` runs with both."""

import asyncio
import contextvars
import inspect
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from pawqueue import AsyncPawqueue, Pawqueue, TimedOutError
from tests.support.images import draw
from tests.unit.pawqueue.service import URL, Service, write_images

IMAGE = draw((8, 8))
Result = TypeVar("Result")


def public_methods(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    ours, theirs = public_methods(AsyncPawqueue), public_methods(Pawqueue)
    assert ours.keys() == theirs.keys()
    for name, method in theirs.items():
        assert inspect.signature(ours[name]).parameters == inspect.signature(method).parameters, name
        assert ours[name].__doc__, name
    assert inspect.signature(AsyncPawqueue).parameters.keys() == inspect.signature(Pawqueue).parameters.keys()


def run_alone(call: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a thread without an event loop; Playwright leaves one in the thread of the tests."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, call).result()


def test_every_method_is_a_coroutine_or_an_asynchronous_generator() -> None:
    for name, method in public_methods(AsyncPawqueue).items():
        yields = name in ("submit_folder", "submit_files", "results", "reviewed", "follow")
        assert inspect.isasyncgenfunction(method) if yields else inspect.iscoroutinefunction(method), name


def test_hundreds_of_calls_wait_at_the_same_time_in_one_thread(service: Service, url: str) -> None:
    async def predict_all() -> list[str]:
        async with AsyncPawqueue(url, timeout_s=60) as client:
            jobs = await asyncio.gather(*(client.predict(IMAGE, name=f"{number}.png") for number in range(60)))
            return [job.file for job in jobs]

    assert run_alone(predict_all()) == [f"{number}.png" for number in range(60)]


def test_calls_one_after_another_use_the_same_connection() -> None:
    async def run() -> int:
        ports = set()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ports.add(writer.get_extra_info("peername")[1])
            while await reader.readline():
                while (await reader.readline()).strip():
                    pass
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"models": []}')

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with AsyncPawqueue(f"http://127.0.0.1:{port}") as client:
            for _ in range(5):
                assert await client.models() == []
            in_turns = len(ports)
            await asyncio.gather(*(client.models() for _ in range(5)))
        server.close()
        return in_turns

    assert run_alone(run()) == 1


def test_the_event_loop_runs_while_a_call_waits(service: Service, url: str) -> None:
    service.held = {"a.png"}

    async def run() -> None:
        async with AsyncPawqueue(url) as client:
            job = await client.submit(IMAGE, name="a.png")
            waiting = asyncio.create_task(client.wait(job))
            for _ in range(5):
                assert (await client.get(job.id)).status == "queued"
            assert not waiting.done()
            service.held = set()
            assert (await waiting).status == "succeeded"

    run_alone(run())


def test_a_job_is_followed_by_its_id_while_the_event_loop_runs(service: Service, url: str) -> None:
    service.held = {"a.png"}

    async def run() -> list[str]:
        async with AsyncPawqueue(url) as client:
            job = await client.submit(IMAGE, name="a.png")
            async with aclosing(client.follow(job.id)) as states:
                seen = [str((await anext(states)).status)]
                assert (await client.get(job.id)).status == "queued"
                service.held = set()
                return seen + [str(state.status) async for state in states]

    seen = run_alone(run())
    assert (seen[0], seen[-1]) == ("queued", "succeeded")


def test_a_canceled_call_ends_at_once_and_the_client_can_still_be_used(service: Service, url: str) -> None:
    service.held = {"a.png"}

    async def run() -> float:
        async with AsyncPawqueue(url) as client:
            waiting = asyncio.create_task(client.predict(IMAGE, name="a.png"))
            while not service.requests:
                await asyncio.sleep(0.01)
            started = time.monotonic()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            took_s = time.monotonic() - started
            assert (await client.predict(IMAGE)).status == "succeeded"
            return took_s

    assert run_alone(run()) < 10  # the request would wait for 20 s


def test_a_pause_between_retries_does_not_block_the_event_loop() -> None:
    async def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def run() -> int:
        turns = 0
        async with AsyncPawqueue(URL, transport=httpx.MockTransport(unreachable), timeout_s=0.5) as client:
            call = asyncio.create_task(client.get("0192f3a4-5b6c-7d8e-9f01-23456789abcd"))
            while not call.done():
                await asyncio.sleep(0.001)
                turns += 1
            with pytest.raises(Exception, match="refused"):
                await call
        return turns

    assert run_alone(run()) > 20


def test_results_that_are_not_read_to_the_end_are_closed(service: Service, url: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path, *(f"{number}.png" for number in range(9)))

    async def run() -> tuple[int, str]:
        async with AsyncPawqueue(url) as client:
            rows = [row async for row in client.submit_folder(folder)]
            (submission,) = await client.submissions()
            async with aclosing(client.results(submission)) as results:
                return len(rows), (await anext(results)).status

    assert run_alone(run()) == (9, "succeeded")


def test_a_run_over_a_folder_leaves_the_event_loop_free(service: Service, url: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path, "a.png", "b.png")
    service.held = {"b.png"}

    async def run() -> list[str]:
        async with AsyncPawqueue(url) as client:
            rows = client.submit_folder(folder)
            first = await anext(rows)
            second = asyncio.create_task(anext(rows))
            assert (await client.service_status()).workers == 1
            service.held = set()
            found = [first.file, (await second).file]
            await rows.aclose()
            return [Path(file).name for file in found]

    assert run_alone(run()) == ["a.png", "b.png"]


def test_the_deadline_ends_a_wait(service: Service, url: str) -> None:
    service.held = {"a.png"}

    async def run() -> None:
        async with AsyncPawqueue(url) as client:
            job = await client.submit(IMAGE, name="a.png")
            with pytest.raises(TimedOutError) as caught:
                await client.wait(job, timeout_s=0.3)
            assert caught.value.job == await client.get(job.id)

    run_alone(run())


def test_context_variables_of_the_caller_are_visible_to_the_call() -> None:
    variable = contextvars.ContextVar[str]("variable")
    seen: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(variable.get("missing"))
        return httpx.Response(200, json={"models": []})

    async def run() -> None:
        variable.set("set")
        async with AsyncPawqueue(URL, transport=httpx.MockTransport(note)) as client:
            await client.models()
        assert variable.get() == "set"

    run_alone(run())
    assert seen == ["set"]
